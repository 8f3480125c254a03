"""Folders of pictures for tests: files of any format, and what loads them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchbox import ImageSet
from benchbox.builtin.datasets.images import ImageFolder
from benchbox.records.options import Color

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


def save(path: Path, pixels: Pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = pixels[..., ::-1] if pixels.ndim == 3 and pixels.shape[2] == 3 else pixels
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(colour))
    assert done
    path.write_bytes(bytes(data))
    return path


def load(path: Path, *, skip_bad: bool = False, color: Color = "grey") -> ImageSet:
    return ImageFolder().colored(color).load(path, skip_bad=skip_bad)


def one(found: ImageSet, index: int = 0) -> NDArray[np.float32]:
    image: NDArray[np.float32] = found.stack(np.array([index], dtype=np.intp))[0]
    return image


def luminance(pixels: Pixels | NDArray[np.float32]) -> NDArray[np.float64]:
    red, green, blue = (pixels[..., channel].astype(np.float64) for channel in range(3))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]
