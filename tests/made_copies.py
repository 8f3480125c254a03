"""Photographs and changed copies of them, as image sets and csv files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from made_faces import Faces

from benchbox import ImageSet
from benchbox.api.arrays import Images
from benchbox.audit.duplicates import (
    find_duplicates,
)
from benchbox.builtin.datasets.sample import _shrunken


def photograph(down: int = 0, right: int = 0) -> Faces:
    """The cameraman's head, the window moved by some pixels."""
    return _shrunken("camera.png", 2)[30 + down : 78 + down, 90 + right : 138 + right]


def jpeg(image: Faces, quality: int) -> Faces:
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return np.asarray(decoded, dtype=np.uint8)


def stamped(image: Faces) -> Faces:
    out = image.copy()
    out[20:26, 4:44] = out[20:26, 4:44] // 2 + 100
    return out


def as_float(images: Faces) -> Images:
    return images.astype(np.float32) / np.float32(255)


def image_set(images: Faces, split: str = "", name: str = "made") -> ImageSet:
    stack = as_float(images)
    return ImageSet(
        dataset=name,
        split=split,
        ids=tuple(f"{split}/{place:05d}" for place in range(len(images))),
        shapes=np.full((len(images), 2), images.shape[1:], dtype=np.int64),
        fingerprint=f"{name} {split} {hash(images.tobytes())}",
        read=lambda indices: stack[indices],
    )


def write_csv(path: Path, parts: Sequence[tuple[str, Faces]]) -> Path:
    lines = [f"3,{' '.join(map(str, image.ravel().tolist()))},{usage}" for usage, part in parts for image in part]
    path.write_text("\n".join(["emotion,pixels,Usage", *lines, ""]), encoding="ascii")
    return path


def groups(*sets: ImageSet) -> list[list[int]]:
    return [one.tolist() for one in find_duplicates(sets).groups()]
