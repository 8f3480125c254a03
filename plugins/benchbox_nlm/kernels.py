"""Compiled non-local means: one pass over the image per displacement, half of them by symmetry."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

FLOATS = NDArray[np.float32]
INTS = NDArray[np.int64]
WINDOW = tuple[np.float32, ...]
F = TypeVar("F", bound=Callable[..., object])

_CUTOFF = np.float32(5)
"""Partial distance above which the weight is 0 and the other lines of a patch are skipped, as in scikit-image."""

# Schraudolph's exponential (Neural Computation 11(4), 1999): an integer whose bits, read as a float, interpolate 2^x
# linearly. It is within 4 % of exp, and identical to scikit-image's, so the results are the same.
_PER_UNIT = np.float32(2**23 / math.log(2))
_AT_ZERO = np.int32(127 * 2**23 - 60801 * 8)
_LARGEST = np.float32(80)


def compiled(function: F) -> F:
    """Compile a function on its first call to run without the GIL, and cache the machine code on disk."""
    # Allow reordered sums and fused products, so that loops use the vector units.
    floats = {"reassoc", "contract", "nsz", "arcp"}
    dispatcher: F = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=floats)(function)
    return dispatcher


@compiled
def _blur_line(square: FLOATS, window: WINDOW, scale: np.float32, line: FLOATS) -> None:
    for x in range(len(line)):
        total = np.float32(0)
        for j in range(len(window)):
            total += window[j] * square[x + j]
        line[x] = scale * total


@compiled
def _weigh(lines: FLOATS, y: int, window: WINDOW, noise: np.float32, bits: NDArray[np.int32]) -> None:
    for x in range(len(bits)):
        distance, most = np.float32(0), np.float32(0)
        for i in range(len(window)):
            most = max(most, distance)
            distance += window[i] * (lines[y + i, x] - noise)
        near = min(max(distance, np.float32(0)), _LARGEST)
        bits[x] = np.int32(_AT_ZERO - np.int32(_PER_UNIT * near)) if most <= _CUTOFF else np.int32(0)


@compiled
def _add(weights: FLOATS, first: FLOATS, second: FLOATS, first_sum: FLOATS, second_sum: FLOATS, first_total: FLOATS,
         second_total: FLOATS) -> None:  # fmt: skip
    # Two loops, because the two rows may be the same row.
    for x in range(len(weights)):
        first_sum[x] += weights[x] * second[x]
        first_total[x] += weights[x]
    for x in range(len(weights)):
        second_sum[x] += weights[x] * first[x]
        second_total[x] += weights[x]


@compiled
def _add_channel(weights: FLOATS, first: FLOATS, second: FLOATS, first_sum: FLOATS, second_sum: FLOATS) -> None:
    for x in range(len(weights)):
        first_sum[x] += weights[x] * second[x]
    for x in range(len(weights)):
        second_sum[x] += weights[x] * first[x]


@compiled
def filter_tiles(
    padded: FLOATS,
    tiles: INTS,
    first: int,
    last: int,
    window: WINDOW,
    scales: FLOATS,
    noises: FLOATS,
    reach: int,
    result: FLOATS,
) -> None:
    """Average each pixel of tiles `first` to `last` (excluded) with pixels that have similar patches, into `result`.

    Each tile depends only on its image and is summed in a fixed order, so the number of threads changes no result.

    Parameters
    ----------
    padded : ndarray of float32, shape (N, C, H + P - 1, W + P - 1)
        Channels of noisy images with a margin of half a patch, P // 2 pixels.
    tiles : ndarray of int64, shape (T, 5)
        Image index, first and last row, first and last column, the last ones excluded.
    first, last : int
        Tiles to filter.
    window : tuple of P float32
        Separable weights of the squared differences in a patch; they sum to 1.
    scales : ndarray of float32, shape (N,)
        Factor from weighted squared difference, summed over channels, to distance, for each image.
    noises : ndarray of float32, shape (N,)
        Expected distance of equal patches due to noise, for each image.
    reach : int
        Rows and columns to search on either side.
    result : ndarray of float32, shape (N, C, H, W)
    """
    _, channels, height, width = result.shape
    side = len(window)
    most_y, most_x = 0, 0
    for t in range(first, last):
        most_y, most_x = max(most_y, tiles[t, 2] - tiles[t, 1]), max(most_x, tiles[t, 4] - tiles[t, 3])
    most_y, most_x = most_y + 2 * reach, most_x + 2 * reach
    sums = np.empty((channels, most_y, most_x), np.float32)
    totals = np.empty((most_y, most_x), np.float32)
    square = np.empty(most_x + side, np.float32)
    lines = np.empty((most_y + side, most_x), np.float32)
    bits = np.empty(most_x, np.int32)
    weights = bits.view(np.float32)
    half = side // 2
    for t in range(first, last):
        index, top, bottom, left, right = tiles[t]
        image, scale, noise = padded[index], scales[index], noises[index]
        bits[0] = _AT_ZERO
        itself = weights[0]
        for y in range(top, bottom):
            for x in range(left, right):
                for channel in range(channels):
                    value = itself * image[channel, y + half, x + half]
                    sums[channel, y - top + reach, x - left + reach] = value
                totals[y - top + reach, x - left + reach] = itself
        for down in range(reach + 1):
            for across in range(-reach if down else 1, reach + 1):
                # Pixels with a partner at this displacement, if at least one of the two is in the tile.
                y_first, y_last = max(0, top - down), min(bottom, height - down)
                x_first = max(0, -across, left - max(across, 0))
                x_last = min(width, width - across, right + max(-across, 0))
                span = x_last - x_first
                if y_last <= y_first or span <= 0:
                    continue
                for y in range(y_first, y_last + side - 1):
                    line = image[0, y, x_first : x_last + side - 1]
                    shifted = image[0, y + down, x_first + across : x_last + across + side - 1]
                    for x in range(span + side - 1):
                        error = line[x] - shifted[x]
                        square[x] = error * error
                    for channel in range(1, channels):
                        line = image[channel, y, x_first : x_last + side - 1]
                        shifted = image[channel, y + down, x_first + across : x_last + across + side - 1]
                        for x in range(span + side - 1):
                            error = line[x] - shifted[x]
                            square[x] += error * error
                    _blur_line(square, window, scale, lines[y - y_first, :span])
                for y in range(y_first, y_last):
                    _weigh(lines, y - y_first, window, noise, bits[:span])
                    row, start = y - top + reach, x_first - left + reach
                    low, right_start = row + down, start + across
                    _add(
                        weights[:span], image[0, y + half, x_first + half :],
                        image[0, y + half + down, x_first + across + half :], sums[0, row, start:],
                        sums[0, low, right_start:], totals[row, start:], totals[low, right_start:],
                    )  # fmt: skip
                    for channel in range(1, channels):
                        _add_channel(
                            weights[:span], image[channel, y + half, x_first + half :],
                            image[channel, y + half + down, x_first + across + half :], sums[channel, row, start:],
                            sums[channel, low, right_start:],
                        )  # fmt: skip
        for y in range(top, bottom):
            for x in range(left, right):
                place = y - top + reach, x - left + reach
                for channel in range(channels):
                    result[index, channel, y, x] = sums[channel, place[0], place[1]] / totals[place]
