"""The networks: two small classifiers that share no layer, so that a denoiser hardly pleases both by chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

CLASSES = 7
SIZE = 48
_FLAT = 0.03
"""Added to the standard deviation of an image before dividing by it, so that noise in a flat image is not blown up."""


def residual(precision: str = "float32") -> Any:
    """Build a residual network that normalises the contrast of each face: (N, 48, 48, 1) in [0, 1] to logits (N, 7).

    `precision` is the Keras dtype policy of the hidden layers.
    """
    import keras
    from keras import layers, ops

    def convolution(x: Any, filters: int, name: str) -> Any:
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, dtype=precision, name=f"{name}_conv")(x)
        return layers.BatchNormalization(momentum=0.95, dtype=precision, name=f"{name}_norm")(x)

    def block(x: Any, filters: int, name: str) -> Any:
        y = layers.ReLU(dtype=precision)(convolution(x, filters, f"{name}a"))
        y = convolution(y, filters, f"{name}b")
        if x.shape[-1] != filters:
            x = layers.Conv2D(filters, 1, use_bias=False, dtype=precision, name=f"{name}_skip")(x)
        return layers.ReLU(dtype=precision)(layers.Add(dtype=precision)([x, y]))

    entry = keras.Input((SIZE, SIZE, 1), name="faces")
    centred = entry - ops.mean(entry, axis=(1, 2), keepdims=True)
    deviation = ops.sqrt(ops.mean(ops.square(centred), axis=(1, 2), keepdims=True))
    x = centred / (deviation + _FLAT)
    x = layers.Conv2D(32, 5, strides=2, padding="same", use_bias=False, dtype=precision, name="stem_conv")(x)
    x = layers.BatchNormalization(momentum=0.95, dtype=precision, name="stem_norm")(x)
    x = layers.ReLU(dtype=precision)(x)
    x = layers.MaxPooling2D(2, dtype=precision)(block(x, 32, "first"))
    x = layers.MaxPooling2D(2, dtype=precision)(block(x, 48, "second"))
    x = block(x, 64, "third")
    # Faces are aligned: weights for each place know an eye from a mouth, which a mean over all places does not.
    x = layers.DepthwiseConv2D(6, depth_multiplier=2, use_bias=False, dtype=precision, name="places")(x)
    x = layers.BatchNormalization(momentum=0.95, dtype=precision, name="places_norm")(x)
    x = layers.Dropout(0.2, dtype=precision)(layers.Flatten(dtype=precision)(x))
    return keras.Model(entry, layers.Dense(CLASSES, dtype="float32", name="logits")(x), name="residual")


def plain(precision: str = "float32") -> Any:
    """Build a plain network with strides instead of pooling and a head that knows places; as `residual` otherwise."""
    import keras
    from keras import layers, ops

    def normalised(x: Any, name: str) -> Any:
        x = layers.BatchNormalization(momentum=0.95, dtype=precision, name=f"{name}_norm")(x)
        return layers.ELU(dtype=precision)(x)

    entry = keras.Input((SIZE, SIZE, 1), name="faces")
    x = (entry - ops.mean(entry, axis=(1, 2), keepdims=True)) * 4.0
    for place, (filters, side, stride) in enumerate(((24, 5, 2), (48, 3, 2), (64, 3, 1), (72, 3, 2)), 1):
        x = layers.Conv2D(
            filters, side, strides=stride, padding="same", use_bias=False, dtype=precision, name=f"conv{place}"
        )(x)
        x = normalised(x, f"conv{place}")
    x = normalised(layers.Conv2D(24, 1, use_bias=False, dtype=precision, name="narrow")(x), "narrow")
    x = layers.Dropout(0.3, dtype=precision)(layers.Flatten(dtype=precision)(x))
    x = normalised(layers.Dense(64, use_bias=False, dtype=precision, name="hidden")(x), "hidden")
    return keras.Model(entry, layers.Dense(CLASSES, dtype="float32", name="logits")(x), name="plain")


def both_sides(network: Any) -> Any:
    """The network whose logits are the mean of those of a face and of its mirror image, which has the same emotion."""
    import keras

    entry = keras.Input((SIZE, SIZE, 1), name="faces")
    logits = keras.layers.Average(name="both")([network(entry), network(entry[:, :, ::-1])])
    return keras.Model(entry, logits, name=network.name)


NETWORKS: Mapping[str, Callable[[str], Any]] = {"default": residual, "robust": plain}
"""Network of each recipe."""
