"""Opens a Keras, ONNX or LiteRT file and runs it; without running it, reads its inputs and whether it is safe."""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchbox_unet.runtimes import native_messages_hidden, start_keras
from numpy.typing import NDArray

from benchbox import BenchboxError, threads
from benchbox_adapters.conventions import Input, Opened

Tensor = NDArray[Any]
_ONNX_TYPES = {"float": "float32", "double": "float64"}
_TORCH = ".pt", ".pth", ".ckpt", ".safetensors"
_LFS = b"version https://git-lfs"
LFS_REASON = "a Git LFS pointer, not the model; run 'git lfs pull' in its repository"
_HDF5 = b"\x89HDF\r\n\x1a\n"
# An entry of a StringStringEntryProto: field 1, "location", field 2, the length of the value (a varint of up to two
# bytes). https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
_LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]?[\x00-\x7f])")


def open_keras(path: Path) -> Opened:
    """Open a ``.keras`` file in safe mode, or a ``.h5`` file; neither runs code from the file."""
    state = random.getstate()
    try:
        keras = start_keras()
        model: Any = (
            keras.models.load_model(path, compile=False, safe_mode=True)
            if path.suffix == ".keras"
            else _read_hdf5(path)
        )
    except BenchboxError:
        raise
    except Exception as error:
        raise _unreadable(path, "keras", error) from error
    finally:
        random.setstate(state)  # Keras draws its own seeds from Python's generator
    inputs = tuple(Input(tuple(tensor.shape), str(tensor.dtype)) for tensor in model.inputs)
    _require_one_output(path, inputs, len(model.outputs))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        forward: Any = tf.function(lambda *x: model(_one_or_list(x), training=False), reduce_retracing=True)
    else:
        forward = lambda *x: model(_one_or_list(x), training=False)  # noqa: E731

    def run(*arrays: Tensor) -> Tensor:
        given = [_as_type(array, wanted.dtype) for array, wanted in zip(arrays, inputs, strict=True)]
        return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(forward(*given), "float32")))

    return Opened(inputs, "nhwc", run)


def _one_or_list(arrays: tuple[Any, ...]) -> Any:
    return arrays[0] if len(arrays) == 1 else list(arrays)


def _read_hdf5(path: Path) -> Any:
    """Read a model in the older format of Keras, or weights with ``model.to_json()`` beside them.

    Keras ignores its safe mode in this format, so the layers are looked at first.
    """
    import keras

    text, beside = _hdf5_architecture(path)
    if unsafe := unsafe_layers(json.loads(text)):
        raise BenchboxError(
            f"{path} has layers that hold code or do not belong to Keras: {', '.join(unsafe)}",
            hint="save the model with layers of Keras only",
        )
    if beside is None:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    model = keras.models.model_from_json(text)
    model.load_weights(path)
    return model


def layers_beside(path: Path) -> list[Path]:
    """The file with the layers of a Keras model, if its own file holds only weights."""
    beside = None if path.suffix == ".keras" else _hdf5_architecture(path)[1]
    return [] if beside is None else [beside]


def _hdf5_architecture(path: Path) -> tuple[str, Path | None]:
    """Layers of an ``.h5`` file as JSON, and the file beside it that they come from, if it holds only weights."""
    import h5py

    with h5py.File(path) as file:
        text = file.attrs.get("model_config")
    if text is not None:
        return str(text), None
    beside = path.parent / f"{path.name.removesuffix('.h5').removesuffix('.weights')}.json"
    if not (beside.is_file() and is_architecture(beside)):
        raise BenchboxError(
            f"{path} holds weights without the layers", hint=f"write model.to_json() to {beside.name} beside it"
        )
    return beside.read_text("utf-8"), beside


