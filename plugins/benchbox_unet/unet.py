"""`unet`: the reference U-Net, blind, which maps a noisy image directly to the clean image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from benchbox import Capabilities, Images, Recipe, Sigma
from benchbox_unet import architecture
from benchbox_unet.network import Tensor
from benchbox_unet.trainer import TrainableNetwork

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
    stride = architecture.STRIDE
    margin = architecture.RADIUS
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
        return architecture.build(precision)

    @classmethod
    def step(cls, layer: str) -> int:
        """Twice as far from level to level."""
        level = re.match(r"(?:encoder|decoder)(\d)_", layer)
        return 2 ** (int(level[1]) - 1) if level else 1

    @classmethod
    def prepare(cls, model: Any) -> None:
        """Start the network as the identity."""
        architecture.start_as_identity(model)

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
