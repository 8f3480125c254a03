"""Counts what a network costs, and how far it sees, from the graph in its file; nothing is run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchbox_unet.runtimes import native_messages_hidden, start_keras

from benchbox_adapters.runtimes import keras_config, read_onnx

SIDE = 256
"""Height and width for which shapes are computed, where the file leaves them open; divisible by any usual multiple."""
_WHOLE = math.inf


@dataclass(frozen=True)
class Op:
    """One operation on a tensor."""

    sources: tuple[str, ...]
    """Names of the tensors that it reads, without weights."""
    target: str
    height: int | None
    """Height of the result, if it is a stack of images."""
    reach: float = 0.0
    """How many more pixels of its input than one an output pixel depends on; infinite for all."""
    macs: float = 0.0
    values: float = 0.0
    """Values that a layer with weights writes."""


@dataclass(frozen=True)
class Cost:
    """What a network is, and costs for each pixel of its image."""

    parameters: int
    macs_per_pixel: float = 0.0
    activations_per_pixel: float = 0.0
    receptive_field: int = 0
    """0 if it is unknown, or the whole image."""


def cost_of(parameters: int, ops: Iterable[Op], image: str, size: tuple[int, int]) -> Cost:
    """Sum up operations in their order; `image` is the input that has `size`."""
    # Of each tensor: side of the square that one of its pixels sees, and the distance of its pixels, in image pixels.
    seen: dict[str, tuple[float, float]] = {image: (1.0, 1.0)}
    macs = values = 0.0
    last = image
    for op in ops:
        macs, values = macs + op.macs, values + op.values
        known = [seen[source] for source in op.sources if source in seen]
        if not known:
            continue
        field = max(field + op.reach * step for field, step in known)
        step = max(step for _, step in known)
        if op.height:
            now = size[0] / op.height
            field += max(0.0, now - step) if op.reach == 0 else 0.0  # pixels that move into channels
            step = now
        seen[op.target] = field, step
        last = op.target
    field = seen[last][0]
    pixels = size[0] * size[1]
    return Cost(parameters, macs / pixels, values / pixels, 0 if math.isinf(field) else round(field))


def onnx_cost(path: Path) -> Cost:
    """Cost of an ONNX model; raises `BenchboxError` if it is damaged."""
    import onnx

    model = read_onnx(path)
    graph = model.graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    parameters = sum(math.prod(dims) for dims in weights.values())
    inputs = [value for value in graph.input if value.name not in weights]
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        for place, side in enumerate(dims):
            if side.dim_value <= 0:
                side.dim_value = 1 if place == 0 or len(dims) != 4 else SIDE
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:
        return Cost(parameters)
    shapes = {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.output, *inferred.input)
    }
    image = next((value.name for value in inputs if len(shapes.get(value.name, ())) == 4), "")
    if not image:
        return Cost(parameters)
    ops = [_onnx_op(node, shapes, weights) for node in graph.node]
    return cost_of(parameters, ops, image, (shapes[image][2], shapes[image][3]))


def _onnx_op(node: Any, shapes: Mapping[str, Sequence[int]], weights: Mapping[str, Sequence[int]]) -> Op:
    attributes = {item.name: list(item.ints) or item.i for item in node.attribute}
    target = node.output[0]
    shape, first = shapes.get(target, ()), shapes.get(node.input[0], ()) if node.input else ()
    height = shape[2] if len(shape) == 4 else None
    sources = tuple(name for name in node.input if name and name not in weights)
    kernel = weights.get(node.input[1]) if len(node.input) > 1 else None
    strides, dilations = attributes.get("strides") or [1], attributes.get("dilations") or [1]
    if node.op_type == "Conv" and kernel:
        reach = (kernel[2] - 1) * dilations[0]
        return Op(sources, target, height, reach, math.prod(kernel[1:]) * math.prod(shape), math.prod(shape))
    if node.op_type == "ConvTranspose" and kernel:
        reach = math.ceil(kernel[2] / strides[0]) - 1
        return Op(sources, target, height, reach, math.prod(kernel[1:]) * math.prod(first), math.prod(shape))
    if node.op_type in ("MaxPool", "AveragePool"):
        return Op(sources, target, height, attributes.get("kernel_shape", [1])[0] - 1)
    if node.op_type in ("Resize", "Upsample"):
        modes = [item.s.decode() for item in node.attribute if item.name == "mode"]
        return Op(sources, target, height, 1 if modes == ["linear"] else 3 if modes == ["cubic"] else 0)
    if node.op_type in ("MatMul", "Gemm"):
        size = float(math.prod(shape))
        return Op(sources, target, height, _WHOLE if kernel is None else 0, size * (first[-1] if first else 0), size)
    whole = node.op_type.startswith(("Global", "Reduce")) or node.op_type in ("Softmax", "Flatten")
    return Op(sources, target, height, _WHOLE if whole else 0)


def keras_parameters(path: Path) -> int:
    """Number of values in the weights of a Keras file, read without loading it."""
    import io
    import zipfile

    import h5py

    total = 0

    def add(name: str, item: Any) -> None:
        nonlocal total
        if isinstance(item, h5py.Dataset) and "optimizer" not in name:
            total += int(math.prod(item.shape))

    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(add)
    else:
        with h5py.File(path) as file:
            file.visititems(add)
    return total


def keras_cost(path: Path) -> Cost:
    """Cost of a Keras model of built-in layers, whose layers are built anew without weights."""
    from benchbox_adapters.runtimes import unsafe_layers

    parameters = keras_parameters(path)
    config = keras_config(path)
    keras = start_keras()
    if unsafe_layers(config):
        return Cost(parameters)
    text = json.dumps(_with_sides(config))
    try:
        model = keras.models.model_from_json(text)
        image = next(tensor for tensor in model.inputs if len(tensor.shape) == 4)
        ops = [_keras_op(layer) for layer in model.operations if layer.__class__.__name__ != "InputLayer"]
        size = int(image.shape[1]), int(image.shape[2])
    except Exception:  # a size that does not fit, or a layer without a shape
        return Cost(parameters)
    return cost_of(parameters, ops, str(image.name), size)


def _with_sides(config: Any) -> Any:
    """A configuration whose inputs have a size."""
    if isinstance(config, list):
        return [_with_sides(value) for value in config]
    if not isinstance(config, dict):
        return config
    changed = {key: _with_sides(value) for key, value in config.items()}
    for key in ("batch_shape", "batch_input_shape", "input_shape"):
        shape = changed.get(key)
        if isinstance(shape, list) and len(shape) == 4:
            changed[key] = [shape[0], shape[1] or SIDE, shape[2] or SIDE, shape[3]]
    return changed


def _keras_op(layer: Any) -> Op:
    kind = layer.__class__.__name__
    target = layer.output
    sources = [tensor.name for tensor in layer._inbound_nodes[0].arguments.keras_tensors]
    first = layer._inbound_nodes[0].arguments.keras_tensors[0]
    shape = target.shape
    height = shape[1] if len(shape) == 4 else None
    written, read = (float(math.prod(side or 1 for side in tensor.shape)) for tensor in (target, first))
    names = tuple(sources)
    kernel: Any = getattr(layer, "kernel", None)
    if kernel is not None and kind.startswith(("Conv2DTranspose", "DepthwiseConv2D", "Conv2D")):
        wide = kernel.shape[0]
        if kind == "Conv2DTranspose":
            macs = read / first.shape[-1] * math.prod(kernel.shape)
            return Op(names, target.name, height, math.ceil(wide / layer.strides[0]) - 1, macs, written)
        each = math.prod(kernel.shape) / (shape[-1] if kind == "Conv2D" else kernel.shape[2])
        return Op(names, target.name, height, (wide - 1) * layer.dilation_rate[0], each * written, written)
    if kind == "Dense":
        return Op(names, target.name, height, 0 if height else _WHOLE, written * kernel.shape[0], written)
    if kind in ("MaxPooling2D", "AveragePooling2D"):
        return Op(names, target.name, height, layer.pool_size[0] - 1)
    if kind == "UpSampling2D":
        return Op(names, target.name, height, 1 if layer.interpolation == "bilinear" else 0)
    whole = kind.startswith("Global") or "Attention" in kind or kind == "Flatten"
    return Op(names, target.name, height, _WHOLE if whole else 0)


def litert_cost(path: Path) -> Cost:
    """Cost of a LiteRT model, for the sizes in its file; sizes that it leaves open have `SIDE` pixels."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    content = path.read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph = model.subgraphs[0]
    builtin = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    # Buffer 0 is empty by definition; tensors with another filled buffer are constants.
    filled = {place for place, buffer in enumerate(model.buffers) if buffer.data is not None and len(buffer.data)}
    constant = [tensor.buffer in filled for tensor in graph.tensors]
    parameters = sum(
        int(math.prod(tensor.shape))
        for tensor, fixed in zip(graph.tensors, constant, strict=True)
        if fixed
        and tensor.shape is not None
        and tensor.type in (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16, schema.TensorType.INT8)
    )
    # A delegate would hide the shapes of what it computes.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with native_messages_hidden():
        interpreter: Any = Interpreter(model_content=content, experimental_op_resolver_type=plain)
    size = (SIDE, SIDE)
    image = -1
    for tensor in interpreter.get_input_details():
        signature = [int(side) for side in tensor["shape_signature"]]
        open_sides = [
            SIDE if side < 0 and place and len(signature) == 4 else max(1, side) for place, side in enumerate(signature)
        ]
        interpreter.resize_tensor_input(tensor["index"], open_sides)
        if len(signature) == 4 and image < 0:
            image, size = int(tensor["index"]), (open_sides[1], open_sides[2])
    try:
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError):
        return Cost(parameters)
    shapes = {int(tensor["index"]): tuple(map(int, tensor["shape"])) for tensor in interpreter.get_tensor_details()}
    ops = [_litert_op(op, builtin.get(codes[op.opcodeIndex], ""), shapes, constant) for op in graph.operators]
    return cost_of(parameters, ops, str(image), size)


