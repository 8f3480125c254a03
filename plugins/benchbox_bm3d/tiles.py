"""What is done to the tiles of images: a stage of BM3D, its estimates put together and blended, and `dct`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox_bm3d.groups import scatter, shrink, threshold
from benchbox_bm3d.matching import aligned, coefficient_planes, distances, nearest
from benchbox_bm3d.patches import forward, inverse
from benchbox_bm3d.vectors import compiled, count_nonzero, load16, splat16, store, zero_below

FLOATS = NDArray[np.float32]
INTS = NDArray[np.int64]

REACH = 4
"""Rows and columns on either side of a pixel that tell whether there is detail: 9x9 pixels in all."""


@compiled
def copy(image: FLOATS, top: int, left: int, height: int, width: int, pitch: int, tile: FLOATS) -> None:
    """Copy a rectangle of an image to `tile`, `pitch` numbers a row, zeros at the end of each."""
    for y in range(height):
        for x in range(width):
            tile[y * pitch + x] = image[top + y, left + x]
        tile[y * pitch + width : (y + 1) * pitch] = 0


@compiled
def filter_tiles(
    images: FLOATS, pilots: FLOATS, tiles: INTS, first: int, last: int, strengths: FLOATS, limits: FLOATS,
    step: int, size: int, reach: int, analysis: FLOATS, synthesis: FLOATS, window: FLOATS, matching: FLOATS,
    order: INTS, pixels: FLOATS, shares: FLOATS,
) -> None:  # fmt: skip
    """Filter some tiles; each depends on nothing but its image, so that any number of threads gives the same sums.

    Parameters
    ----------
    images : ndarray of float32, shape (N, C, H, W)
        Noisy images. The first channel is matched; the others are filtered in the groups that it finds.
    pilots : ndarray of float32, shape (N, C, H, W) or (0, C, H, W)
        First estimates, for the Wiener stage; none for the thresholding stage.
    tiles : ndarray of int64, shape (T, 9)
        Image; first and last row of reference patches; first and last column of them; then of all patches that they
        may be matched with: first row, first column, rows, columns. The last reference of an image lies on its last
        row or column, all others on multiples of `step` from the first.
    first, last : int
        Tiles to filter, `last` excluded.
    strengths : ndarray of float32, shape (N, C)
        Threshold, or noise variance for the Wiener stage.
    limits : ndarray of float32, shape (N,)
        Sum of squared differences that similar patches stay below.
    step, size, reach : int
        Pixels between reference patches, patches in a group at most, and columns and rows to search on either side.
    analysis, synthesis : ndarray of float32, shape (P, P)
        Transform of a line, and its inverse with row i times ``window[i]``.
    window : ndarray of float32, shape (P,)
        Weight of a pixel by its place in a line of the patch.
    matching : ndarray of float32, shape (P, P)
        Transform whose coefficients are compared.
    order : ndarray of int64, shape (K,)
        Which of them, low frequencies first.
    pixels, shares : ndarray of float32, shape (C, T, room)
        Filled: sums of weighted pixels, and of weights, of the rectangle that a tile reaches.
    """
    channels = images.shape[1]
    side = len(analysis)
    area = side * side
    kept = len(order)
    wiener = len(pilots) > 0
    most_y, most_x = 0, 0
    for t in range(first, last):
        most_y, most_x = max(most_y, tiles[t, 7]), max(most_x, tiles[t, 8])
    most_pitch = (most_x + 15) // 16 * 16 + 16 + side
    margin = (reach + 15) // 16 * 16
    most_stride = margin + (most_x + 15) // 16 * 16 + margin + 16
    tile = np.zeros((most_y + side) * most_pitch, np.float32)
    rows = np.empty((most_y + side) * side * most_pitch, np.float32)
    planes = aligned(most_y * kept * most_stride)
    coefficients = np.empty((channels, most_y * most_x * area), np.float32)
    guesses = np.empty((channels, most_y * most_x * area if wiener else 0), np.float32)
    sums = np.empty((channels, most_y * most_x * area), np.float32)
    weights = np.empty((channels, most_y * most_x), np.float32)
    group = np.zeros(32 * area, np.float32)
    pilot_group = np.zeros(32 * area, np.float32)
    references = np.empty(4 * kept, np.float32)
    room = aligned(4 * (2 * reach + 4) * 64)
    ranks = np.empty(32, np.float32)
    found = np.empty(32, np.int64)

    for t in range(first, last):
        index = tiles[t, 0]
        y_first, y_last, x_first, x_last = tiles[t, 1], tiles[t, 2], tiles[t, 3], tiles[t, 4]
        top, left, ny, nx = tiles[t, 5], tiles[t, 6], tiles[t, 7], tiles[t, 8]
        height, width = ny + side - 1, nx + side - 1
        pitch = (nx + 15) // 16 * 16 + 16 + side
        stride = margin + (nx + 15) // 16 * 16 + margin + 16
        limit = limits[index]
        # The first channel comes last, because it is matched by the pixels that are then left in `tile`.
        for c in range(channels - 1, -1, -1):
            copy(images[index, c], top, left, height, width, pitch, tile)
            forward(tile, pitch, ny, nx, analysis, rows, coefficients[c])
            if wiener:
                copy(pilots[index, c], top, left, height, width, pitch, tile)
                forward(tile, pitch, ny, nx, analysis, rows, guesses[c])
        coefficient_planes(tile, pitch, ny, nx, matching, order, margin, stride, rows, planes)
        sums[:, : ny * nx * area] = 0
        weights[:, : ny * nx] = 0

        guess = limit
        for y_step in range(y_first, y_last + step, step):
            y = min(y_step, y_last)
            above, below = max(top, y - reach), min(top + ny, y + reach + 1)
            lines = (below - above + 3) // 4 * 4
            for x_step in range(x_first, x_last + step, 4 * step):
                places = (
                    min(x_step, x_last) - left, min(x_step + step, x_last) - left,
                    min(x_step + 2 * step, x_last) - left, min(x_step + 3 * step, x_last) - left,
                )  # fmt: skip
                column = distances(
                    planes, kept, stride, margin, above - top, below - top, y - top, places, reach, references, room
                )
                for q in range(4):
                    if q and places[q] == places[q - 1]:
                        break
                    count = nearest(
                        room[64 * q * lines :], below - above, above - top, column, y - top, places[q], nx, reach,
                        limit, guess, size, ranks, found,
                    )  # fmt: skip
                    guess = np.float32(1.25) * ranks[0]
                    while count & (count - 1):
                        # Groups are cut to a power of two for the Haar transform.
                        count &= count - 1
                    for c in range(channels):
                        if wiener:
                            weight = shrink(
                                coefficients[c], guesses[c], area, found, count, strengths[index, c], group, pilot_group
                            )
                        else:
                            weight = threshold(coefficients[c], area, found, count, strengths[index, c], group)
                        scatter(group, area, found, count, weight, sums[c], weights[c])

        for c in range(channels):
            pixels[c, t, : height * width] = 0
            shares[c, t, : height * width] = 0
            inverse(sums[c], weights[c], ny, nx, synthesis, window, rows, width, pixels[c, t], shares[c, t])


@compiled
def merge(
    tiles: INTS, first: int, last: int, side: int, pixels: FLOATS, shares: FLOATS, weights: FLOATS, image: FLOATS
) -> None:
    """Put the tiles of one channel of an image together, always in the same order.

    Parameters
    ----------
    tiles : ndarray of int64, shape (T, 9)
        As in `filter_tiles`.
    first, last : int
        Tiles of the image, `last` excluded.
    side : int
        Side of a patch.
    pixels, shares : ndarray of float32, shape (T, room)
        What `filter_tiles` left of the channel.
    weights : ndarray of float32, shape (H, W)
        Scratch.
    image : ndarray of float32, shape (H, W)
        Filled: the estimate.
    """
    image[:] = 0
    weights[:] = 0
    for t in range(first, last):
        top, left = tiles[t, 5], tiles[t, 6]
        height, width = tiles[t, 7] + side - 1, tiles[t, 8] + side - 1
        for y in range(height):
            for x in range(width):
                image[top + y, left + x] += pixels[t, y * width + x]
                weights[top + y, left + x] += shares[t, y * width + x]
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            image[y, x] /= weights[y, x]


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
        As in `filter_tiles`.
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
