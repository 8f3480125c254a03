"""An orthonormal opponent colour space, in which grey filters work on luminance and two colour differences."""

from __future__ import annotations

import numpy as np

from benchbox import Images

_SPACE = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float64)
_SPACE /= np.sqrt(np.square(_SPACE).sum(axis=1, keepdims=True))
_FORWARD, _BACK = _SPACE.T.astype(np.float32), _SPACE.astype(np.float32)


def to_opponent(colour: Images) -> Images:
    """Turn (N, H, W, 3) into 3 N planes: of each image, its luminance and two colour differences.

    They are the cosine transform of red, green and blue, the opponent space of Dabov et al. 2007
    (doi:10.1109/ICIP.2007.4378954) in an orthonormal scale: white noise stays white, independent between planes, and of
    the same level, while the planes of photographs are nearly uncorrelated.
    """
    count, height, width, channels = colour.shape
    planes = np.moveaxis(colour @ _FORWARD, 3, 1)
    return np.ascontiguousarray(planes).reshape(count * channels, height, width)


def from_opponent(planes: Images) -> Images:
    """Undo `to_opponent`."""
    _, height, width = planes.shape
    return np.ascontiguousarray(np.moveaxis(planes.reshape(-1, 3, height, width), 1, 3) @ _BACK)