def _litert_op(op: Any, kind: str, shapes: Mapping[int, tuple[int, ...]], constant: Sequence[bool]) -> Op:
    inputs = [int(place) for place in op.inputs if place >= 0]
    target = int(op.outputs[0])
    shape = shapes.get(target, ())
    height = shape[1] if len(shape) == 4 else None
    names, name = tuple(str(place) for place in inputs if not constant[place]), str(target)
    written = float(math.prod(shape))
    options = op.builtinOptions
    kernel = shapes.get(inputs[1], ()) if len(inputs) > 1 else ()
    if kind == "CONV_2D":
        reach = (kernel[1] - 1) * options.dilationHFactor
        return Op(names, name, height, reach, written * math.prod(kernel[1:]), written)
    if kind == "DEPTHWISE_CONV_2D":
        return Op(
            names, name, height, (kernel[1] - 1) * options.dilationHFactor, written * math.prod(kernel[1:3]), written
        )
    if kind == "TRANSPOSE_CONV":
        read = float(math.prod(shapes.get(inputs[2], ())))
        return Op(
            names, name, height, math.ceil(kernel[1] / options.strideH) - 1, read * math.prod(kernel[:3]), written
        )
    if kind == "FULLY_CONNECTED":
        return Op(names, name, height, _WHOLE, written * kernel[-1], written)
    if kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        return Op(names, name, height, options.filterHeight - 1)
    if kind == "RESIZE_BILINEAR":
        return Op(names, name, height, 1)
    whole = kind in ("MEAN", "SUM", "SOFTMAX", "BATCH_MATMUL", "REDUCE_MAX")
    return Op(names, name, height, _WHOLE if whole else 0)
