"""1D transforms as matrices (DCT, Bior1.5 wavelet) and the Kaiser window."""

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
