"""Compiled median of the finest diagonal wavelet coefficients, for the noise estimator."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from benchbox.builtin.kernels import STACK, compiled, inlined

# High-pass analysis filter of Daubechies' wavelet with two vanishing moments ('db2').
_ROOT = math.sqrt(3)
_NORM = 4 * math.sqrt(2)
H0, H1, H2, H3 = -(1 + _ROOT) / _NORM, (3 + _ROOT) / _NORM, -(3 - _ROOT) / _NORM, (1 - _ROOT) / _NORM
# Rounding leaves the filter with a sum of 1e-16 instead of 0; no visible detail of a float32 image is this small.
_FLAT = 1e-9


@inlined
def _mirrored(length: int) -> NDArray[np.int64]:
    """Indices from 2 before a line to 2 or 3 after it, mirrored so that the border pixel repeats."""
    indices = np.empty((length + 3) // 2 * 2 + 2, dtype=np.int64)
    for k in range(indices.shape[0]):
        index = (k - 2) % (2 * length)
        indices[k] = index if index < length else 2 * length - 1 - index
    return indices


@inlined
def _median(values: NDArray[np.float64], count: int) -> float:
    """Median of the first `count` values by quickselect, which reorders them; NumPy's compiles for seconds."""
    middle, low, high = count // 2, 0, count - 1
    while low < high:
        pivot, i, j = values[(low + high) // 2], low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            low = high
    median: float = values[middle]
    if count % 2 == 0:
        below = values[0]
        for k in range(1, middle):
            below = max(below, values[k])
        median = 0.5 * (median + below)
    return median


@compiled(f"void({STACK}, float64[::1])")
def median_diagonal(stack: NDArray[np.float32], medians: NDArray[np.float64]) -> None:
    """Fill `medians`, shape (N,), with the median magnitude of the diagonal coefficients that are not 0.

    Zero coefficients come from flat areas, where a clipped image shows no noise, so they are left out. An image with
    only zero coefficients gets 0.
    """
    count, height, width = stack.shape
    row_indices, column_indices = _mirrored(height), _mirrored(width)
    rows, columns = row_indices.shape[0] // 2 - 1, column_indices.shape[0] // 2 - 1
    line = np.empty(column_indices.shape[0])
    across = np.empty((height, columns))
    magnitudes = np.empty(rows * columns)
    for index in range(count):
        for i in range(height):
            for k in range(line.shape[0]):
                line[k] = stack[index, i, column_indices[k]]
            for j in range(columns):
                across[i, j] = H0 * line[2 * j + 3] + H1 * line[2 * j + 2] + H2 * line[2 * j + 1] + H3 * line[2 * j]
        kept = 0
        for i in range(rows):
            first, second = across[row_indices[2 * i + 3]], across[row_indices[2 * i + 2]]
            third, fourth = across[row_indices[2 * i + 1]], across[row_indices[2 * i]]
            for j in range(columns):
                magnitude = abs(H0 * first[j] + H1 * second[j] + H2 * third[j] + H3 * fourth[j])
                # Written in any case and overwritten if it does not count: no branch for the processor to mispredict.
                magnitudes[kept] = magnitude
                kept += 1 if magnitude > _FLAT else 0
        medians[index] = _median(magnitudes, kept) if kept else 0.0
