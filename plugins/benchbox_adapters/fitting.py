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
    """How to convert images to a model's input and back."""

    channels: int | None
    """1, or 3: grey is repeated and the output averaged; None for a model without a channel axis."""
    axis: int
    """Channel axis."""
    batch: Side
    """Fixed number of images per call; None if any number works."""
    size: tuple[Side, Side]
    """Fixed height and width; None if any size works."""
    multiple: int = 1
    """Other sizes are extended by mirroring to a multiple of this, and cropped afterwards."""
    scale: float = 1.0
    """Value of white."""
    residual: bool = False
    """Whether the model returns the noise instead of the image."""

    def apply(self, opened: Opened, noisy: Images) -> Images:
        """Denoise a stack with the model."""
        answer = self.forward(opened, noisy * np.float32(self.scale)) / np.float32(self.scale)
        result: Images = noisy - answer if self.residual else answer
        return result

    def forward(self, opened: Opened, images: Images) -> Images:
        """Run the model on a stack of any size that it supports."""
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
                f"the model returns shape {y.shape} for an input of shape {x.shape}",
                hint="use a model whose output has the size of its input",
            )
        if self.channels is not None:
            y = y.mean(axis=self.axis)
        result: Images = np.ascontiguousarray(y[:, :height, :width], dtype=np.float32)
        return result

    def _extension(self, side: int, fixed: Side) -> int:
        if fixed is None:
            return -side % self.multiple
        if side > fixed:
            height, width = ("any" if length is None else length for length in self.size)
            raise BenchboxError(
                f"the model takes images of {height}x{width} pixels, got one with a side of {side}",
                hint="use images of that size or smaller, or save the model with variable sizes",
            )
        return fixed - side


def fit(opened: Opened, path: Path, residual: bool | None, scale: float | None, layout: str | None) -> Fit:
    """Find out how to convert images for a model, unless options say so.

    Raises `BenchboxError` if the model does not take images, or if no candidate improves a noisy test image.
    """
    shaped = _read_shape(opened, path, layout)
    if shaped.size == (None, None):
        shaped = _find_multiple(opened, shaped, path)
    if residual is not None and scale is not None:
        return replace(shaped, residual=residual, scale=scale)
    height, width = (side or 48 for side in shaped.size)
    clean = picture(height, width)
    noisy = clean + np.float32(_NOISE) * np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)
    candidates = [
        replace(shaped, residual=returns_noise, scale=white)
        for white, returns_noise in itertools.product(
            _RANGES if scale is None else (scale,), (False, True) if residual is None else (residual,)
        )
    ]
    scores = [_psnr(clean, candidate.apply(opened, noisy[np.newaxis])[0]) for candidate in candidates]
    best = max(range(len(candidates)), key=scores.__getitem__)
    before = _psnr(clean, noisy)
    if not scores[best] > before:
        tried = ", ".join(
            f"range={candidate.scale:g} residual={str(candidate.residual).lower()}: {score:.1f} dB"
            for candidate, score in zip(candidates, scores, strict=True)
        )
        raise BenchboxError(
            f"{path}: no range and residual improve a noisy test image of {before:.1f} dB ({tried})",
            hint="check how the model was trained; if it is for another noise, set both, as in range=255,residual=true",
        )
    return candidates[best]


def picture(height: int, width: int) -> Image:
    """Synthetic test image with slopes, waves, an edge and a disc, values from 0 to 1."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = 0.5 + 0.2 * np.sin(x / 7) * np.cos(y / 9) + 0.15 * (x / width - 0.5)
    disc = 0.25 * ((x - 0.65 * width) ** 2 + (y - 0.35 * height) ** 2 < (0.2 * min(height, width)) ** 2)
    result: Image = (waves + disc - 0.2 * (y > 0.7 * height)).clip(0, 1).astype(np.float32)
    return result


def _read_shape(opened: Opened, path: Path, layout: str | None) -> Fit:
    shape = opened.shape
    expects = f"{path} takes {opened.dtype} of shape {tuple('any' if side is None else side for side in shape)}"
    if not np.issubdtype(opened.dtype, np.floating):
        raise BenchboxError(expects, hint="use a model that takes floating-point images")
    if len(shape) == 3:
        return Fit(None, 0, shape[0], (shape[1], shape[2]))
    if len(shape) != 4:
        raise BenchboxError(expects, hint="use a model for shape (N, H, W), (N, H, W, C) or (N, C, H, W)")
    axes = {"nhwc": 3, "nchw": 1}
    possible = [name for name, axis in axes.items() if shape[axis] in (None, *_CHANNELS)]
    fixed = [name for name, axis in axes.items() if shape[axis] in _CHANNELS]
    # If the shape allows both layouts, use the one that is common for this file format.
    chosen = layout or (fixed[0] if len(fixed) == 1 else opened.layout)
    if chosen not in possible:
        raise BenchboxError(
            f"{expects}: not one or three channels in the layout {chosen}",
            hint="use a model for grey or colour images, or set the option layout",
        )
    axis = axes[chosen]
    height, width = (shape[1], shape[2]) if axis == 3 else (shape[2], shape[3])
    return Fit(shape[axis] or 1, axis, shape[0], (height, width))


def _find_multiple(opened: Opened, shaped: Fit, path: Path) -> Fit:
    """Find the smallest multiple that sides must have, which networks with downsampling require."""
    odd = picture(33, 37)[np.newaxis]
    reason: Any = None
    for multiple in _MULTIPLES:
        candidate = replace(shaped, multiple=multiple)
        try:
            candidate.forward(opened, odd)
        except Exception as error:
            reason = reason or error
        else:
            return candidate
    raise BenchboxError(
        f"{path} rejects an image of 33x37 pixels, even extended to multiples of {_MULTIPLES[-1]}: "
        f"{str(reason).strip().splitlines()[0]}",
        hint="save the model with the size of your images",
    )


def _psnr(clean: Image, denoised: Image) -> float:
    return float(-10 * np.log10(np.square(denoised.clip(0, 1) - clean).mean() + 1e-12))
