"""Describes a picture by 80 numbers that barely change when it is cropped, and by ten bytes with their signs.

The numbers come from a small convolutional network, `descriptor.onnx`. It was trained on FER2013's Training faces
and on synthetic pictures, so that it also separates pictures of other things, to give a picture and a modified copy
(zoomed, shifted, rotated, mirrored, stamped, compressed, with other contrast) the same numbers, and different pictures
different ones; `tests/audit/train_descriptor.py` trained it, in five minutes on one GPU. The cosine of two descriptors
only proposes duplicates, which `duplicates` then verifies pixel by pixel. Hashes stand in for unavailable pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError

SIDE = 48
SIZE = 80
HASH_BYTES = SIZE // 8
NETWORK = Path(__file__).with_name("descriptor.onnx")

_BLOCK = 256

Thumbnails = NDArray[np.float16] | NDArray[np.float32]
Descriptors = NDArray[np.float32]
Hashes = NDArray[np.uint8]


def descriptors_of(thumbnails: Thumbnails) -> Descriptors:
    """Describe pictures of shape (N, 48, 48) with values in [0, 1] by rows of length 1, shape (N, 80).

    The product of two rows is their cosine, which is high if both pictures show the same.
    """
    import cv2

    network = cv2.dnn.readNetFromONNX(str(NETWORK))
    descriptors = np.empty((len(thumbnails), SIZE), dtype=np.float32)
    for start in range(0, len(thumbnails), _BLOCK):
        part = 255 * thumbnails[start : start + _BLOCK].astype(np.float32)
        mean, deviation = part.mean((1, 2), keepdims=True), part.std((1, 2), ddof=1, keepdims=True)
        network.setInput(np.ascontiguousarray(((part - mean) / (deviation + 4))[:, None]))
        descriptors[start : start + _BLOCK] = network.forward()
    unit: Descriptors = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
    return unit


def hashes_of(descriptors: Descriptors) -> Hashes:
    """Signs of the descriptors, uint8, shape (N, 10)."""
    return np.packbits(descriptors > 0, axis=1)


def likeness_to_hashes(descriptors: Descriptors, hashes: Hashes) -> NDArray[np.float32]:
    """Highest cosine, shape (N,), of each descriptor (N, 80) with the signs in any hash (M, 10) of other pictures."""
    signs = (np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1) / np.float32(np.sqrt(SIZE))
    best = np.full(len(descriptors), -1, dtype=np.float32)
    if len(hashes):
        for start in range(0, len(descriptors), _BLOCK):
            best[start : start + _BLOCK] = (descriptors[start : start + _BLOCK] @ signs.T).max(axis=1)
    return best


def read_hashes(path: Path) -> Hashes:
    """Read hashes written by `numpy.save`, without unpickling; raises `BenchboxError` for any other content."""
    try:
        hashes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BenchboxError(f"hashes {path}: {error}", hint="install benchbox again") from error
    if not isinstance(hashes, np.ndarray) or hashes.dtype != np.uint8 or hashes.shape[1:] != (HASH_BYTES,):
        raise BenchboxError(f"hashes {path}: not rows of {HASH_BYTES} bytes", hint="install benchbox again")
    return hashes
