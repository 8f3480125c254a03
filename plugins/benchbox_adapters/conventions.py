"""How a model is called: channels, range and size of its images, place of the noise level, and what it returns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchbox import BenchboxError, Images, Sigma

Tensor = NDArray[Any]
Side = int | None
Pad = Literal["reflect", "replicate"]
Call = Callable[[Tensor, Sigma], Tensor]
"""Maps stacks of shape (N, H, W, C), and the noise level of each image, to stacks of the same height and width."""

MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge"}
SigmaInput = Literal["none", "channel", "input", "vector", "scalar"]
"""Where the noise level goes: nowhere, behind the channels, or into a second input, as a map, (N, ...) or ()."""


@dataclass(frozen=True)
class Input:
    """One input of a model."""

    shape: tuple[Side, ...] | None
    """None where any length is accepted; None as a whole if even the number of axes is unknown."""
    dtype: str = "float32"

    @property
    def is_whole(self) -> bool:
        """Whether it takes whole numbers, which are levels from 0 to 255."""
        return "int" in self.dtype

    def __str__(self) -> str:
        sides = (
            "any"
            if self.shape is None
            else f"({', '.join('any' if side is None else str(side) for side in self.shape)})"
        )
        return f"{self.dtype} of shape {sides}"


@dataclass(frozen=True)
class Opened:
    """A model that is ready to run."""

    inputs: tuple[Input, ...]
    layout: str
    """Common position of the channels in this file format, 'nhwc' or 'nchw'."""
    run: Callable[..., Tensor]
    """Maps one array per input, all float32, to the output, float32."""
    needed: int = 0
    """Inputs that must be given; the others may be left out. 0 for all."""


@dataclass(frozen=True)
class Form:
    """Which arrays a model takes."""

    channels: int | None
    """Channels of the image, 1 or 3; None for a model without a channel axis."""
    axis: int
    """Channel axis."""
    sigma: SigmaInput
    rank: int = 1
    """Number of axes of a vector of noise levels."""
    image: int = 0
    """Which of two inputs is the image."""

    @property
    def label(self) -> str:
        """In words, for error messages."""
        channels = f"{self.channels} channel{'s' if self.channels == 3 else ''}" if self.channels else "no channels"
        sigma = {"none": "without sigma", "vector": f"sigma as a vector of {self.rank} axes"}
        return f"{channels}, {sigma.get(self.sigma, f'sigma as {self.sigma}')}"


@dataclass(frozen=True)
class Sizing:
    """Which sizes a model takes, and how images of other sizes are brought to one."""

    batch: Side = None
    """Fixed number of images per call; None if any number works."""
    size: tuple[Side, Side] = (None, None)
    """Fixed height and width; None if any works. Larger images are cut into tiles of this size."""
    multiple: int = 1
    """Other sides are padded to a multiple of this, and cropped afterwards."""
    square: bool = False
    """Whether height and width must be equal."""
    pad: Pad = "reflect"
    tile: int | None = None
    """Longest side of a call; None for whole images."""
    overlap: int = 32
    """Pixels that neighbouring tiles share; each half comes from the tile that has more context for it."""

    def run(self, call: Call, images: Tensor, sigma: Sigma) -> Tensor:
        """Run a model on a stack (N, H, W, C) of any size."""
        height, width = images.shape[1:3]
        tallest, widest = (fixed or self.tile for fixed in self.size)
        result: Tensor | None = None
        for rows in _tiles(height, tallest, self.overlap):
            for columns in _tiles(width, widest, self.overlap):
                part = self._run_whole(call, images[:, rows.start : rows.stop, columns.start : columns.stop], sigma)
                if result is None:
                    result = np.empty((*images.shape[:3], part.shape[3]), np.float32)
                result[:, rows.first : rows.last, columns.first : columns.last] = part[
                    :,
                    rows.first - rows.start : rows.last - rows.start,
                    columns.first - columns.start : columns.last - columns.start,
                ]
        assert result is not None
        return result

    def _run_whole(self, call: Call, images: Tensor, sigma: Sigma) -> Tensor:
        count, height, width = images.shape[:3]
        sides = [
            fixed or -(-side // self.multiple) * self.multiple
            for side, fixed in zip((height, width), self.size, strict=True)
        ]
        if self.square:
            sides = [max(sides)] * 2
        if sides != [height, width]:
            added = ((0, 0), (0, sides[0] - height), (0, sides[1] - width), (0, 0))
            images = np.pad(images, added, mode=_MODES[self.pad])
        if self.batch is None:
            denoised = call(images, sigma)
        else:
            parts = []
            for at in range(0, count, self.batch):
                # A last, short batch is filled up by repetition.
                places = np.resize(np.arange(at, min(at + self.batch, count)), self.batch)
                parts.append(call(images[places], sigma[places]))
            denoised = np.concatenate(parts)[:count]
        return denoised[:, :height, :width]

    @property
    def label(self) -> str:
        """What is done to images of other sizes, in words; empty if nothing is."""
        if None not in self.size:
            return f"padded or cut to {self.size[0]}x{self.size[1]}, overlap {self.overlap}"
        padded = [f"multiples of {self.multiple}"] if self.multiple > 1 else []
        padded += ["squares"] if self.square else []
        words = [f"padded to {' and '.join(padded)}"] if padded else []
        words += [f"tiles of {self.tile}, overlap {self.overlap}"] if self.tile else []
        return ", ".join(words)


@dataclass(frozen=True)
class Convention:
    """Everything that must be known to denoise with a model."""

    form: Form
    sizing: Sizing
    low: float = 0.0
    high: float = 1.0
    """Values of black and white."""
    sigma_scale: float = 1.0
    """What a noise level of 1 on the [0, 1] scale is to the model."""
    residual: bool = False
    """Whether it returns the noise instead of the image."""
    bgr: bool = False
    """Whether blue comes first."""
    gain: float = -math.inf
    """Gain in PSNR on the test images, in dB; minus infinity before it is measured."""

    def denoise(self, opened: Opened, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack (N, H, W) or (N, H, W, 3)."""
        grey = noisy.ndim == 3
        images = noisy[..., np.newaxis] if grey else noisy
        if self.form.channels == 3 and grey:
            images = np.repeat(images, 3, axis=3)
        span = np.float32(self.high - self.low)
        values = images * span + np.float32(self.low)
        if self.bgr:
            values = values[..., ::-1]
        answer = self.answer(opened, values, sigma)
        if answer.shape[3] == 1 and not grey:
            raise BenchboxError("the model returns grey images for colour ones", hint="use a model that returns colour")
        if self.bgr and answer.shape[3] == 3:
            answer = answer[..., ::-1]
        result = images - answer / span if self.residual else (answer - np.float32(self.low)) / span
        if grey:
            result = result.mean(axis=3) if result.shape[3] > 1 else result[..., 0]
        return np.ascontiguousarray(result, dtype=np.float32)

    def answer(self, opened: Opened, values: Tensor, sigma: Sigma | None) -> Tensor:
        """What the model returns for images (N, H, W, C) on its own scale."""
        form = self.form
        if form.sigma == "none":
            levels = np.zeros(len(values), np.float32)
        elif sigma is None:
            raise BenchboxError("the model takes the noise level, but none is given", hint="give or estimate it")
        else:
            levels = sigma * np.float32(self.sigma_scale)
        if form.sigma != "scalar":
            return self.sizing.run(lambda x, level: _call(opened, form, x, level), values, levels)
        # One number for a whole call: images of one level go together.
        result: Tensor | None = None
        for level in np.unique(levels):
            places = np.flatnonzero(levels == level)
            part = self.sizing.run(lambda x, level: _call(opened, form, x, level), values[places], levels[places])
            result = np.empty((len(values), *part.shape[1:]), np.float32) if result is None else result
            result[places] = part
        assert result is not None
        return result


