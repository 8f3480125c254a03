"""Collaborative filtering of one group of similar patches, 16 coefficients at a time.

A group is laid out as ``(P * P / 16, count, 16)``. Its Haar transform mixes up to 32 patches and does little arithmetic
for each number that it reads, so a plain loop waits for memory, and a loop over the levels would write and read the
group up to five times. `haar1` ... `haar32` hold one vector of every patch, go through all levels, and write it out
once. They are LLVM code, written out by Python while the kernel is compiled, because numba decides by itself what stays
in registers, and decides against it as soon as a loop has a variable count or an array in it. `vectors` explains how
such functions are built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic
from numpy.typing import NDArray

from benchbox_bm3d.vectors import (
    FLAGS,
    INT64,
    address,
    compiled,
    count_nonzero,
    load16,
    splat16,
    store,
    total,
    types,
    zero_below,
)

FLOATS = NDArray[np.float32]
INTS = NDArray[np.int64]


# The Haar transform of a group is done in place, as a tree: patch 0 meets patch 1, 2 meets 3, and so on; the sum stays
# with the first of a pair, the difference with the second. At the next level the sums 0 and 2 meet, at the one after it
# 0 and 4. An orthonormal transform divides by sqrt(2) at each level. Here the butterflies leave that out, and one
# multiplication at the end makes up for all levels that a row took part in: 0.5 ** (level / 2).
def _levels(count: int) -> list[int]:
    # How many levels each row of a group takes part in: 3 1 2 1 3 1 2 1 in a group of 8.
    levels, step = [0] * count, 1
    while step < count:
        for row in range(0, count, step):
            levels[row] += 1
        step *= 2
    return levels


def _butterfly(builder: Any, rows: list[Any], first: int, second: int) -> None:
    low, high = rows[first], rows[second]
    rows[first], rows[second] = builder.fadd(low, high), builder.fsub(low, high)


def _scale(builder: Any, value: Any, level: int) -> Any:
    factor = ir.Constant(ir.VectorType(ir.FloatType(), 16), [0.5 ** (level / 2)] * 16)
    return builder.fmul(value, factor) if level else value


def _make_haar(count: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def haar(typing: Any, source: Any, places: Any, pitch: Any, offset: Any, group: Any, start: Any) -> Any:
        """Transform 16 columns of the rows at ``source[places * pitch + offset:]`` to ``group[start:]``."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source_, places_, pitch_, offset_, group_, start_ = arguments
            indices = context.make_array(places)(context, builder, places_).data
            # Patches are gathered here by their places, so no untransformed copy of the group is ever written.
            rows = []
            for row in range(count):
                place = builder.load(builder.gep(indices, [ir.Constant(INT64, row)]))
                at = builder.add(builder.mul(place, pitch_), offset_)
                value = builder.load(address(context, builder, source, source_, at, 16))
                value.align = 4
                rows.append(value)
            step = 1
            while step < count:
                for row in range(0, count, 2 * step):
                    _butterfly(builder, rows, row, row + step)
                step *= 2
            for row, level in enumerate(_levels(count)):
                at = builder.add(start_, ir.Constant(INT64, 16 * row))
                written = builder.store(
                    _scale(builder, rows[row], level), address(context, builder, group, group_, at, 16)
                )
                written.align = 4
            return context.get_dummy_value()

        return types.void(source, places, types.intp, types.intp, group, types.intp), generate

    return haar


def _make_inverse_haar(count: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def inverse_haar(
        typing: Any, group: Any, start: Any, weight: Any, target: Any, places: Any, pitch: Any, offset: Any
    ) -> Any:
        """Undo `haar`, and add the rows, times `weight`, at ``target[places * pitch + offset:]``."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            group_, start_, weight_, target_, places_, pitch_, offset_ = arguments
            indices = context.make_array(places)(context, builder, places_).data
            rows = []
            for row, level in enumerate(_levels(count)):
                at = builder.add(start_, ir.Constant(INT64, 16 * row))
                value = builder.load(address(context, builder, group, group_, at, 16))
                value.align = 4
                rows.append(_scale(builder, value, level))
            # A butterfly undoes itself up to its factor, so only the order of the levels is reversed.
            step = count // 2
            while step > 0:
                for row in range(0, count, 2 * step):
                    _butterfly(builder, rows, row, row + step)
                step //= 2
            for row in range(count):
                place = builder.load(builder.gep(indices, [ir.Constant(INT64, row)]))
                at = address(context, builder, target, target_, builder.add(builder.mul(place, pitch_), offset_), 16)
                before = builder.load(at)
                before.align = 4
                more = builder.fmul(rows[row], weight_, flags=FLAGS)
                written = builder.store(builder.fadd(before, more, flags=FLAGS), at)
                written.align = 4
            return context.get_dummy_value()

        return types.void(group, types.intp, weight, target, places, types.intp, types.intp), generate

    return inverse_haar


haar1, haar2, haar4, haar8, haar16, haar32 = (_make_haar(count) for count in (1, 2, 4, 8, 16, 32))
inverse_haar1, inverse_haar2, inverse_haar4, inverse_haar8, inverse_haar16, inverse_haar32 = (
    _make_inverse_haar(count) for count in (1, 2, 4, 8, 16, 32)
)


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
