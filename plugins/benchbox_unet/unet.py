"""`unet`: the published U-Net in Keras 3, blind, which maps a noisy image directly to the clean image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from benchbox import Capabilities, Images, Recipe, Sigma
from benchbox_unet.network import Tensor
from benchbox_unet.trainer import TrainableNetwork

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
# With levels drawn uniformly from the full range, low levels hardly count in the mean squared error, because their
# errors are small. The narrower ranges draw them more often without changing the loss.
GAUSSIAN = ("gaussian:0..0.3", "gaussian:0.05..0.3", "gaussian:0..0.1", "gaussian:0..0.04")
MIXED = (
    "gaussian:0..0.3",
    "gaussian:0..0.1",
    "poisson:5..100",
    "salt-pepper:0..0.1",
    "salt-pepper:0..0.3",
    "impulse:0..0.3",
    "speckle:0..0.4",
    "uniform:0..0.3",
    "poisson-gaussian:5..100,sigma=0..0.1",
    "correlated:0..0.2,width=0.5..2",
    "stripe:0..0.2",
    "quantize:2..6",
    "jpeg:5..60",
)


class UNet(TrainableNetwork):
    """U-Net with four levels and 1,937,857 parameters.

    Parameters
    ----------
    weights : str
        ``'gaussian'`` for Gaussian noise of sigma 0 to 0.3, ``'mixed'`` for all built-in noise models, or the path of
        weights that ``benchbox train`` wrote.
    runtime : {'litert', 'keras'}
        Inference library; both give the same result to within 1e-5.
    """

    name = "unet"
    summary = "blind U-Net with 1.9 million parameters, trained on FER2013"
    reference = "Ronneberger, Fischer and Brox 2015, doi:10.1007/978-3-319-24574-4_28"
    capabilities = Capabilities(sigma="unused")
    shipped = ("gaussian", "mixed")
    default_rows = ("unet", "unet:weights=mixed")
    stride = STRIDE
    margin = RADIUS
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "default": Recipe(noise=GAUSSIAN, epochs=40),
        "mixed": Recipe(noise=MIXED, epochs=40),
        "original": Recipe(
            noise=("truncated-gaussian:10/255",),
            epochs=25,
            learning_rate=1e-5,
            schedule="constant",
            flips=False,
            fresh_noise=False,
            clip=True,
        ),
    }

    def __init__(self, *, weights: str = "gaussian", runtime: Literal["litert", "keras"] = "litert") -> None:
        super().__init__(weights=weights, runtime=runtime)

    @classmethod
    def build(cls, precision: str = "float32") -> Any:
        """Build the Keras model with random weights."""
        return build_model(precision)

    @classmethod
    def step(cls, layer: str) -> int:
        """Twice as far from level to level."""
        level = re.match(r"(?:encoder|decoder)(\d)_", layer)
        return 2 ** (int(level[1]) - 1) if level else 1

    @classmethod
    def prepare(cls, model: Any) -> None:
        """Start the network as the identity."""
        start_as_identity(model)

    @classmethod
    def arrange(cls, images: Images, levels: Sigma) -> Tensor:
        """Turn (N, H, W) into (N, H, W, 1); the blind network does not use `levels`."""
        return images[..., np.newaxis]

    @classmethod
    def target(cls, noisy: Images, clean: Images) -> Tensor:
        """Return the clean images."""
        return clean[..., np.newaxis]

    @classmethod
    def restore(cls, answer: Tensor, images: Images) -> Images:
        """Turn (N, H, W, 1) into (N, H, W)."""
        return answer[..., 0]


def build_model(precision: str = "float32") -> Any:
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
