"""Compiled sliding-window DCT thresholding over tiles of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox_bm3d.compiled import compiled
from benchbox_bm3d.patches import forward, inverse
from benchbox_bm3d.tiles import copy
from benchbox_bm3d.vectors import count_nonzero, load16, splat16, store, zero_below

FLOATS = NDArray[np.float32]
INTS = NDArray[np.int64]


@compiled
def threshold_tiles(
    images: FLOATS, tiles: INTS, first: int, last: int, thresholds: FLOATS, analysis: FLOATS, synthesis: FLOATS,
    window: FLOATS, pixels: FLOATS, shares: FLOATS,
) -> None:  # fmt: skip
    """Hard-threshold every patch of some tiles, and average the estimates of each pixel.

    A patch counts for the less the more coefficients it keeps; its mean is always kept.

    Parameters
    ----------
    images : ndarray of float32, shape (N, H, W)
    tiles : ndarray of int64, shape (T, 9)
        As in `tiles.filter_tiles`.
    first, last : int
        Tiles to filter, `last` excluded.
    thresholds : ndarray of float32, shape (N,)
    analysis, synthesis : ndarray of float32, shape (P, P)
        Transform of a line, and its inverse with row i times ``window[i]``.
    window : ndarray of float32, shape (P,)
        Weight of a pixel by its place in a line of the patch.
    pixels, shares : ndarray of float32, shape (T, room)
        Filled: sums of weighted pixels, and of weights.
    """
    side = len(analysis)
    area = side * side
    most_y, most_x = 0, 0
    for t in range(first, last):
        most_y, most_x = max(most_y, tiles[t, 7]), max(most_x, tiles[t, 8])
    pitch = most_x + side
    tile = np.empty((most_y + side) * pitch, np.float32)
    rows = np.empty((most_y + side) * side * pitch, np.float32)
    sums = np.empty(most_y * most_x * area, np.float32)
    weights = np.empty(most_y * most_x, np.float32)
    for t in range(first, last):
        index, top, left, ny, nx = tiles[t, 0], tiles[t, 5], tiles[t, 6], tiles[t, 7], tiles[t, 8]
        height, width = ny + side - 1, nx + side - 1
        copy(images[index], top, left, height, width, pitch, tile)
        forward(tile, pitch, ny, nx, analysis, rows, sums)
        limit = splat16(thresholds[index])
        for place in range(ny * nx):
            start = place * area
            mean = sums[start]
            kept = 0
            for at in range(start, start + area, 16):
                value = zero_below(load16(sums, at), limit)
                kept += count_nonzero(value)
                store(sums, at, value)
            if sums[start] == 0:
                sums[start] = mean
                kept += 1
            weight = np.float32(1) / np.float32(kept)
            factor = splat16(weight)
            for at in range(start, start + area, 16):
                store(sums, at, factor * load16(sums, at))
            weights[place] = weight
        pixels[t, : height * width] = 0
        shares[t, : height * width] = 0
        inverse(sums, weights, ny, nx, synthesis, window, rows, width, pixels[t], shares[t])
