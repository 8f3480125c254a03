"""The published U-Net in Keras 3, built from layers that every Keras backend supports."""

from __future__ import annotations

from typing import Any

import numpy as np

ENCODER = ((32, 1), (64, 3), (128, 3), (256, 3))
"""Filters and kernel size of the two convolutions of each encoder level, top to bottom; the top one is 1x1."""
DECODER = (128, 64, 32)
"""Filters of the two 3x3 convolutions of each decoder level, bottom to top."""
PARAMETER_COUNT = 1_937_857
STRIDE = 2 ** (len(ENCODER) - 1)
"""Height and width must be a multiple of this: three poolings by two."""
RADIUS = 48
"""Largest distance in pixels at which an input affects an output, rounded up to a multiple of `STRIDE`.

Two 3x3 convolutions at strides 2, 4 and 8 going down and 4, 2 and 1 going up reach 2 * (2 + 4 + 8 + 4 + 2 + 1) = 42
pixels, and the alignment of the poolings adds less than the 6 that remain.
"""


def build(precision: str = "float32") -> Any:
    """Build the network with random weights: (N, H, W, 1) to (N, H, W, 1), with H and W multiples of `STRIDE`.

    `precision` is the Keras dtype policy of the hidden layers, 'float32' or 'mixed_bfloat16'; the output is always
    float32.
    """
    from keras import Input, Model, layers

    def convolutions(x: Any, filters: int, kernel: int, name: str) -> Any:
        for position in (1, 2):
            x = layers.Conv2D(
                filters,
                kernel,
                padding="same",
                activation="relu",
                dtype=precision,
                name=f"{name}_conv{position}",
            )(x)
        return x

    x = image = Input((None, None, 1), name="noisy")
    skips = []
    for level, (filters, kernel) in enumerate(ENCODER, 1):
        x = convolutions(x, filters, kernel, f"encoder{level}")
        if level < len(ENCODER):
            skips.append(x)
            x = layers.MaxPooling2D(dtype=precision, name=f"pool{level}")(x)
    for level, filters in zip(range(len(DECODER), 0, -1), DECODER, strict=True):
        x = layers.UpSampling2D(dtype=precision, name=f"up{level}")(x)
        x = layers.Concatenate(dtype=precision, name=f"skip{level}")([x, skips.pop()])
        x = convolutions(x, filters, 3, f"decoder{level}")
    output = layers.Conv2D(1, 1, dtype="float32", name="output")(x)
    return Model(image, output, name="unet")


def start_as_identity(model: Any) -> None:
    """Set a few weights so that the untrained network returns its input, from which it learns to remove noise.

    The published network predicts the clean image and has no path around its layers. Here +x and -x, which a ReLU keeps
    apart, pass through the 1x1 top level of the encoder, its skip connection and the top level of the decoder in two
    channels of their own, and the output subtracts one from the other. The architecture and the number of parameters
    stay the same, and these weights are trained like all others.
    """
    skip = DECODER[-2]  # channels before those of the skip connection in the concatenation

    def both_signs(kernel: Any) -> None:
        kernel[0, 0, 0, :2] = 1, -1

    def pass_on(offset: int) -> Any:
        def change(kernel: Any) -> None:
            centre = kernel.shape[0] // 2
            kernel[..., :2] = 0
            for channel in (0, 1):
                kernel[centre, centre, offset + channel, channel] = 1

        return change

    def difference(kernel: Any) -> None:
        kernel[...] = 0
        kernel[0, 0, :2, 0] = 1, -1

    changes = {
        "encoder1_conv1": both_signs,
        "encoder1_conv2": pass_on(0),
        "decoder1_conv1": pass_on(skip),
        "decoder1_conv2": pass_on(0),
        "output": difference,
    }
    for name, change in changes.items():
        layer = model.get_layer(name)
        kernel, bias = (np.array(value) for value in layer.get_weights())
        change(kernel)
        layer.set_weights([kernel, bias])
