"""Collaborative filtering of one group of similar patches, 16 coefficients at a time.

A group is laid out as ``(P * P / 16, count, 16)``. Its Haar transform is written out for each size of a group, so that
all patches stay in registers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox_bm3d.compiled import compiled
from benchbox_bm3d.registers import (
    haar1,
    haar2,
    haar4,
    haar8,
    haar16,
    haar32,
    inverse_haar1,
    inverse_haar2,
    inverse_haar4,
    inverse_haar8,
    inverse_haar16,
    inverse_haar32,
)
from benchbox_bm3d.vectors import count_nonzero, load16, splat16, store, total, zero_below

FLOATS = NDArray[np.float32]
INTS = NDArray[np.int64]


@compiled
def _gather(coefficients: FLOATS, area: int, found: INTS, count: int, group: FLOATS) -> None:
    for block in range(area // 16):
        start = 16 * block * count
        if count == 32:
            haar32(coefficients, found, area, 16 * block, group, start)
        elif count == 16:
            haar16(coefficients, found, area, 16 * block, group, start)
        elif count == 8:
            haar8(coefficients, found, area, 16 * block, group, start)
        elif count == 4:
            haar4(coefficients, found, area, 16 * block, group, start)
        elif count == 2:
            haar2(coefficients, found, area, 16 * block, group, start)
        else:
            haar1(coefficients, found, area, 16 * block, group, start)


@compiled
def scatter(
    group: FLOATS, area: int, found: INTS, count: int, weight: np.float32, sums: FLOATS, weights: FLOATS
) -> None:
    """Transform a group back, and add its patches, weighted, and the weight at their places.

    Parameters
    ----------
    group : ndarray of float32, flat
        What `threshold` or `shrink` left.
    area : int
        Coefficients of a patch.
    found : ndarray of int64
        Places of the patches.
    count : int
        Patches of the group, a power of two up to 32.
    weight : float32
    sums, weights : ndarray of float32, flat
        Added to: coefficients, `area` a place, and weights, one a place.
    """
    factor = splat16(weight)
    for i in range(count):
        weights[found[i]] += weight
    for block in range(area // 16):
        start = 16 * block * count
        if count == 32:
            inverse_haar32(group, start, factor, sums, found, area, 16 * block)
        elif count == 16:
            inverse_haar16(group, start, factor, sums, found, area, 16 * block)
        elif count == 8:
            inverse_haar8(group, start, factor, sums, found, area, 16 * block)
        elif count == 4:
            inverse_haar4(group, start, factor, sums, found, area, 16 * block)
        elif count == 2:
            inverse_haar2(group, start, factor, sums, found, area, 16 * block)
        else:
            inverse_haar1(group, start, factor, sums, found, area, 16 * block)


@compiled
def threshold(coefficients: FLOATS, area: int, found: INTS, count: int, least: np.float32, group: FLOATS) -> np.float32:
    """Transform a group and hard-threshold it; the mean of the group is always kept.

    Parameters
    ----------
    coefficients : ndarray of float32, flat
        `area` a place.
    area : int
    found : ndarray of int64
        Places of the patches.
    count : int
        Patches of the group, a power of two up to 32.
    least : float32
        Threshold.
    group : ndarray of float32, flat
        Filled.

    Returns
    -------
    float32
        Weight of the estimates: one over the coefficients that are left.
    """
    _gather(coefficients, area, found, count, group)
    limit = splat16(least)
    mean = group[0]
    kept = 0
    for at in range(0, area * count, 16):
        value = zero_below(load16(group, at), limit)
        kept += count_nonzero(value)
        store(group, at, value)
    # The mean was below the threshold and counts as kept.
    if group[0] == 0:
        group[0] = mean
        kept += 1
    return np.float32(1) / np.float32(kept)


@compiled
def shrink(
    coefficients: FLOATS, pilots: FLOATS, area: int, found: INTS, count: int, noise: np.float32, group: FLOATS,
    pilot: FLOATS,
) -> np.float32:  # fmt: skip
    """Transform a group and Wiener-filter it by its pilot.

    The mean of the group is kept, because shrinking it would darken the image.

    Parameters
    ----------
    coefficients, pilots : ndarray of float32, flat
        Of the noisy image and of the pilot, `area` a place.
    area, found, count
        As in `threshold`.
    noise : float32
        Noise variance.
    group, pilot : ndarray of float32, flat
        Filled, and scratch.

    Returns
    -------
    float32
        Weight of the estimates: one over the energy of the filter.
    """
    _gather(coefficients, area, found, count, group)
    _gather(pilots, area, found, count, pilot)
    variance = splat16(max(noise, np.float32(1e-16)))
    energy = splat16(np.float32(0))
    one = splat16(np.float32(1))
    mean = group[0]
    half = max(16, area * count // 2)
    if area * count == 16:
        # A single 4x4 patch has no second vector; a pilot of zeros makes its gains zero.
        pilot[16:32] = 0
    for at in range(0, half, 16):
        # One division for two gains, because it takes longer than everything else here.
        first, second = load16(pilot, at), load16(pilot, half + at)
        first, second = first * first, second * second
        first_sum, second_sum = first + variance, second + variance
        inverse = one / (first_sum * second_sum)
        first = first * second_sum * inverse
        second = second * first_sum * inverse
        energy += first * first
        energy += second * second
        store(group, at, first * load16(group, at))
        store(group, half + at, second * load16(group, half + at))
    group[0] = mean
    weight: np.float32 = np.float32(1) / max(total(energy), np.float32(1e-6))
    return weight
