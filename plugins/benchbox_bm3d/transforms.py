"""Transforms of a line of pixels as matrices (DCT, Bior1.5 wavelet), and of colours to opponent channels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Transform = Literal["dct", "bior"]
MATRIX = NDArray[np.float64]

# Analysis filters of the biorthogonal spline wavelet 1.5 (Cohen, Daubechies and Feauveau 1992).
_LOW = np.array([3, -3, -22, 22, 128, 128, 22, -22, -3, 3]) / 256
_HIGH = np.array([-1, 1]) / 2


def dct(side: int) -> MATRIX:
    """Orthonormal discrete cosine transform of type II, shape (side, side), one basis vector a row."""
    frequency, place = np.arange(side)[:, None], np.arange(side)[None]
    matrix: MATRIX = np.cos(np.pi * (2 * place + 1) * frequency / (2 * side)) * np.sqrt(2 / side)
    matrix[0] /= np.sqrt(2)
    return matrix


def bior(side: int) -> MATRIX:
    """Full periodic decomposition by the wavelet Bior1.5, shape (side, side), coarse coefficients first.

    Rows have unit norm, so that white noise keeps its standard deviation in every coefficient. They are not
    orthogonal: the inverse is the matrix inverse, not the transpose.
    """
    matrix = np.eye(side)
    length = side
    while length > 1:
        half = length // 2
        step = np.zeros((length, length))
        for row in range(half):
            for tap, weight in enumerate(_LOW):
                step[row, (2 * row + tap - 4) % length] += weight
            for tap, weight in enumerate(_HIGH):
                step[half + row, (2 * row + tap) % length] += weight
        matrix[:length] = step @ matrix[:length]
        length = half
    unit: MATRIX = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return unit


def forward(transform: Transform, side: int) -> MATRIX:
    """Matrix of a transform, shape (side, side)."""
    return dct(side) if transform == "dct" else bior(side)


def low_frequencies(side: int, count: int) -> NDArray[np.int64]:
    """Places ``side * vertical + horizontal`` of the lowest 2D frequencies, nearest to zero first."""
    places = sorted(range(side * side), key=lambda place: ((place // side) ** 2 + (place % side) ** 2, place))
    return np.array(places[:count], np.int64)


def split(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Channels of images as planes: the one channel of grey images, three opponent channels of colour images.

    The opponent channels are the orthonormal DCT of (red, green, blue): luminance, red against blue, and green against
    both. These are the channels of Dabov et al. (2007), each scaled so that white noise keeps its standard deviation.

    Parameters
    ----------
    images : ndarray of float32, shape (N, H, W) or (N, H, W, 3)

    Returns
    -------
    ndarray of float32, shape (N, 1, H, W) or (N, 3, H, W)
    """
    return images[:, None] if images.ndim == 3 else _mix(dct(3), np.moveaxis(images, 3, 1))


def join(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images of the planes that `split` made of them."""
    return planes[:, 0] if planes.shape[1] == 1 else np.moveaxis(_mix(dct(3).T, planes), 1, 3)


def _mix(matrix: MATRIX, planes: NDArray[np.float32]) -> NDArray[np.float32]:
    # Not a matrix product, whose rounding may depend on the number of images.
    first, second, third = np.moveaxis(planes, 1, 0)
    mixed = np.empty(planes.shape, np.float32)
    for c, row in enumerate(matrix.astype(np.float32)):
        mixed[:, c] = row[0] * first + row[1] * second + row[2] * third
    return mixed
