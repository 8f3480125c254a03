"""Denoising networks of the literature as PyTorch modules, built from what a state dict shows of them.

Each is written from its paper. A module computes what its authors' does; where implementations differ, an argument says
so. `recogniser` chooses the arguments.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchbox_adapters.layers import Unseen

_USUAL = Unseen()


@dataclass(frozen=True)
class Layer:
    """A convolution with what follows it."""

    inputs: int
    outputs: int
    kernel: int = 3
    bias: bool = True
    norm: bool = False
    """Whether batch normalisation follows."""
    transposed: bool = False
    dilation: int = 1


def convolution(layer: Layer, stride: int = 1) -> Any:
    """A convolution that keeps the size, or changes it by its stride."""
    if layer.transposed:
        return nn.ConvTranspose2d(layer.inputs, layer.outputs, layer.kernel, stride, bias=layer.bias)
    padding = layer.dilation * (layer.kernel // 2) if stride == 1 else 0
    return nn.Conv2d(
        layer.inputs, layer.outputs, layer.kernel, stride, padding, dilation=layer.dilation, bias=layer.bias
    )


def block(layers: Sequence[Layer], eps: float, unseen: Unseen = _USUAL) -> list[Any]:
    """Convolutions, each with its batch normalisation and a rectifier."""
    modules: list[Any] = []
    for layer in layers:
        modules.append(convolution(layer))
        if layer.norm:
            modules.append(nn.BatchNorm2d(layer.outputs, eps))
        modules.append(nn.LeakyReLU(unseen.slope, inplace=True) if unseen.slope else nn.ReLU(inplace=True))
    return modules


class DnCNN(nn.Module):  # type: ignore[misc]
    """Plain convolutions with rectifiers between them: DnCNN, FDnCNN and, with dilations, IRCNN.

    Parameters
    ----------
    layers : sequence of Layer
        From the first to the last; FDnCNN has the noise level as a further input channel.
    eps : float
        Of batch normalisation.
    adds_input : bool
        Whether the input is added to what the network returns, in implementations that learn the negative noise.
    unseen : Unseen
        Slope of the rectifiers.

    References
    ----------
    Zhang et al., "Beyond a Gaussian denoiser", IEEE TIP 26(7), 2017; Zhang et al., "Learning deep CNN denoiser prior
    for image restoration", CVPR 2017.
    """

    def __init__(
        self, layers: Sequence[Layer], eps: float = 1e-5, adds_input: bool = False, unseen: Unseen = _USUAL
    ) -> None:
        super().__init__()
        self.adds_input = adds_input
        *modules, _rectifier = block(layers, eps, unseen)
        self.body = nn.Sequential(*modules)

    def forward(self, x: Any) -> Any:
        """Return what the last convolution returns: the noise, or the image."""
        y = self.body(x)
        return x[:, : y.shape[1]] + y if self.adds_input else y


class FFDNet(nn.Module):  # type: ignore[misc]
    """Convolutions on an image taken apart into its four half-size phases, told the noise level.

    Parameters
    ----------
    layers : sequence of Layer
        The first takes the phases with the noise map, the last returns phases.
    eps : float
        Of batch normalisation.
    map_first : bool
        Whether the noise map comes before the phases, once per colour, as in the PyTorch port of the IPOL article.
    unseen : Unseen
        Slope of the rectifiers.

    References
    ----------
    Zhang et al., "FFDNet: Toward a fast and flexible solution for CNN-based image denoising", IEEE TIP 27(9), 2018;
    Tassano et al., "An analysis and implementation of the FFDNet image denoising method", IPOL 9, 2019.
    """

    def __init__(
        self, layers: Sequence[Layer], eps: float = 1e-5, map_first: bool = False, unseen: Unseen = _USUAL
    ) -> None:
        super().__init__()
        self.maps = layers[0].inputs - layers[-1].outputs
        self.map_first = map_first
        *modules, _rectifier = block(layers, eps, unseen)
        self.body = nn.Sequential(*modules)

    def forward(self, x: Any, sigma: Any) -> Any:
        """Return the image, or the noise with `map_first`.

        `sigma` has shape (N,), (N, 1, 1, 1), or (N, 1, H, W) for noise that varies.
        """
        height, width = x.shape[-2:]
        phases = functional.pixel_unshuffle(
            functional.pad(x, (0, width % 2, 0, height % 2), mode="replicate") if height % 2 or width % 2 else x, 2
        )
        level = sigma[:, None, None, None] if sigma.dim() == 1 else sigma[:, :, ::2, ::2]
        level = level.expand(len(x), self.maps, *phases.shape[-2:])
        y = self.body(torch.cat((level, phases) if self.map_first else (phases, level), 1))
        return functional.pixel_shuffle(y, 2)[..., :height, :width]


class _Residual(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        layer = Layer(width, width, bias=bias)
        self.body = nn.Sequential(convolution(layer), nn.ReLU(inplace=True), convolution(layer))

    def forward(self, x: Any) -> Any:
        return x + self.body(x)


class DRUNet(nn.Module):  # type: ignore[misc]
    """A U-Net of residual blocks whose skip connections add, with strided and transposed convolutions between levels.

    Parameters
    ----------
    inputs, outputs : int
        Channels; the noise level is the last input channel.
    widths : sequence of int
        Channels of the levels, from full size down.
    blocks : int
        Residual blocks of each level.
    bias : bool
        Whether convolutions have biases.

    References
    ----------
    Zhang et al., "Plug-and-play image restoration with deep denoiser prior", IEEE TPAMI 44(10), 2022.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int] = (64, 128, 256, 512),
        blocks: int = 4,
        bias: bool = False,
    ) -> None:
        super().__init__()
        levels = list(itertools.pairwise(widths))
        self.head = convolution(Layer(inputs, widths[0], bias=bias))
        self.down = nn.ModuleList(
            nn.Sequential(
                *(_Residual(wide, bias) for _ in range(blocks)), convolution(Layer(wide, deep, 2, bias), stride=2)
            )
            for wide, deep in levels
        )
        self.bottom = nn.Sequential(*(_Residual(widths[-1], bias) for _ in range(blocks)))
        self.up = nn.ModuleList(
            nn.Sequential(
                convolution(Layer(deep, wide, 2, bias, transposed=True), stride=2),
                *(_Residual(wide, bias) for _ in range(blocks)),
            )
            for wide, deep in reversed(levels)
        )
        self.tail = convolution(Layer(widths[0], outputs, bias=bias))

    def forward(self, x: Any) -> Any:
        """Return the image; height and width are multiples of 2 to the number of levels below the first."""
        skips = [self.head(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        y = self.bottom(skips[-1])
        for up in self.up:
            y = up(y + skips.pop())
        return self.tail(y + skips.pop())


@dataclass(frozen=True)
class Step:
    """One level of a decoder."""

    up: Layer | None
    """Convolution that doubles the size, or follows the doubling; None if nothing learned does."""
    layers: tuple[Layer, ...]


class UNet(nn.Module):  # type: ignore[misc]
    """A plain U-Net: convolutions and 2x2 pooling down, doubling and concatenated skip connections up.

    Parameters
    ----------
    down : sequence of sequences of Layer
        Blocks of the encoder, the last of which is the bottom.
    up : sequence of Step
        Blocks of the decoder, from the bottom up.
    last : Layer
        Returns the image or the noise; no rectifier follows.
    unseen : Unseen
        How the size is doubled and halved, and the slope of the rectifiers.
    skip_first : bool
        Whether the skip connection comes before what was upsampled.
    adds_input : bool
        Whether the input is added to what the network returns.
    eps : float
        Of batch normalisation.

    References
    ----------
    Ronneberger et al., "U-Net: Convolutional networks for biomedical image segmentation", MICCAI 2015.
    """

    def __init__(
        self,
        down: Sequence[Sequence[Layer]],
        up: Sequence[Step],
        last: Layer,
        unseen: Unseen = _USUAL,
        skip_first: bool = True,
        adds_input: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.upsampling, self.skip_first, self.adds_input = unseen.upsampling, skip_first, adds_input
        self.pool = functional.avg_pool2d if unseen.pooling == "average" else functional.max_pool2d
        self.down = nn.ModuleList(nn.Sequential(*block(layers, eps, unseen)) for layers in down)
        self.up = nn.ModuleList()
        for step in up:
            learned: Any = nn.Identity()
            if step.up is not None:
                learned = (
                    convolution(step.up, 2) if step.up.transposed else nn.Sequential(*block([step.up], eps, unseen))
                )
            self.up.append(nn.ModuleList([learned, nn.Sequential(*block(step.layers, eps, unseen))]))
        self.last = convolution(last)

    def forward(self, x: Any) -> Any:
        """Return the image, or the noise; height and width are multiples of 2 to the number of decoder blocks."""
        skips = [self.down[0](x)]
        for down in self.down[1:]:
            skips.append(down(self.pool(skips[-1], 2)))
        y = skips.pop()
        for learned, layers in self.up:
            y = learned(y if self.upsampling == "transposed" else self._doubled(y))
            y = layers(torch.cat((skips.pop(), y) if self.skip_first else (y, skips.pop()), 1))
        y = self.last(y)
        return x[:, : y.shape[1]] + y if self.adds_input else y

    def _doubled(self, x: Any) -> Any:
        if self.upsampling == "nearest":
            return functional.interpolate(x, scale_factor=2, mode="nearest")
        corners = self.upsampling == "bilinear corners"
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=corners)
