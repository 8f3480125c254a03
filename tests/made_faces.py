"""Faces as files of FER2013, for tests: rows of the csv from tiles of photographs, and what loads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchbox import BenchboxError, ImageSet
from benchbox.builtin.datasets.fer2013 import Fer2013

Faces = NDArray[np.uint8]
USAGES = ("Training",) * 5 + ("PublicTest",) * 4 + ("PrivateTest",) * 3

_USAGES = {"Training": "Training", "PublicTest": "PublicTest", "PrivateTest": "PrivateTest"} | {
    **dict.fromkeys(("train", "Train", "training"), "Training"),
    **dict.fromkeys(("val", "Val", "valid", "Valid", "validation", "Validation"), "PublicTest"),
    **dict.fromkeys(("test", "Test"), "Test"),
}
_BLANK = r"[ \t]*+"
_CONTENT = {
    "pixels": r"([0-9]+(?:[ \t]+[0-9]+)*)",
    "emotion": "([0-9])",
    "usage": f"({'|'.join(_USAGES)})",
}


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


def reference(text: bytes) -> list[tuple[int, str, list[int]]] | None:
    """Parse a csv slowly: one regular expression a row. None where it is refused."""
    header, _, body = text.decode("latin-1").partition("\n")
    names = [name.strip().lower() for name in header.split(",")]
    fields = []
    for name in names:
        if name in _CONTENT:
            content = _CONTENT[name].replace("(", f"(?P<{name}>", 1)
            twin = _CONTENT[name].replace("(", f"(?P<{name}_quoted>", 1)
            fields.append(rf'{_BLANK}(?:{content}|"{_BLANK}{twin}[ \t]*"){_BLANK}')
        else:
            fields.append(rf'{_BLANK}(?:"(?:[^"]|"")*+"{_BLANK}|(?!")[^,]*)')
    pattern = re.compile(",".join(fields))
    found = []
    lines = body.split("\n")
    for line in lines if lines[-1] else lines[:-1]:
        line = line.removesuffix("\r")
        if not line.strip(" \t"):
            continue
        match = pattern.fullmatch(line)
        if match is None:
            return None
        picked = {name: match[name] or match[f"{name}_quoted"] for name in _CONTENT}
        values = [int(word) for word in picked["pixels"].split()]
        if len(values) != 2304 or max(values) > 255:
            return None
        found.append((min(int(picked["emotion"]), 7), _USAGES[picked["usage"]], values))
    return found or None
