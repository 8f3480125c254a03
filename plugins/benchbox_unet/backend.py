"""Starts Keras quietly and with the given number of threads."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from benchbox import threads
from benchbox_unet.quiet import native_messages_hidden


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
