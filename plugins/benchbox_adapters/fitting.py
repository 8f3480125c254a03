"""Converts images to a model's layout, channels, size and scale, and back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchbox import BenchboxError, Image, Images
from benchbox_adapters.runtimes import Opened, Side, Tensor

_RANGES = 1.0, 255.0
_MULTIPLES = 1, 2, 4, 8, 16, 32
_CHANNELS = 1, 3
_NOISE = 0.1


@dataclass(frozen=True)
class Fit:
    """How images go into a model and come out.

    Attributes
    ----------
    channels : int or None
        1, or 3, for which grey is repeated and the answer averaged; None for a model without that axis.
    axis : int
        Where the channels are.
    batch : int or None
        Images a call, where the model is laid out for a number of them.
    size : tuple of (int or None)
        Height and width that the model takes; None where any.
    multiple : int
        Free sizes are extended to a multiple of it, mirrored, and cut again.
    scale : float
        Value of white.
    residual : bool
        Whether the model gives the noise.
    """

    channels: int | None
    axis: int
    batch: Side
    size: tuple[Side, Side]
    multiple: int = 1
    scale: float = 1.0
    residual: bool = False

    def apply(self, opened: Opened, noisy: Images) -> Images:
        """Denoise a stack with the model."""
        answer = self.forward(opened, noisy * np.float32(self.scale)) / np.float32(self.scale)
        result: Images = noisy - answer if self.residual else answer
        return result

    def forward(self, opened: Opened, images: Images) -> Images:
        """Run the model on a stack of any size that it can take."""
        count, height, width = images.shape
        rows, columns = (self._extension(have, want) for have, want in zip((height, width), self.size, strict=True))
        x: Tensor = np.pad(images, ((0, 0), (0, rows), (0, columns)), mode="symmetric").astype(opened.dtype)
        if self.channels is not None:
            x = np.repeat(np.expand_dims(x, self.axis), self.channels, axis=self.axis)
        if self.batch is None:
            y = opened.run(x)
        else:
            starts = range(0, count, self.batch)
            y = np.concatenate(
                [opened.run(np.resize(x[at : at + self.batch], (self.batch, *x.shape[1:]))) for at in starts]
            )
            y = y[:count]
        grey = x.shape if self.channels is None else (*x.shape[: self.axis], 1, *x.shape[self.axis + 1 :])
        if y.shape not in (x.shape, grey):
            raise BenchboxError(
                f"the model gives {y.shape} for {x.shape}", hint="one image in, one of the same size out"
            )
        if self.channels is not None:
            y = y.mean(axis=self.axis)
        result: Images = np.ascontiguousarray(y[:, :height, :width], dtype=np.float32)
        return result

    def _extension(self, have: int, want: Side) -> int:
        if want is None:
            return -have % self.multiple
        if have > want:
            height, width = ("any" if side is None else side for side in self.size)
            raise BenchboxError(
                f"the model takes images of {height}x{width} pixels, here is one with a side of {have}",
                hint="give images of that size or smaller, or save the model with free sizes",
            )
        return want - have


def fit(opened: Opened, path: Path, residual: bool | None, scale: float | None, layout: str | None) -> Fit:
    """Find out how images go into a model, as far as it is not given.

    Raises
    ------
    BenchboxError
        The model does not take images, or no way that was tried improves a noisy picture.
    """
    found = _read_shape(opened, path, layout)
    if found.size == (None, None):
        found = _find_multiple(opened, found, path)
    if residual is not None and scale is not None:
        return replace(found, residual=residual, scale=scale)
    height, width = (side or 48 for side in found.size)
    clean = picture(height, width)
    noisy = clean + np.float32(_NOISE) * np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)
    ways = [
        replace(found, residual=one, scale=other)
        for other, one in itertools.product(
            _RANGES if scale is None else (scale,), (False, True) if residual is None else (residual,)
        )
    ]
    scores = [_psnr(clean, way.apply(opened, noisy[np.newaxis])[0]) for way in ways]
    best = max(range(len(ways)), key=scores.__getitem__)
    before = _psnr(clean, noisy)
    if not scores[best] > before:
        tried = ", ".join(
            f"range={way.scale:g} residual={str(way.residual).lower()}: {score:.1f} dB"
            for way, score in zip(ways, scores, strict=True)
        )
        raise BenchboxError(
            f"{path}: no way to feed the model improves a picture of {before:.1f} dB with Gaussian noise ({tried})",
            hint="if it is for other noise, say both, as in range=255,residual=true; else look at how it was trained",
        )
    return ways[best]


def picture(height: int, width: int) -> Image:
    """A drawn picture with slopes, waves, an edge and a disc, values from 0 to 1."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = 0.5 + 0.2 * np.sin(x / 7) * np.cos(y / 9) + 0.15 * (x / width - 0.5)
    disc = 0.25 * ((x - 0.65 * width) ** 2 + (y - 0.35 * height) ** 2 < (0.2 * min(height, width)) ** 2)
    result: Image = (waves + disc - 0.2 * (y > 0.7 * height)).clip(0, 1).astype(np.float32)
    return result


def _read_shape(opened: Opened, path: Path, layout: str | None) -> Fit:
    shape = opened.shape
    expects = f"{path} takes {opened.dtype} of shape {tuple('any' if side is None else side for side in shape)}"
    if not np.issubdtype(opened.dtype, np.floating):
        raise BenchboxError(expects, hint="a model that takes floating-point images is expected")
    if len(shape) == 3:
        return Fit(None, 0, shape[0], (shape[1], shape[2]))
    if len(shape) != 4:
        raise BenchboxError(expects, hint="images of shape (N, H, W), (N, H, W, C) or (N, C, H, W) are expected")
    axes = {"nhwc": 3, "nchw": 1}
    kinds = {name: axis for name, axis in axes.items() if shape[axis] in (None, *_CHANNELS)}
    fixed = [name for name, axis in axes.items() if shape[axis] in _CHANNELS]
    # The usual layout of its kind where the shape leaves both open.
    chosen = layout or (fixed[0] if len(fixed) == 1 else opened.layout)
    if chosen not in kinds:
        raise BenchboxError(
            f"{expects}: not one or three channels in the layout {chosen}",
            hint="a model of grey or colour images is expected; see the option layout",
        )
    axis = axes[chosen]
    height, width = (shape[1], shape[2]) if axis == 3 else (shape[2], shape[3])
    return Fit(shape[axis] or 1, axis, shape[0], (height, width))


def _find_multiple(opened: Opened, found: Fit, path: Path) -> Fit:
    """The smallest multiple that sides must have, which networks that shrink images inside ask for."""
    odd = picture(33, 37)[np.newaxis]
    reason: Any = None
    for multiple in _MULTIPLES:
        way = replace(found, multiple=multiple)
        try:
            way.forward(opened, odd)
        except Exception as error:
            reason = reason or error
        else:
            return way
    raise BenchboxError(
        f"{path} takes no image of 33x37 pixels, also extended to multiples of {_MULTIPLES[-1]}: "
        f"{str(reason).strip().splitlines()[0]}",
        hint="save the model with the size of your images",
    )


def _psnr(clean: Image, denoised: Image) -> float:
    return float(-10 * np.log10(np.square(denoised.clip(0, 1) - clean).mean() + 1e-12))