def keras_config(path: Path) -> dict[str, Any]:
    """Layers of a Keras model as nested dictionaries, read without loading it; raises `BenchboxError` if damaged."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                text = archive.read("config.json").decode("utf-8")
        else:
            text, _ = _hdf5_architecture(path)
        config = json.loads(text)
    except BenchboxError:
        raise
    except Exception as error:
        raise _unreadable(path, "keras", error) from error
    return config if isinstance(config, dict) else {}


def keras_inputs(path: Path) -> tuple[Input, ...]:
    """Inputs of a Keras model; empty if its file does not say."""
    config = keras_config(path).get("config", {})
    layers = config.get("layers", [])
    wanted = [entry[0] for entry in config.get("input_layers", []) if isinstance(entry, list)] or None
    found = {}
    for layer in layers:
        settings = layer.get("config", {})
        shape = settings.get("batch_shape") or settings.get("batch_input_shape")
        if layer.get("class_name") == "InputLayer" and isinstance(shape, list):
            dtype = settings.get("dtype", "float32")
            found[settings.get("name", "")] = Input(tuple(shape), dtype if isinstance(dtype, str) else "float32")
    return tuple(found[name] for name in wanted or found if name in found)


def open_onnx(path: Path) -> Opened:
    """Open an ONNX file on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _unreadable(path, "onnx", error) from error
    inputs = tuple(
        Input(
            tuple(side if isinstance(side, int) and side > 0 else None for side in node.shape),
            _ONNX_TYPES.get(kind := node.type.removeprefix("tensor(").removesuffix(")"), kind),
        )
        for node in session.get_inputs()
    )
    names = [node.name for node in session.get_inputs()]
    _require_one_output(path, inputs, len(session.get_outputs()))

    def run(*arrays: Tensor) -> Tensor:
        given = {name: _as_type(array, wanted.dtype) for name, array, wanted in zip(names, arrays, inputs, strict=True)}
        return np.asarray(session.run(None, given)[0]).astype(np.float32, copy=False)

    return Opened(inputs, "nchw", run)


def onnx_inputs(path: Path) -> tuple[Input, ...]:
    """Inputs of an ONNX model, without those that it has values for."""
    import onnx

    graph = read_onnx(path).graph
    known = {tensor.name for tensor in graph.initializer}
    names = {value: name.lower() for name, value in onnx.TensorProto.DataType.items()}
    inputs = []
    for value in graph.input:
        if value.name not in known:
            tensor = value.type.tensor_type
            kind = names.get(tensor.elem_type, "float")
            shape = tuple(side.dim_value if side.dim_value > 0 else None for side in tensor.shape.dim)
            inputs.append(Input(shape, _ONNX_TYPES.get(kind, kind)))
    return tuple(inputs)


def read_onnx(path: Path) -> Any:
    """An ONNX model without its external data; raises `BenchboxError` if it is damaged."""
    import onnx

    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise _unreadable(path, "onnx", error) from error


def open_litert(path: Path) -> Opened:
    """Open a LiteRT (TensorFlow Lite) file."""
    interpreter = _litert(path)
    details, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    inputs = litert_inputs(path)
    _require_one_output(path, inputs, len(outputs))
    allocated: list[tuple[tuple[int, ...], ...]] = []

    def run(*arrays: Tensor) -> Tensor:
        shapes = tuple(array.shape for array in arrays)
        if allocated != [shapes]:
            for array, tensor in zip(arrays, details, strict=True):
                interpreter.resize_tensor_input(tensor["index"], array.shape)
            interpreter.allocate_tensors()
            allocated[:] = [shapes]
        for array, tensor in zip(arrays, details, strict=True):
            interpreter.set_tensor(tensor["index"], _quantised(array, tensor))
        interpreter.invoke()
        return _real(np.asarray(interpreter.get_tensor(outputs[0]["index"])), outputs[0])

    return Opened(inputs, "nhwc", run)


def litert_inputs(path: Path) -> tuple[Input, ...]:
    """Inputs of a LiteRT model; quantised ones take real numbers here."""
    return tuple(
        Input(
            tuple(int(side) if side > 0 else None for side in tensor["shape_signature"]),
            "float32" if tensor["quantization"][0] else np.dtype(tensor["dtype"]).name,
        )
        for tensor in _litert(path).get_input_details()
    )


