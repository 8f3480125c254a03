"""Compiled SSIM of whole stacks: one separable filter over four maps, interior pixels only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox.builtin.kernels import STACK, compiled, inlined

# Gaussian of standard deviation 1.5 at distances 0 to 5, normalised over its 11 taps.
_GAUSS = np.exp(-0.5 * (np.arange(6) / 1.5) ** 2)
_GAUSS /= _GAUSS[0] + 2 * _GAUSS[1:].sum()
W0, W1, W2, W3, W4, W5 = (float(weight) for weight in _GAUSS)
C1 = 0.01**2
C2 = 0.03**2
TAPS = 11
MARGIN = TAPS - 1
LANES = 8
# Windows per tile, a multiple of the vector lanes and few enough that the rows stay in the L1 cache while the window
# slides down. A row holds the four maps one after another at constant distances, so the compiler knows that they do not
# overlap and does not check it for each row.
TILE = 56
PLANE = 72
ROW = 4 * PLANE


@inlined
def _aligned(count: int) -> NDArray[np.float64]:
    """Zeros that start at a cache line, because loads across two lines take twice as long."""
    raw = np.zeros(count + LANES)
    start = (64 - raw.ctypes.data % 64) % 64 // 8
    return raw[start : start + count]


@inlined
def _expand(clean: NDArray[np.float32], denoised: NDArray[np.float32], row: NDArray[np.float64]) -> None:
    """Fill one row of the four maps: sum, difference, and their squares."""
    for j in range(clean.shape[0]):
        x, y = np.float64(clean[j]), np.float64(denoised[j])
        row[j] = x + y
        row[j + PLANE] = x - y
        row[j + 2 * PLANE] = (x + y) * (x + y)
        row[j + 3 * PLANE] = (x - y) * (x - y)


@inlined
def _down(rows: NDArray[np.float64], width: int, filtered: NDArray[np.float64]) -> None:
    """Filter 12 rows vertically for two windows, one row apart, which share ten rows.

    The symmetric taps are folded and written out, because the compiler does not unroll a loop over them.
    """
    for plane in range(4):
        source, target = rows[plane * PLANE :], filtered[plane * PLANE :]
        for j in range(width):
            a0, a1, a2, a3 = source[j], source[j + ROW], source[j + 2 * ROW], source[j + 3 * ROW]
            a4, a5, a6, a7 = source[j + 4 * ROW], source[j + 5 * ROW], source[j + 6 * ROW], source[j + 7 * ROW]
            a8, a9, a10, a11 = source[j + 8 * ROW], source[j + 9 * ROW], source[j + 10 * ROW], source[j + 11 * ROW]
            target[j] = W0 * a5 + W1 * (a4 + a6) + W2 * (a3 + a7) + W3 * (a2 + a8) + W4 * (a1 + a9) + W5 * (a0 + a10)
            target[j + ROW] = (
                W0 * a6 + W1 * (a5 + a7) + W2 * (a4 + a8) + W3 * (a3 + a9) + W4 * (a2 + a10) + W5 * (a1 + a11)
            )


@inlined
def _across(row: NDArray[np.float64], j: int) -> float:
    """Filter a row horizontally for the window that starts at column `j`."""
    value: float = (
        W0 * row[j + 5]
        + W1 * (row[j + 4] + row[j + 6])
        + W2 * (row[j + 3] + row[j + 7])
        + W3 * (row[j + 2] + row[j + 8])
        + W4 * (row[j + 1] + row[j + 9])
        + W5 * (row[j] + row[j + 10])
    )
    return value


@inlined
def _similarity(row: NDArray[np.float64], inside: NDArray[np.float64], width: int) -> float:
    """Sum SSIM over one row of windows.

    `inside` is 1 for windows of the tile and 0 for those that only fill the last vector. The latter see zeros or
    columns of an earlier tile, which are still the moments of some image, so they never divide by 0.
    """
    total = 0.0
    for j in range(width):
        sum_mean = _across(row, j) ** 2
        difference_mean = _across(row, j + PLANE) ** 2
        sum_variance = _across(row, j + 2 * PLANE) - sum_mean
        difference_variance = _across(row, j + 3 * PLANE) - difference_mean
        above = (0.5 * (sum_mean - difference_mean) + C1) * (0.5 * (sum_variance - difference_variance) + C2)
        below = (0.5 * (sum_mean + difference_mean) + C1) * (0.5 * (sum_variance + difference_variance) + C2)
        total += inside[j] * above / below
    return total


@compiled(f"void({STACK}, {STACK}, float64[::1])")
def ssim(clean: NDArray[np.float32], denoised: NDArray[np.float32], scores: NDArray[np.float64]) -> None:
    """Fill `scores`, shape (N,), with the SSIM of each image; sides must be at least 11 pixels.

    With s = x + y and d = x - y, the five filtered maps of the definition reduce to four, of s, d, s**2 and d**2:
    ``4 ux uy = us**2 - ud**2``, ``2 (ux**2 + uy**2) = us**2 + ud**2``, and likewise for the (co)variances. Float64
    needs no centring: cancellation leaves an error of 1e-16, against C2 = 9e-4; in float32 it would be up to 1e-4.
    """
    count, height, width = clean.shape
    windows_down, windows_across = height - MARGIN, width - MARGIN
    # One extra row for the second window of the last pair if their number is odd; it is not summed.
    maps = _aligned((height + 1) * ROW)
    filtered = _aligned(2 * ROW)
    inside = _aligned(PLANE)
    for index in range(count):
        total = 0.0
        for left in range(0, windows_across, TILE):
            in_tile = min(TILE, windows_across - left)
            inside[:in_tile] = 1
            inside[in_tile:] = 0
            columns = (in_tile + MARGIN + LANES - 1) // LANES * LANES
            windows = (in_tile + LANES - 1) // LANES * LANES
            ready = 0
            for top in range(0, windows_down, 2):
                while ready < min(top + TAPS + 1, height):
                    x_row = clean[index, ready, left : left + in_tile + MARGIN]
                    y_row = denoised[index, ready, left : left + in_tile + MARGIN]
                    _expand(x_row, y_row, maps[ready * ROW :])
                    ready += 1
                _down(maps[top * ROW :], columns, filtered)
                total += _similarity(filtered, inside, windows)
                if top + 1 < windows_down:
                    total += _similarity(filtered[ROW:], inside, windows)
        scores[index] = total / (windows_down * windows_across)
