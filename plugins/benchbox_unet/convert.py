"""Converts a Keras model to a LiteRT model that accepts stacks of any count and size."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from benchbox_unet.quiet import native_messages_hidden


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
