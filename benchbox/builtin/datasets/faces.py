"""Facts of FER2013 (size, splits, emotions) and the parsed faces of one file or folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SIDE = 48
PIXELS = SIDE * SIDE
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
OTHER_EMOTION = len(EMOTIONS)
"""Code of a face whose label is none of the seven, as the contempt of some editions, or missing."""

EMOTION_NAMES = (*EMOTIONS, "other")
SPLITS = ("Training", "PublicTest", "PrivateTest")
"""What stands in the column Usage; the position is the code that is stored."""

BOTH_TESTS = "PublicTest+PrivateTest"
"""Both test splits together: all that a folder whose file names do not tell them apart can offer."""

UNNAMED_TEST = len(SPLITS)
"""Code of a face that is in one of the two test splits, unknown which."""

_BLOCK = 4096


@dataclass(frozen=True)
class Rows:
    """Some parsed faces on their way into the cache.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (M, 2304)
    emotion, usage : ndarray of uint8, shape (M,)
        Positions in `EMOTIONS` and `SPLITS`.
    """

    pixels: NDArray[np.uint8]
    emotion: NDArray[np.uint8]
    usage: NDArray[np.uint8]


@dataclass(frozen=True)
class Faces:
    """All faces of one csv or folder.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (N, 48, 48)
        A memory map.
    emotion, usage : ndarray of uint8, shape (N,)
        Positions in `EMOTIONS`, and in `SPLITS` or `UNNAMED_TEST`.
    digests : dict of str to str
        Hex digest of the pixels of each usage code that occurs, keyed by the code as text.
    skipped : dict of str to str
        What was left out as damaged ('line 7', a relative path) and why.
    """

    pixels: NDArray[np.uint8]
    emotion: NDArray[np.uint8]
    usage: NDArray[np.uint8]
    digests: dict[str, str]
    skipped: dict[str, str] = field(default_factory=dict)


def codes_of(split: str) -> tuple[int, ...]:
    """Usage codes that make up a split."""
    if split == BOTH_TESTS:
        return (SPLITS.index("PublicTest"), SPLITS.index("PrivateTest"), UNNAMED_TEST)
    return (SPLITS.index(split),)


def blocks_of(pixels: NDArray[np.uint8], rows: NDArray[np.intp]) -> Iterator[NDArray[np.uint8]]:
    """Give the faces at ascending `rows` in C-contiguous blocks, without a copy where the rows are consecutive."""
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        consecutive = int(part[-1]) - int(part[0]) + 1 == len(part)
        yield pixels[part[0] : part[-1] + 1] if consecutive else pixels[part]
