"""Median of the finest diagonal wavelet coefficients of whole stacks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from benchbox.builtin.kernels import STACK, compiled

# High-pass analysis filter of Daubechies' wavelet with two vanishing moments ('db2').
_ROOT = math.sqrt(3)
_NORM = 4 * math.sqrt(2)
H0, H1, H2, H3 = -(1 + _ROOT) / _NORM, (3 + _ROOT) / _NORM, -(3 - _ROOT) / _NORM, (1 - _ROOT) / _NORM
# The filter sums to 0 only up to rounding, 1e-16; no detail of a float32 image in reach of the eye is this small.
_FLAT = 1e-9


@compiled("int64(int64, int64)")
def _mirrored(place: int, length: int) -> int:
    """Map a place beyond the border to the one it mirrors, the border's own pixel repeated."""
    place %= 2 * length
    return place if place < length else 2 * length - 1 - place


@compiled(f"void({STACK}, float64[::1])")
def median_diagonal(stack: NDArray[np.float32], medians: NDArray[np.float64]) -> None:
    """Fill `medians`, shape (N,), with the median magnitude of the diagonal coefficients that are not 0.

    Coefficients of 0 come from flat areas, where a clipped image shows no noise; they are left out. An image
    that has no others gets 0.
    """
    count, height, width = stack.shape
    rows, columns = (height + 3) // 2, (width + 3) // 2
    across = np.empty((height, columns))
    magnitudes = np.empty(rows * columns)
    for index in range(count):
        for i in range(height):
            row = stack[index, i]
            for j in range(columns):
                across[i, j] = (
                    H0 * np.float64(row[_mirrored(2 * j + 1, width)])
                    + H1 * np.float64(row[_mirrored(2 * j, width)])
                    + H2 * np.float64(row[_mirrored(2 * j - 1, width)])
                    + H3 * np.float64(row[_mirrored(2 * j - 2, width)])
                )
        found = 0
        for i in range(rows):
            first, second = _mirrored(2 * i + 1, height), _mirrored(2 * i, height)
            third, fourth = _mirrored(2 * i - 1, height), _mirrored(2 * i - 2, height)
            for j in range(columns):
                detail = H0 * across[first, j] + H1 * across[second, j] + H2 * across[third, j] + H3 * across[fourth, j]
                if abs(detail) > _FLAT:
                    magnitudes[found] = abs(detail)
                    found += 1
        medians[index] = np.median(magnitudes[:found]) if found else 0.0