def _call(opened: Opened, form: Form, images: Tensor, levels: Sigma) -> Tensor:
    """Call a model with images (N, H, W, C) that have a size it takes."""
    count, height, width, channels = images.shape
    if form.channels is None:
        x = images[..., 0]
    else:
        if form.sigma == "channel":
            level = np.broadcast_to(levels[:, np.newaxis, np.newaxis, np.newaxis], (count, height, width, 1))
            images = np.concatenate([images, level], axis=3)
        x = images if form.axis == 3 else np.moveaxis(images, 3, 1)
    arrays = [np.ascontiguousarray(x, dtype=np.float32)]
    if form.sigma in ("input", "vector", "scalar"):
        arrays.insert(1 - form.image, _level_array(form, levels, height, width))
    y = opened.run(*arrays)
    where = (count, height, width)
    if form.channels is None:
        shape = y.shape
        y = y[..., np.newaxis] if y.ndim == 3 else y
    else:
        shape = y.shape
        y = np.moveaxis(y, 1, 3) if form.axis == 1 and y.ndim == 4 else y
    if y.ndim != 4 or y.shape[:3] != where or y.shape[3] not in (1, channels):
        raise BenchboxError(
            f"the model returns shape {shape} for an input of shape {x.shape}",
            hint="use a model whose output has the size of its input",
        )
    return y


def _level_array(form: Form, levels: Sigma, height: int, width: int) -> Tensor:
    """The noise level as a second input."""
    count = len(levels)
    if form.sigma == "scalar":
        return np.asarray(levels[0], np.float32).reshape((1,) * form.rank)
    if form.sigma == "vector":
        return np.ascontiguousarray(levels.reshape(count, *(1,) * (form.rank - 1)))
    if form.channels is None:
        shape: tuple[int, ...] = (count, height, width)
    else:
        shape = (count, height, width, 1) if form.axis == 3 else (count, 1, height, width)
    return np.ascontiguousarray(np.broadcast_to(levels.reshape(count, *(1,) * (len(shape) - 1)), shape))


@dataclass(frozen=True)
class _Tile:
    """One axis of a tile: pixels `start` to `stop` are given to the model, `first` to `last` are kept."""

    start: int
    stop: int
    first: int
    last: int


def _tiles(length: int, longest: int | None, overlap: int) -> Iterator[_Tile]:
    """Cut a side into equally long tiles that overlap by at least `overlap` pixels."""
    if longest is None or length <= longest:
        yield _Tile(0, length, 0, length)
        return
    count = -(-(length - overlap) // (longest - overlap))
    starts = [round(place * (length - longest) / (count - 1)) for place in range(count)]
    # The seam of two tiles is the middle of what they share.
    seams = [0, *((left + longest + right) // 2 for left, right in itertools.pairwise(starts)), length]
    for start, (first, last) in zip(starts, itertools.pairwise(seams), strict=True):
        yield _Tile(start, start + longest, first, last)
