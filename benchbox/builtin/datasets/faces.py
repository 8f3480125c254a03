"""Facts about FER2013 (size, splits, emotions) and the parsed faces of one csv or folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SIDE = 48
PIXELS = SIDE * SIDE
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
OTHER_EMOTION = len(EMOTIONS)
"""Code of a face without a label, or with another one, such as the contempt of some editions."""

EMOTION_NAMES = (*EMOTIONS, "other")
SPLITS = ("Training", "PublicTest", "PrivateTest")
"""Values of the column Usage; the position is the code that is stored."""

BOTH_TESTS = "PublicTest+PrivateTest"
"""Both test splits together: all that a folder offers if its file names do not tell them apart."""

UNNAMED_TEST = len(SPLITS)
"""Code of a face that is in one of the two test splits, but it is unknown in which."""

_BLOCK = 4096


@dataclass(frozen=True)
class Rows:
    """A block of parsed faces, to be written to the cache.

    `pixels` has shape (M, 2304). `emotion` and `usage`, shape (M,), are positions in `EMOTION_NAMES`, and in `SPLITS`
    or `UNNAMED_TEST`.
    """

    pixels: NDArray[np.uint8]
    emotion: NDArray[np.uint8]
    usage: NDArray[np.uint8]


@dataclass(frozen=True)
class Faces:
    """All faces of one csv or folder.

    `pixels`, shape (N, 48, 48), is a memory map. `emotion` and `usage`, shape (N,), are positions in `EMOTION_NAMES`,
    and in `SPLITS` or `UNNAMED_TEST`. `digests` has a hex digest of the pixels of each usage code, keyed by the code as
    text. `skipped` maps damaged rows ('line 7') or files (a relative path) to the reason.
    """

    pixels: NDArray[np.uint8]
    emotion: NDArray[np.uint8]
    usage: NDArray[np.uint8]
    digests: dict[str, str]
    skipped: dict[str, str] = field(default_factory=dict)


def codes_of(split: str) -> tuple[int, ...]:
    """Usage codes of a split."""
    if split == BOTH_TESTS:
        return (SPLITS.index("PublicTest"), SPLITS.index("PrivateTest"), UNNAMED_TEST)
    return (SPLITS.index(split),)


def blocks_of(pixels: NDArray[np.uint8], rows: NDArray[np.intp]) -> Iterator[NDArray[np.uint8]]:
    """Yield the faces at ascending `rows` in C-contiguous blocks; consecutive rows are not copied."""
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        consecutive = int(part[-1]) - int(part[0]) + 1 == len(part)
        yield pixels[part[0] : part[-1] + 1] if consecutive else pixels[part]
