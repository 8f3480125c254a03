"""`ffdnet`: predicts the noise from four sub-images and a map of the noise level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from benchbox import Capabilities, Images, Recipe, Sigma
from benchbox_unet.network import Tensor
from benchbox_unet.trainer import TrainableNetwork

LAYERS = 12
FILTERS = 64
LEAST, BALANCED = 0.01, 0.05
"""Noise levels: below `LEAST` the training weight of an image stays constant; at `BALANCED` it is 1."""
SPREAD = 0.5
"""Share of independent random weights in a hidden layer at the start; the rest is an orthogonal map of each pixel."""


class FFDNet(TrainableNetwork):
    """FFDNet with 12 layers and without batch normalisation; the noise level is an input.

    Parameters
    ----------
    weights : str
        ``'gaussian'`` for Gaussian noise of sigma 0 to 0.3, or the path of weights that ``benchbox train`` wrote.
    runtime : {'litert', 'keras'}
        Inference library; both give the same result to within 1e-5.
    """

    name = "ffdnet"
    summary = "FFDNet with 12 layers, noise level as input, trained on FER2013"
    reference = "Zhang, Zuo and Zhang 2018, doi:10.1109/TIP.2018.2839891"
    capabilities = Capabilities(sigma="required")
    shipped = ("gaussian",)
    stride = 2
    margin = 2 * LAYERS
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "default": Recipe(
            noise=("gaussian:0..0.3", "gaussian:0..0.1", "gaussian:0..0.03"),
            epochs=40,
        )
    }

    def __init__(self, *, weights: str = "gaussian", runtime: Literal["litert", "keras"] = "litert") -> None:
        super().__init__(weights=weights, runtime=runtime)

    @classmethod
    def build(cls, precision: str = "float32") -> Any:
        """Build the Keras model: convolutions at half the resolution; it starts by predicting no noise."""
        from keras import Input, Model, layers

        x = image = Input((None, None, 5), name="noisy")
        for layer in range(1, LAYERS):
            x = layers.Conv2D(
                FILTERS,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                # Noise is a small part of the input, so the first layer reads it in full precision.
                dtype="float32" if layer == 1 else precision,
                name=f"conv{layer}",
            )(x)
        noise = layers.Conv2D(4, 3, padding="same", kernel_initializer="zeros", dtype="float32", name="output")(x)
        return Model(image, noise, name="ffdnet")

    @classmethod
    def step(cls, layer: str) -> int:
        """Two: every layer works on the sub-images."""
        return 2

    @classmethod
    def prepare(cls, model: Any) -> None:
        """Start the hidden layers as a lossless linear map plus some of the usual random weights.

        Every filter gets a mirrored twin that passes on what the ReLU cuts off in the other. A stack of such layers is
        linear at the start of training, and its gradients are as large at the bottom as at the top ("looks linear",
        Balduzzi et al. 2017, arXiv:1702.08591). With independent random weights, twelve layers without batch
        normalisation needed several times as many images to reach the same loss.
        """
        half = FILTERS // 2
        for layer in range(1, LAYERS):
            convolution = model.get_layer(f"conv{layer}")
            kernel, bias = convolution.get_weights()
            if layer == 1:
                part = kernel[..., :half]
                mirrored = np.concatenate([part, -part], axis=3)
            else:
                part = SPREAD * kernel[:, :, :half, :half]
                part[1, 1] += np.sqrt(1 - SPREAD**2) * np.linalg.qr(kernel[1, 1, :half, :half])[0]
                both = np.concatenate([part, -part], axis=3)
                mirrored = np.concatenate([both, -both], axis=2)
            convolution.set_weights([mirrored, bias])

    @classmethod
    def arrange(cls, images: Images, levels: Sigma) -> Tensor:
        """Turn (N, H, W) and (N,) into (N, H/2, W/2, 5): four sub-images and a map of the level."""
        count, height, width = images.shape
        tensor = np.empty((count, height // 2, width // 2, 5), np.float32)
        tensor[..., :4] = _split(images)
        tensor[..., 4] = levels[:, np.newaxis, np.newaxis]
        return tensor

    @classmethod
    def target(cls, noisy: Images, clean: Images) -> Tensor:
        """Return the noise as four sub-images."""
        return np.ascontiguousarray(_split(noisy - clean))

    @classmethod
    def importance(cls, levels: Sigma) -> Tensor:
        """Weight images so that levels count about equally in dB: the loss grows about as sigma to the power 1.3."""
        return (BALANCED / np.maximum(levels, LEAST)).astype(np.float32)

    @classmethod
    def restore(cls, answer: Tensor, images: Images) -> Images:
        """Subtract the noise."""
        count, height, width = images.shape
        noise = answer.reshape(count, height // 2, width // 2, 2, 2).transpose(0, 1, 3, 2, 4)
        return images - noise.reshape(count, height, width)


def _split(images: Images) -> NDArray[np.float32]:
    """Every second pixel of every second row, four times: (N, H/2, W/2, 4)."""
    count, height, width = images.shape
    blocks = images.reshape(count, height // 2, 2, width // 2, 2).transpose(0, 1, 3, 2, 4)
    return blocks.reshape(count, height // 2, width // 2, 4)
