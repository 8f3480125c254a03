"""Runs a model on images of any size: pads them, cuts them into tiles and fills batches, where the model needs it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchbox import Sigma

Tensor = NDArray[Any]
Side = int | None
Pad = Literal["reflect", "replicate"]
Call = Callable[[Tensor, Sigma], Tensor]
"""Maps stacks of shape (N, H, W, C), and the noise level of each image, to stacks of the same height and width."""

MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge"}


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
