"""Opens a model file with its library and runs it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox import BenchboxError, threads
from benchbox_adapters.model_files import is_architecture, unsafe_layers

Tensor = NDArray[Any]
Side = int | None


@dataclass(frozen=True)
class Opened:
    """A model that is ready to run."""

    shape: tuple[Side, ...]
    """Shape of its input; None where any length is accepted."""
    dtype: np.dtype[Any]
    """Type of its input."""
    layout: str
    """Common position of the channels in this file format, 'nhwc' or 'nchw'."""
    run: Callable[[Tensor], Tensor]
    """Maps the input to the output."""


def open_keras(path: Path) -> Opened:
    """Open a ``.keras`` file in safe mode, or a ``.h5`` file; neither runs code from the file."""
    state = random.getstate()
    try:
        import keras

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
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise _several_tensors(path, [tuple(tensor.shape) for tensor in model.inputs], len(model.outputs))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        forward = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    else:
        forward = lambda x: keras.ops.convert_to_numpy(model(x, training=False))  # noqa: E731
    tensor = model.inputs[0]
    return Opened(tuple(tensor.shape), np.dtype(tensor.dtype), "nhwc", lambda x: np.asarray(forward(x)))


def _read_hdf5(path: Path) -> Any:
    """Read a model in the older format of Keras, or weights with ``model.to_json()`` beside them.

    Keras ignores its safe mode in this format, so the layers are looked at first.
    """
    import h5py
    import keras

    with h5py.File(path) as file:
        text = file.attrs.get("model_config")
    beside = path.parent / f"{path.name.removesuffix('.h5').removesuffix('.weights')}.json"
    weights_only = text is None
    if weights_only:
        if not (beside.is_file() and is_architecture(beside)):
            raise BenchboxError(
                f"{path} holds weights without the layers", hint=f"write model.to_json() to {beside.name} beside it"
            )
        text = beside.read_text("utf-8")
    if unsafe := unsafe_layers(json.loads(text)):
        raise BenchboxError(
            f"{path} has layers that hold code or do not belong to Keras: {', '.join(unsafe)}",
            hint="save the model with layers of Keras only",
        )
    if not weights_only:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    model = keras.models.model_from_json(text)
    model.load_weights(path)
    return model


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
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise _several_tensors(path, [tuple(tensor.shape) for tensor in inputs], len(outputs))
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in inputs[0].shape)
    words = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
    dtype = words.get(inputs[0].type, inputs[0].type.removeprefix("tensor(").removesuffix(")"))
    name = inputs[0].name
    return Opened(shape, np.dtype(dtype), "nchw", lambda x: np.asarray(session.run(None, {name: x})[0]))


def open_litert(path: Path) -> Opened:
    """Open a LiteRT (TensorFlow Lite) file."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter: Any = Interpreter(model_path=str(path), num_threads=threads())
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except Exception as error:
        raise _unreadable(path, "litert", error) from error
    if len(inputs) != 1 or len(outputs) != 1:
        raise _several_tensors(path, [tuple(tensor["shape_signature"]) for tensor in inputs], len(outputs))
    allocated: list[tuple[int, ...]] = []

    def run(x: Tensor) -> Tensor:
        if allocated != [x.shape]:
            interpreter.resize_tensor_input(inputs[0]["index"], x.shape)
            interpreter.allocate_tensors()
            allocated[:] = [x.shape]
        interpreter.set_tensor(inputs[0]["index"], x)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(outputs[0]["index"]))

    shape = tuple(int(side) if side > 0 else None for side in inputs[0]["shape_signature"])
    return Opened(shape, np.dtype(inputs[0]["dtype"]), "nhwc", run)


def _unreadable(path: Path, kind: str, error: Exception) -> BenchboxError:
    lines = str(error).strip().splitlines()
    return BenchboxError(
        f"{path} cannot be opened as a {kind} model: {lines[0] if lines else type(error).__name__}",
        hint="save the model with built-in layers only; custom code such as a Lambda layer is not loaded",
    )


def _several_tensors(path: Path, inputs: list[tuple[Any, ...]], outputs: int) -> BenchboxError:
    return BenchboxError(
        f"{path} has {len(inputs)} inputs {inputs} and {outputs} outputs",
        hint="use a model with one input and one output, or write a plugin",
    )
