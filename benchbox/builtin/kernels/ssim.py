"""SSIM of whole stacks: one separable pass over four maps, on the interior only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox.builtin.kernels import STACK, compiled

# Gaussian of standard deviation 1.5 at distances 0 to 5, normalised over its 11 taps.
_GAUSS = np.exp(-0.5 * (np.arange(6) / 1.5) ** 2)
_GAUSS /= _GAUSS[0] + 2 * _GAUSS[1:].sum()
W0, W1, W2, W3, W4, W5 = (float(weight) for weight in _GAUSS)
C1 = 0.01**2
C2 = 0.03**2
MARGIN = 10
TILE = 64
LANES = 8


@compiled("void(float64[::1], float64[::1], int64)")
def _across(source: NDArray[np.float64], target: NDArray[np.float64], width: int) -> None:
    """Filter a row; the symmetric taps are folded and written out, for a loop over them is not unrolled."""
    for j in range(width):
        target[j] = (
            W0 * source[j + 5]
            + W1 * (source[j + 4] + source[j + 6])
            + W2 * (source[j + 3] + source[j + 7])
            + W3 * (source[j + 2] + source[j + 8])
            + W4 * (source[j + 1] + source[j + 9])
            + W5 * (source[j] + source[j + 10])
        )


@compiled("float64(float64[:, :, ::1], int64, int64, int64)")
def _down(rows: NDArray[np.float64], plane: int, top: int, column: int) -> float:
    """Filter one place of a column, beginning at row `top`."""
    value: float = (
        W0 * rows[top + 5, plane, column]
        + W1 * (rows[top + 4, plane, column] + rows[top + 6, plane, column])
        + W2 * (rows[top + 3, plane, column] + rows[top + 7, plane, column])
        + W3 * (rows[top + 2, plane, column] + rows[top + 8, plane, column])
        + W4 * (rows[top + 1, plane, column] + rows[top + 9, plane, column])
        + W5 * (rows[top, plane, column] + rows[top + 10, plane, column])
    )
    return value


@compiled(f"void({STACK}, {STACK}, float64[::1])")
def ssim(clean: NDArray[np.float32], denoised: NDArray[np.float32], scores: NDArray[np.float64]) -> None:
    """Score a stack.

    With s = x + y and d = x - y, the five filtered maps of the definition become the four of s, d, s**2 and d**2:
    ``4 ux uy = us**2 - ud**2``, ``2 (ux**2 + uy**2) = us**2 + ud**2``, and alike for the (co)variances. In float64 no
    centring is needed: the cancellation leaves 1e-16 beside C2 = 9e-4, in float32 it would leave up to 1e-4.

    Parameters
    ----------
    clean, denoised : ndarray of float32, shape (N, H, W), H and W at least 11
    scores : ndarray of float64, shape (N,)
        Filled.
    """
    count, height, width = clean.shape
    inner_height, inner_width = height - MARGIN, width - MARGIN
    # The columns beyond the last are zeros or what an earlier tile left: finite, computed with the rest, never summed.
    maps = np.zeros((4, TILE + MARGIN))
    rows = np.zeros((height, 4, TILE))
    local = np.zeros(TILE)
    for index in range(count):
        total = 0.0
        for left in range(0, inner_width, TILE):
            valid = min(TILE, inner_width - left)
            padded = (valid + LANES - 1) // LANES * LANES
            for i in range(height):
                x_row = clean[index, i, left : left + valid + MARGIN]
                y_row = denoised[index, i, left : left + valid + MARGIN]
                for j in range(valid + MARGIN):
                    x = np.float64(x_row[j])
                    y = np.float64(y_row[j])
                    maps[0, j] = x + y
                    maps[1, j] = x - y
                    maps[2, j] = (x + y) * (x + y)
                    maps[3, j] = (x - y) * (x - y)
                for plane in range(4):
                    _across(maps[plane], rows[i, plane], padded)
            for i in range(inner_height):
                for j in range(padded):
                    sum_mean = _down(rows, 0, i, j) ** 2
                    difference_mean = _down(rows, 1, i, j) ** 2
                    sum_variance = _down(rows, 2, i, j) - sum_mean
                    difference_variance = _down(rows, 3, i, j) - difference_mean
                    local[j] = (0.5 * (sum_mean - difference_mean) + C1) * (
                        0.5 * (sum_variance - difference_variance) + C2
                    )
                    local[j] /= (0.5 * (sum_mean + difference_mean) + C1) * (
                        0.5 * (sum_variance + difference_variance) + C2
                    )
                for j in range(valid):
                    total += local[j]
        scores[index] = total / (inner_height * inner_width)
