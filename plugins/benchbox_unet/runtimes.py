"""Starts Keras, converts a network to LiteRT, and runs it with either library."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox import BenchboxError, threads

Tensor = NDArray[np.float32]
CHUNK = 8
"""48x48 images per call of a network; larger batches exceed the cache."""
CHUNK_PIXELS = CHUNK * 48 * 48


@contextmanager
def native_messages_hidden() -> Iterator[None]:
    """Redirect the process's standard error to the null device.

    TensorFlow, its converter and LiteRT report on start-up which kernels they found, before they read their log level.
    Python exceptions are not affected. Set ``BENCHBOX_NATIVE_LOG=1`` to see the messages.
    """
    if os.environ.get("BENCHBOX_NATIVE_LOG") == "1":
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def start_keras() -> Any:
    """Import Keras and limit TensorFlow's threads, which is possible only before its first operation."""
    with native_messages_hidden():
        import keras

        if keras.backend.backend() != "tensorflow":
            return keras
        import tensorflow as tf

        # RuntimeError: TensorFlow has already computed something and keeps its threads.
        with suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads())
        tf.config.list_physical_devices("GPU")
    return keras


def to_litert(model: Any) -> bytes:
    """Convert a float32 Keras model on the TensorFlow backend, with one input and one output, to a LiteRT flat buffer.

    Batch size, height and width stay variable. The weights are stored as float16, and LiteRT computes in float32: half
    the file size, and exact for weights that were already rounded to float16.
    """
    import keras
    import tensorflow as tf

    class RepeatPixels(keras.layers.Layer):  # type: ignore[misc]
        """Upsampling by two as four copies in depth, then depth to space.

        Resizing would fix the output size in the converted model; this keeps it variable.
        """

        def call(self, x: Any) -> Any:
            return tf.nn.depth_to_space(tf.concat([x] * 4, axis=-1), 2)

    def clone(layer: Any) -> Any:
        if isinstance(layer, keras.layers.UpSampling2D):
            return RepeatPixels(name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    free = keras.models.clone_model(model, clone_function=clone)
    free.set_weights(model.get_weights())
    converter = tf.lite.TFLiteConverter.from_keras_model(free)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    # Keras prints a description of the exported model.
    with redirect_stdout(StringIO()), native_messages_hidden():
        return bytes(converter.convert())


class LiteRT:
    """A model from `to_litert` on LiteRT's XNNPACK kernels, without TensorFlow; `source` is named in errors."""

    def __init__(self, model: bytes, source: str) -> None:
        self._model = model
        self._source = source
        self._interpreters: dict[tuple[int, ...], Any] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Run a batch, shape (N, H, W, C)."""
        return _in_chunks(self._run, x)

    def _run(self, x: Tensor) -> Tensor:
        interpreter = self._interpreters.get(x.shape)
        if interpreter is None:
            # An interpreter supports one shape. Two are kept: for full chunks, and for the remainder at the end.
            while len(self._interpreters) > 1:
                self._interpreters.pop(next(iter(self._interpreters)))
            interpreter = self._interpreters[x.shape] = self._prepare(x.shape)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        result: Tensor = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        return result

    def _prepare(self, shape: tuple[int, ...]) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with native_messages_hidden():
                interpreter = Interpreter(model_content=self._model, num_threads=threads())
                entry = interpreter.get_input_details()[0]
                channels = entry["shape"][-1]
                if channels != shape[-1]:
                    raise ValueError(f"they are for another network, with {channels} input channels, not {shape[-1]}")
                interpreter.resize_tensor_input(entry["index"], shape)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BenchboxError(
                f"weights {self._source}: {error}",
                hint="use weights that 'benchbox train' wrote for this denoiser, and copy .npz and .tflite together",
            ) from error
        return interpreter


class Keras:
    """A float32 Keras model as one compiled function."""

    def __init__(self, model: Any) -> None:
        self._forward = _compiled(model)

    def __call__(self, x: Tensor) -> Tensor:
        """Run a batch, shape (N, H, W, C)."""
        return _in_chunks(self._forward, x)


def _in_chunks(run: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """Run a batch in pieces of about `CHUNK_PIXELS`."""
    size = max(1, CHUNK_PIXELS // (x.shape[1] * x.shape[2]))
    if len(x) <= size:
        return np.asarray(run(x))
    return np.concatenate([np.asarray(run(x[start : start + size])) for start in range(0, len(x), size)])


def _compiled(model: Any) -> Callable[[Tensor], Any]:
    """The forward pass, compiled if the Keras backend is TensorFlow."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return lambda x: keras.ops.convert_to_numpy(model(x, training=False))
    import tensorflow as tf

    return tf.function(lambda x: model(x, training=False), jit_compile=True)  # type: ignore[no-any-return]
