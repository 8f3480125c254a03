"""A contact sheet of duplicates: each group side by side, those that are least sure first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError

THUMB = 64
MEMBERS = 8
GROUPS = 400
"""Most images of a group, and most groups, that are drawn."""

_WIDTH = 1600
_LABEL = 12
_GAP = 6


def write_contact_sheet(path: Path, sets: Sequence[ImageSet], groups: Sequence[tuple[str, Sequence[int]]]) -> int:
    """Draw groups of images into a PNG file.

    Parameters
    ----------
    path : Path
    sets : sequence of ImageSet
    groups : sequence of (str, sequence of int)
        A label of ASCII characters, and positions over all sets, one after the other. The first `GROUPS` are drawn,
        of each the first `MEMBERS` images.

    Returns
    -------
    int
        Number of groups drawn.

    Raises
    ------
    BenchboxError
        The file cannot be written.
    """
    import cv2

    drawn = groups[:GROUPS]
    lines = list(_lines([_group(sets, label, members) for label, members in drawn]))
    sheet = np.concatenate(lines) if lines else np.full((THUMB, THUMB), 255, dtype=np.uint8)
    try:
        path.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
    except OSError as error:
        raise BenchboxError(f"cannot write {path}: {error.strerror}", hint="choose another file") from error
    return len(drawn)


def _group(sets: Sequence[ImageSet], label: str, members: Sequence[int]) -> NDArray[np.uint8]:
    import cv2

    shown = np.concatenate([_thumbnail(sets, one) for one in members[:MEMBERS]], axis=1)
    drawn = np.full((THUMB + _LABEL + _GAP, shown.shape[1] + _GAP), 255, dtype=np.uint8)
    drawn[_LABEL : _LABEL + THUMB, : shown.shape[1]] = shown
    cv2.putText(drawn, label, (0, _LABEL - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.33, 0, 1, cv2.LINE_AA)
    return drawn


def _thumbnail(sets: Sequence[ImageSet], place: int) -> NDArray[np.uint8]:
    import cv2

    for images in sets:
        if place < len(images):
            image = images.stack(np.array([place]))[0]
            scaled = cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
            return np.asarray(np.rint(255 * np.clip(scaled, 0, 1)), dtype=np.uint8)
        place -= len(images)
    raise IndexError(place)


def _lines(drawn: Sequence[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Set the groups side by side, line by line."""
    line: list[NDArray[np.uint8]] = []
    for one in [*drawn, None]:
        used = sum(group.shape[1] for group in line)
        if line and (one is None or used + one.shape[1] > _WIDTH):
            yield np.pad(np.concatenate(line, axis=1), ((0, 0), (0, _WIDTH - used)), constant_values=255)
            line = []
        if one is not None:
            line.append(one)
