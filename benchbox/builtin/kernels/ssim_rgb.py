"""Compiled SSIM of RGB stacks as they are stored, in float32: the mean over channels, and the three-dimensional form.

Red, green and blue stay interleaved: a filter along a row takes every third value, so no channel is copied. Float32
halves the time of float64. Values are shifted by half the range, so that squares cancel against squared means with
an error of 1e-7; scores of photographs are within 1e-7 of those in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from benchbox.builtin.kernels import STACK, compiled, inlined
from benchbox.builtin.kernels import ssim as grey

W0, W1, W2, W3, W4 = (np.float32(weight) for weight in (grey.W0, grey.W1, grey.W2, grey.W3, grey.W4))
# What the others leave, not its own rounding: if they added up to 1 - 1e-9, every flat region would have a variance of
# 3e-9, and noisy photographs an SSIM off by 1e-7.
W5 = np.float32(0.5 - float(W0) / 2 - sum(map(float, (W1, W2, W3, W4))))
C1, C2 = np.float32(grey.C1), np.float32(grey.C2)
HALF, ONE = np.float32(0.5), np.float32(1)
# Weights of the three channels in the window along the third axis, whose ends repeat beyond red and blue.
NEAR, NEXT, FAR = (np.float32(weight) for weight in (0.5 + grey.W0 / 2, grey.W1, 0.5 - grey.W0 / 2 - grey.W1))
SIDE = np.float32(0.5 - grey.W0 / 2)

MARGIN = 3 * grey.MARGIN
LANES = 16
# Values per tile, a multiple of the unrolled vectors; with few rows at a time the maps stay in the fast caches.
TILE = 192
SOURCE = (TILE + MARGIN + LANES - 1) // LANES * LANES
ROW = 4 * TILE
ROWS = 48


@intrinsic  # type: ignore[untyped-decorator]
def _whole_vectors(context: Any) -> Any:
    """Let the calling kernel use vectors of 512 bits, which LLVM avoids on Intel's processors: a fifth less time."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # llvmlite knows no attributes with values, but writes them as they are.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@inlined
def _aligned(count: int) -> NDArray[np.float32]:
    """Zeros that start at a cache line."""
    raw = np.zeros(count + LANES, dtype=np.float32)
    start = (64 - raw.ctypes.data % 64) % 64 // 4
    return raw[start : start + count]


@inlined
def _expand(clean: NDArray[np.float32], denoised: NDArray[np.float32], source: NDArray[np.float32]) -> None:
    """Fill one row of the four maps: sum, difference, and their squares."""
    for j in range(clean.shape[0]):
        x, y = clean[j] - HALF, denoised[j] - HALF
        source[j] = x + y
        source[j + SOURCE] = x - y
        source[j + 2 * SOURCE] = (x + y) * (x + y)
        source[j + 3 * SOURCE] = (x - y) * (x - y)


@inlined
def _across_channels(source: NDArray[np.float32], width: int) -> None:
    """Filter the maps along red, green and blue."""
    for plane in range(4):
        row = source[plane * SOURCE :]
        for j in range(0, width, 3):
            red, green, blue = row[j], row[j + 1], row[j + 2]
            row[j] = NEAR * red + NEXT * green + FAR * blue
            row[j + 1] = SIDE * (red + blue) + W0 * green
            row[j + 2] = FAR * red + NEXT * green + NEAR * blue


@inlined
def _across(source: NDArray[np.float32], row: NDArray[np.float32]) -> None:
    """Filter one row of the maps horizontally."""
    for plane in range(4):
        a, target = source[plane * SOURCE :], row[plane * TILE :]
        for j in range(TILE):
            target[j] = (
                W0 * a[j + 15]
                + W1 * (a[j + 12] + a[j + 18])
                + W2 * (a[j + 9] + a[j + 21])
                + W3 * (a[j + 6] + a[j + 24])
                + W4 * (a[j + 3] + a[j + 27])
                + W5 * (a[j] + a[j + 30])
            )


@inlined
def _down(rows: NDArray[np.float32], j: int) -> np.float32:
    """Filter 11 rows vertically at position `j`."""
    value: np.float32 = (
        W0 * rows[j + 5 * ROW]
        + W1 * (rows[j + 4 * ROW] + rows[j + 6 * ROW])
        + W2 * (rows[j + 3 * ROW] + rows[j + 7 * ROW])
        + W3 * (rows[j + 2 * ROW] + rows[j + 8 * ROW])
        + W4 * (rows[j + ROW] + rows[j + 9 * ROW])
        + W5 * (rows[j] + rows[j + 10 * ROW])
    )
    return value


@inlined
def _similarity(rows: NDArray[np.float32], inside: NDArray[np.float32]) -> float:
    """Sum SSIM over one row of windows; `inside` is 1 for windows of the tile, 0 for those that only fill it."""
    total = np.float32(0)
    for j in range(TILE):
        shifted, difference = _down(rows, j), _down(rows, j + TILE)
        sum_variance = _down(rows, j + 2 * TILE) - shifted * shifted
        difference_variance = _down(rows, j + 3 * TILE) - difference * difference
        sum_mean = (shifted + ONE) * (shifted + ONE)
        difference_mean = difference * difference
        above = (HALF * (sum_mean - difference_mean) + C1) * (HALF * (sum_variance - difference_variance) + C2)
        below = (HALF * (sum_mean + difference_mean) + C1) * (HALF * (sum_variance + difference_variance) + C2)
        total += inside[j] * (above / below)
    return float(total)


@compiled(f"void({STACK}, {STACK}, boolean, float64[::1])")
def ssim_rgb(
    clean: NDArray[np.float32], denoised: NDArray[np.float32], volume: bool, scores: NDArray[np.float64]
) -> None:
    """Fill `scores`, shape (N,), with the SSIM of RGB images, given as stacks (N, H, 3 W) with sides of at least 11.

    The mean over the three channels, or with `volume` over the maps whose window also covers the channels. See
    `grey.ssim` for the four maps.
    """
    _whole_vectors()
    count, height, width = clean.shape
    windows_down, windows_across = height - grey.MARGIN, width - MARGIN
    source = _aligned(4 * SOURCE)
    maps = _aligned(ROWS * ROW)
    inside = _aligned(TILE)
    for index in range(count):
        total = 0.0
        for left in range(0, windows_across, TILE):
            in_tile = min(TILE, windows_across - left)
            inside[:in_tile] = 1
            inside[in_tile:] = 0
            columns = min(SOURCE, width - left)
            ready = 0
            for y in range(height):
                if ready == ROWS:
                    # Not an assignment of slices, whose error message takes half of the time to compile.
                    for j in range(grey.MARGIN * ROW):
                        maps[j] = maps[(ROWS - grey.MARGIN) * ROW + j]
                    ready = grey.MARGIN
                _expand(clean[index, y, left : left + columns], denoised[index, y, left : left + columns], source)
                if volume:
                    _across_channels(source, columns // 3 * 3)
                _across(source, maps[ready * ROW :])
                ready += 1
                if ready >= grey.TAPS:
                    total += _similarity(maps[(ready - grey.TAPS) * ROW :], inside)
        scores[index] = total / (windows_down * windows_across)
