"""Transforms every patch of a tile to 2D coefficients and the weighted sum of results back to pixels.

Both are done once a place, not once a group: a patch belongs to several groups, and the inverse transform is linear.
Patches are 8x8 or 4x4, each with a kernel of its own that keeps a column of lines in registers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox_bm3d.vectors import compiled, load4, load8, splat4, splat8, store

FLOATS = NDArray[np.float32]


@compiled
def _forward8(tile: FLOATS, pitch: int, ny: int, nx: int, matrix: FLOATS, columns: FLOATS, rows: FLOATS,
              coefficients: FLOATS) -> None:  # fmt: skip
    # Each line of pixels is transformed once, and serves the eight patches, one below the other, that contain it.
    for y in range(ny + 7):
        for x in range(nx):
            value = splat8(tile[y * pitch + x]) * load8(columns, 0)
            for j in range(1, 8):
                value += splat8(tile[y * pitch + x + j]) * load8(columns, 8 * j)
            store(rows, (y * nx + x) * 8, value)
    down = 8 * nx
    for y in range(ny):
        for x in range(nx):
            at = y * down + 8 * x
            line0, line1 = load8(rows, at), load8(rows, at + down)
            line2, line3 = load8(rows, at + 2 * down), load8(rows, at + 3 * down)
            line4, line5 = load8(rows, at + 4 * down), load8(rows, at + 5 * down)
            line6, line7 = load8(rows, at + 6 * down), load8(rows, at + 7 * down)
            for k in range(8):
                # Two sums, so that an addition need not wait for the one before.
                even = splat8(matrix[k, 0]) * line0 + splat8(matrix[k, 2]) * line2
                odd = splat8(matrix[k, 1]) * line1 + splat8(matrix[k, 3]) * line3
                even += splat8(matrix[k, 4]) * line4 + splat8(matrix[k, 6]) * line6
                odd += splat8(matrix[k, 5]) * line5 + splat8(matrix[k, 7]) * line7
                store(coefficients, (y * nx + x) * 64 + 8 * k, even + odd)


@compiled
def _forward4(tile: FLOATS, pitch: int, ny: int, nx: int, matrix: FLOATS, columns: FLOATS, rows: FLOATS,
              coefficients: FLOATS) -> None:  # fmt: skip
    for y in range(ny + 3):
        for x in range(nx):
            value = splat4(tile[y * pitch + x]) * load4(columns, 0)
            for j in range(1, 4):
                value += splat4(tile[y * pitch + x + j]) * load4(columns, 4 * j)
            store(rows, (y * nx + x) * 4, value)
    down = 4 * nx
    for y in range(ny):
        for x in range(nx):
            at = y * down + 4 * x
            line0, line1 = load4(rows, at), load4(rows, at + down)
            line2, line3 = load4(rows, at + 2 * down), load4(rows, at + 3 * down)
            for k in range(4):
                value = splat4(matrix[k, 0]) * line0 + splat4(matrix[k, 1]) * line1
                value += splat4(matrix[k, 2]) * line2 + splat4(matrix[k, 3]) * line3
                store(coefficients, (y * nx + x) * 16 + 4 * k, value)


@compiled
def forward(tile: FLOATS, pitch: int, ny: int, nx: int, matrix: FLOATS, rows: FLOATS, coefficients: FLOATS) -> None:
    """Transform every patch of a tile.

    Parameters
    ----------
    tile : ndarray of float32, flat
        Pixels, `pitch` a row.
    pitch, ny, nx : int
        Pixels a row in memory; rows and columns of patches.
    matrix : ndarray of float32, shape (P, P), P 4 or 8
        Transform of a line, one basis vector a row.
    rows : ndarray of float32, flat
        Room for ``(ny + P - 1) * nx * P`` numbers.
    coefficients : ndarray of float32, flat
        Filled: ``(ny, nx, P, P)``.
    """
    columns = np.ascontiguousarray(matrix.T).ravel()
    if len(matrix) == 8:
        _forward8(tile, pitch, ny, nx, matrix, columns, rows, coefficients)
    else:
        _forward4(tile, pitch, ny, nx, matrix, columns, rows, coefficients)


@compiled
def _inverse8(sums: FLOATS, weights: FLOATS, ny: int, nx: int, matrix: FLOATS, columns: FLOATS, rows: FLOATS,
              width: int, pixels: FLOATS) -> None:  # fmt: skip
    down = 8 * nx
    # The way back: what all patches add to a line is summed first, so that each line is transformed once.
    rows[: (ny + 7) * down] = 0
    for y in range(ny):
        for x in range(nx):
            if weights[y * nx + x] == 0:  # no group holds this patch
                continue
            at = (y * nx + x) * 64
            line0, line1 = load8(sums, at), load8(sums, at + 8)
            line2, line3 = load8(sums, at + 16), load8(sums, at + 24)
            line4, line5 = load8(sums, at + 32), load8(sums, at + 40)
            line6, line7 = load8(sums, at + 48), load8(sums, at + 56)
            at = y * down + 8 * x
            for i in range(8):
                even = splat8(matrix[i, 0]) * line0 + splat8(matrix[i, 2]) * line2
                odd = splat8(matrix[i, 1]) * line1 + splat8(matrix[i, 3]) * line3
                even += splat8(matrix[i, 4]) * line4 + splat8(matrix[i, 6]) * line6
                odd += splat8(matrix[i, 5]) * line5 + splat8(matrix[i, 7]) * line7
                store(rows, at + i * down, load8(rows, at + i * down) + (even + odd))
    for y in range(ny + 7):
        for x in range(nx):
            at = y * down + 8 * x
            value = splat8(rows[at]) * load8(columns, 0)
            for k in range(1, 8):
                value += splat8(rows[at + k]) * load8(columns, 8 * k)
            store(pixels, y * width + x, load8(pixels, y * width + x) + value)


@compiled
def _inverse4(sums: FLOATS, weights: FLOATS, ny: int, nx: int, matrix: FLOATS, columns: FLOATS, rows: FLOATS,
              width: int, pixels: FLOATS) -> None:  # fmt: skip
    down = 4 * nx
    rows[: (ny + 3) * down] = 0
    for y in range(ny):
        for x in range(nx):
            if weights[y * nx + x] == 0:
                continue
            at = (y * nx + x) * 16
            line0, line1 = load4(sums, at), load4(sums, at + 4)
            line2, line3 = load4(sums, at + 8), load4(sums, at + 12)
            at = y * down + 4 * x
            for i in range(4):
                value = splat4(matrix[i, 0]) * line0 + splat4(matrix[i, 1]) * line1
                value += splat4(matrix[i, 2]) * line2 + splat4(matrix[i, 3]) * line3
                store(rows, at + i * down, load4(rows, at + i * down) + value)
    for y in range(ny + 3):
        for x in range(nx):
            at = y * down + 4 * x
            value = splat4(rows[at]) * load4(columns, 0)
            for k in range(1, 4):
                value += splat4(rows[at + k]) * load4(columns, 4 * k)
            store(pixels, y * width + x, load4(pixels, y * width + x) + value)


@compiled
def inverse(sums: FLOATS, weights: FLOATS, ny: int, nx: int, matrix: FLOATS, window: FLOATS, rows: FLOATS,
            width: int, pixels: FLOATS, shares: FLOATS) -> None:  # fmt: skip
    """Add the patches that weighted coefficients stand for to an image, and their weights to another.

    Parameters
    ----------
    sums : ndarray of float32, flat
        Weighted sums of the coefficients of the estimates of each patch, ``(ny, nx, P, P)``.
    weights : ndarray of float32, flat
        Sums of the weights, ``(ny, nx)``.
    ny, nx : int
        Rows and columns of patches.
    matrix : ndarray of float32, shape (P, P), P 4 or 8
        Inverse transform of a line, row i times ``window[i]``.
    window : ndarray of float32, shape (P,)
        Weight of a pixel by its place in a line of the patch.
    rows : ndarray of float32, flat
        Room for ``(ny + P - 1) * nx * P`` numbers.
    width : int
        Pixels a row of `pixels` and `shares`.
    pixels, shares : ndarray of float32, flat
        Added to: weighted pixels, and weights.
    """
    side = len(matrix)
    columns = np.ascontiguousarray(matrix.T).ravel()
    if side == 8:
        _inverse8(sums, weights, ny, nx, matrix, columns, rows, width, pixels)
    else:
        _inverse4(sums, weights, ny, nx, matrix, columns, rows, width, pixels)
    # The window is separable, so that weights are spread along rows first, then along columns.
    across = nx + side - 1
    rows[: ny * across] = 0
    for y in range(ny):
        for j in range(side):
            for x in range(nx):
                rows[y * across + x + j] += window[j] * weights[y * nx + x]
    for y in range(ny):
        for i in range(side):
            for x in range(across):
                shares[(y + i) * width + x] += window[i] * rows[y * across + x]
