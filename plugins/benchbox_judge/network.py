"""The network: a small residual classifier that normalises each image first, so that exposure hardly matters."""

from __future__ import annotations

from typing import Any

CLASSES = 7
SIZE = 48
_FLAT = 0.03
"""Added to the standard deviation of an image before dividing by it, so that noise in a flat image is not blown up."""


def build(precision: str = "float32") -> Any:
    """Build the Keras model with random weights: (N, 48, 48, 1) in [0, 1] to logits (N, 7)."""
    import keras
    from keras import layers, ops

    def convolution(x: Any, filters: int, name: str) -> Any:
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, dtype=precision, name=f"{name}_conv")(x)
        return layers.BatchNormalization(momentum=0.95, dtype=precision, name=f"{name}_norm")(x)

    def residual(x: Any, filters: int, name: str) -> Any:
        y = layers.ReLU(dtype=precision)(convolution(x, filters, f"{name}a"))
        y = convolution(y, filters, f"{name}b")
        if x.shape[-1] != filters:
            x = layers.Conv2D(filters, 1, use_bias=False, dtype=precision, name=f"{name}_skip")(x)
        return layers.ReLU(dtype=precision)(layers.Add(dtype=precision)([x, y]))

    entry = keras.Input((SIZE, SIZE, 1), name="faces")
    centred = entry - ops.mean(entry, axis=(1, 2), keepdims=True)
    deviation = ops.sqrt(ops.mean(ops.square(centred), axis=(1, 2), keepdims=True))
    x = centred / (deviation + _FLAT)
    x = layers.Conv2D(24, 5, strides=2, padding="same", use_bias=False, dtype=precision, name="stem_conv")(x)
    x = layers.BatchNormalization(momentum=0.95, dtype=precision, name="stem_norm")(x)
    x = layers.ReLU(dtype=precision)(x)
    x = layers.MaxPooling2D(2, dtype=precision)(residual(x, 24, "first"))
    x = layers.MaxPooling2D(2, dtype=precision)(residual(x, 48, "second"))
    x = residual(x, 64, "third")
    x = layers.GlobalAveragePooling2D(dtype=precision)(x)
    x = layers.Dropout(0.2, dtype=precision)(x)
    return keras.Model(entry, layers.Dense(CLASSES, dtype="float32", name="logits")(x), name="emotion_judge")
