"""Runs a network with LiteRT on the converted model, or with Keras on its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox import BenchboxError, threads
from benchbox_unet.quiet import native_messages_hidden

Tensor = NDArray[np.float32]
CHUNK = 8
"""48x48 images per call of a network; larger batches exceed the cache."""
CHUNK_PIXELS = CHUNK * 48 * 48


class LiteRT:
    """A model from `convert.to_litert` on LiteRT's XNNPACK kernels, without TensorFlow; `source` is named in errors."""

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
