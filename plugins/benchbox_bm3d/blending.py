"""Blends the estimates from large and small patches: small ones where there is detail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox_bm3d.compiled import compiled

FLOATS = NDArray[np.float32]

REACH = 4
"""Rows and columns on either side of a pixel that tell whether there is detail: 9x9 pixels in all."""


@compiled
def blend(coarse: FLOATS, fine: FLOATS, first: int, last: int, halves: FLOATS) -> None:
    """Add to estimates from large patches a share of those from small ones, up to one half where there is detail.

    The share is ``variance / (variance + half) / 2``, with the variance of the coarse estimate around the pixel: large
    patches leave less noise where the image is smooth, small ones keep more of it elsewhere.

    Parameters
    ----------
    coarse : ndarray of float32, shape (N, H, W)
        Estimates from large patches; becomes the blend.
    fine : ndarray of float32, shape (N, H, W)
        Estimates from small patches.
    first, last : int
        Images to blend, `last` excluded.
    halves : ndarray of float32, shape (N,)
        Variance at which the share is half of its largest, greater than 0.
    """
    _, height, width = coarse.shape
    # Sums over the rows within REACH, column by column. In double precision, because the variance is a difference.
    sums, squares = np.empty(width, np.float64), np.empty(width, np.float64)
    variances = np.empty((height, width), np.float32)
    for index in range(first, last):
        image = coarse[index]
        sums[:] = 0
        squares[:] = 0
        for y in range(-REACH, height):
            if y + REACH < height:
                for x in range(width):
                    value = np.float64(image[y + REACH, x])
                    sums[x] += value
                    squares[x] += value * value
            if y - REACH > 0:
                for x in range(width):
                    value = np.float64(image[y - REACH - 1, x])
                    sums[x] -= value
                    squares[x] -= value * value
            if y < 0:
                continue
            rows = min(y + REACH, height - 1) - max(y - REACH, 0) + 1
            total, square = 0.0, 0.0
            for x in range(-REACH, width):
                if x + REACH < width:
                    total += sums[x + REACH]
                    square += squares[x + REACH]
                if x - REACH > 0:
                    total -= sums[x - REACH - 1]
                    square -= squares[x - REACH - 1]
                if x >= 0:
                    count = rows * (min(x + REACH, width - 1) - max(x - REACH, 0) + 1)
                    mean = total / count
                    variances[y, x] = max(square / count - mean * mean, 0.0)
        half = halves[index]
        for y in range(height):
            for x in range(width):
                share = np.float32(0.5) * variances[y, x] / (variances[y, x] + half)
                image[y, x] += share * (fine[index, y, x] - image[y, x])
