"""Collaborative filtering of one group of similar patches, in place, 16 coefficients at a time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from benchbox_bm3d.compiled import compiled
from benchbox_bm3d.vectors import count_nonzero, load16, splat16, store, total, zero_below

FLOATS = NDArray[np.float32]
INTS = NDArray[np.int64]

_HALF = np.float32(math.sqrt(0.5))


@compiled
def gather(coefficients: FLOATS, area: int, found: INTS, count: int, group: FLOATS) -> None:
    """Copy the patches of a group, `area` coefficients each, to ``(area / 16, count, 16)``."""
    for i in range(count):
        for block in range(area // 16):
            store(group, (block * count + i) * 16, load16(coefficients, found[i] * area + 16 * block))


@compiled
def haar(group: FLOATS, start: int, count: int) -> None:
    """Orthonormal Haar transform of `count` vectors of 16 lanes, in place; the order of the result is its own."""
    half = splat16(_HALF)
    step = 1
    while step < count:
        for i in range(0, count, 2 * step):
            at, other = start + 16 * i, start + 16 * (i + step)
            first, second = load16(group, at), load16(group, other)
            store(group, at, (first + second) * half)
            store(group, other, (first - second) * half)
        step *= 2


@compiled
def inverse_haar(group: FLOATS, start: int, count: int) -> None:
    """Undo `haar`."""
    half = splat16(_HALF)
    step = count // 2
    while step > 0:
        for i in range(0, count, 2 * step):
            at, other = start + 16 * i, start + 16 * (i + step)
            first, second = load16(group, at), load16(group, other)
            store(group, at, (first + second) * half)
            store(group, other, (first - second) * half)
        step //= 2


@compiled
def threshold(group: FLOATS, area: int, count: int, least: np.float32) -> np.float32:
    """Hard-threshold a group; the weight of its estimates is one over the coefficients that are left.

    The mean of the group is always kept.
    """
    limit = splat16(least)
    kept = 0
    for block in range(area // 16):
        start = 16 * block * count
        haar(group, start, count)
        mean = group[0]
        for at in range(start, start + 16 * count, 16):
            value = zero_below(load16(group, at), limit)
            kept += count_nonzero(value)
            store(group, at, value)
        if block == 0 and group[0] == 0:
            group[0] = mean
            kept += 1
        inverse_haar(group, start, count)
    return np.float32(1) / np.float32(kept)


@compiled
def shrink(group: FLOATS, pilot: FLOATS, area: int, count: int, noise: np.float32) -> np.float32:
    """Empirical Wiener filter of a group by its pilot (overwritten); the weight is one over the filter's energy.

    The mean of the group is left as it is: shrinking it would darken the image.
    """
    variance = splat16(noise)
    energy = splat16(np.float32(0))
    for block in range(area // 16):
        start = 16 * block * count
        haar(group, start, count)
        haar(pilot, start, count)
        mean = group[0]
        for at in range(start, start + 16 * count, 16):
            guess = load16(pilot, at)
            power = guess * guess
            gain = power / (power + variance)
            energy += gain * gain
            store(group, at, gain * load16(group, at))
        if block == 0:
            group[0] = mean
        inverse_haar(group, start, count)
    weight: np.float32 = np.float32(1) / max(total(energy), np.float32(1e-6))
    return weight


@compiled
def scatter(group: FLOATS, area: int, found: INTS, count: int, weight: np.float32, sums: FLOATS,
            weights: FLOATS) -> None:  # fmt: skip
    """Add the weighted patches of a group, and their weight, at their places."""
    factor = splat16(weight)
    for i in range(count):
        weights[found[i]] += weight
        for block in range(area // 16):
            at = found[i] * area + 16 * block
            store(sums, at, load16(sums, at) + factor * load16(group, (block * count + i) * 16))
