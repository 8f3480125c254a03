"""Faces as files of FER2013, for tests: rows of the csv from tiles of photographs, and what loads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchbox import BenchboxError, ImageSet
from benchbox.builtin.datasets.fer2013 import Fer2013

Faces = NDArray[np.uint8]
USAGES = ("Training",) * 5 + ("PublicTest",) * 4 + ("PrivateTest",) * 3


def row(image: Faces, emotion: int = 3, usage: str = "PublicTest") -> str:
    return f"{emotion},{' '.join(map(str, image.ravel().tolist()))},{usage}"


def write(path: Path, rows: Sequence[str], header: str = "emotion,pixels,Usage", end: str = "\n") -> Path:
    path.write_bytes("".join(line + end for line in (header, *rows)).encode())
    return path


def load(path: Path, split: str = "", *, skip_bad: bool = False) -> ImageSet:
    return Fer2013().load(path, split=split, skip_bad=skip_bad)


def pixels(images: ImageSet) -> Faces:
    return np.rint(images.stack(np.arange(len(images))) * 255).astype(np.uint8)


def refused(path: Path, split: str = "") -> BenchboxError:
    with pytest.raises(BenchboxError) as caught:
        load(path, split)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value


def edited(csv: Path, line: int, change: Callable[[str], str]) -> Path:
    lines = csv.read_text().splitlines(keepends=True)
    lines[line - 1] = change(lines[line - 1])
    csv.write_bytes("".join(lines).encode())
    return csv


def value(text: str, replacement: str, position: int) -> str:
    """Replace one pixel of a row."""
    emotion, values, usage = text.split(",")
    words = values.split()
    words[position] = replacement
    return f"{emotion},{' '.join(words)},{usage}"


def forbidden(self: object) -> Iterator[None]:
    raise AssertionError("parsed again")