def _litert(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        with native_messages_hidden():
            return Interpreter(model_path=str(path), num_threads=threads())
    except Exception as error:
        raise _unreadable(path, "litert", error) from error


def _quantised(array: Tensor, tensor: dict[str, Any]) -> Tensor:
    scale, zero = tensor["quantization"]
    return _as_type(array / np.float32(scale) + np.float32(zero) if scale else array, np.dtype(tensor["dtype"]).name)


def _real(array: Tensor, tensor: dict[str, Any]) -> Tensor:
    scale, zero = tensor["quantization"]
    real = array.astype(np.float32)
    return (real - np.float32(zero)) * np.float32(scale) if scale else real


def _as_type(array: Tensor, dtype: str) -> Tensor:
    """Convert float32 values to the type of an input; whole numbers are rounded and cut to their range."""
    if dtype == "float32":
        return array
    if dtype == "bfloat16":
        import ml_dtypes

        return array.astype(ml_dtypes.bfloat16)
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        array = np.rint(array).clip(limits.min, limits.max)
    return array.astype(kind)


def _unreadable(path: Path, kind: str, error: Exception) -> BenchboxError:
    lines = str(error).strip().splitlines()
    article = "an" if kind == "onnx" else "a"
    return BenchboxError(
        f"{path} cannot be opened as {article} {kind} model: {lines[0] if lines else type(error).__name__}",
        hint="save the model with built-in layers only; custom code such as a Lambda layer is not loaded",
    )


def _require_one_output(path: Path, inputs: tuple[Input, ...], outputs: int) -> None:
    if len(inputs) not in (1, 2) or outputs != 1:
        raise BenchboxError(
            f"{path} has {len(inputs)} inputs ({', '.join(map(str, inputs))}) and {outputs} outputs",
            hint="use a model that takes an image and at most a noise level, and returns an image, or write a plugin",
        )


def refusal_of(path: Path, kind: str) -> str:
    """Why a file or folder cannot be a model of a kind (`keras`, `onnx`, `litert`), and what to do; empty if it can."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return (
                "a SavedModel, which can hold code and is not loaded; convert it and run litert:path=model.tflite: "
                'python -c "import tensorflow as tf; converter = tf.lite.TFLiteConverter.from_saved_model('
                f"'{path}'); open('model.tflite', 'wb').write(converter.convert())\""
            )
        return "a folder; give the model file in it"
    if not path.is_file():
        return "no such file"
    if is_pointer(path):
        return LFS_REASON
    found = kind_of(path)
    if found == kind:
        return ""
    return f"a model for '{found}'; write {found}:path={path}" if found else f"not a {kind} model"


def is_pointer(path: Path) -> bool:
    """Whether Git LFS has left a pointer in place of a file."""
    with path.open("rb") as file:
        return file.read(len(_LFS)) == _LFS


def kind_of(path: Path) -> str:
    """Denoiser for a file by its first bytes; empty if there is none.

    ONNX has no first bytes of its own: its protocol buffer is known by its first field.
    """
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(_LFS):
        return ""
    if head[4:8] == b"TFL3":
        return "litert"
    if head.startswith(_HDF5):
        return "keras"
    if head.startswith(b"PK"):
        return "keras" if path.suffix == ".keras" else "torch"
    # safetensors: the length of the header, then JSON; files of torch.save before 1.6: pickles
    if path.suffix in _TORCH or head[8:10] == b'{"' or head.startswith(b"\x80"):
        return "torch"
    return "onnx" if head.startswith(b"\x08") else ""


def external_data(path: Path) -> list[Path]:
    """Files beside an ONNX model that hold its weights (external data), as far as they exist."""
    if kind_of(path) != "onnx":
        return []
    return sorted({file for name in _locations(path.read_bytes()) if (file := path.parent / name).is_file()})


def _locations(content: bytes) -> Iterator[str]:
    for match in _LOCATION.finditer(content):
        length = match[1][0] & 0x7F | (match[1][1] << 7 if len(match[1]) == 2 else 0)
        yield content[match.end() : match.end() + length].decode("utf-8", "surrogateescape")


def is_architecture(file: Path) -> bool:
    """Whether a JSON file describes the layers of a Keras model, as ``model.to_json()`` writes it."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and "class_name" in content and "config" in content


def unsafe_layers(config: Any) -> list[str]:
    """Classes of a Keras configuration that hold code or that Keras does not bring along."""
    import keras

    rooms = keras, keras.layers, keras.initializers, keras.regularizers, keras.constraints, keras.dtype_policies
    known = {"Functional", "__keras_tensor__"}.union(*map(dir, rooms))
    return sorted({name for name in _classes_of(config) if name == "Lambda" or name not in known})


def _classes_of(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        if isinstance(name := config.get("class_name"), str):
            module = config.get("module")
            yield name if module is None or str(module).partition(".")[0] == "keras" else f"{module}.{name}"
        for value in config.values():
            yield from _classes_of(value)
    elif isinstance(config, list):
        for value in config:
            yield from _classes_of(value)
