"""Every vector kernel of BM3D-lite beside its twin in NumPy."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from benchbox_bm3d import groups, matching, vectors
from numpy.typing import NDArray

Floats = NDArray[np.float32]
LANES = (4, 8, 16)
LOADS: dict[int, Any] = {4: vectors.load4, 8: vectors.load8, 16: vectors.load16}
SPLATS: dict[int, Any] = {4: vectors.splat4, 8: vectors.splat8, 16: vectors.splat16}


def draw(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def awkward(lanes: int) -> Floats:
    """Numbers with zeros of both signs, infinities and a NaN among them."""
    values = draw(lanes)
    values[:4] = (0.0, -0.0, np.inf, np.nan)
    return np.roll(values, 1)


# --- vectors: one instruction or a few --------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", LANES)
def test_load_and_store_take_any_place_and_touch_no_other(lanes: int) -> None:
    load = LOADS[lanes]

    @numba.njit  # type: ignore[untyped-decorator]
    def move(source: Floats, at: int, target: Floats, to: int) -> None:
        vectors.store(target, to, load(source, at))

    for start in (0, 1, 7):
        source, target, expected = draw(40), np.zeros(40, np.float32), np.zeros(40, np.float32)
        move(source, start, target, start + 3)
        expected[start + 3 : start + 3 + lanes] = source[start : start + lanes]
        np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("lanes", LANES)
def test_splat_fills_every_lane(lanes: int) -> None:
    splat = SPLATS[lanes]

    @numba.njit  # type: ignore[untyped-decorator]
    def fill(value: np.float32, out: Floats) -> None:
        vectors.store(out, 0, splat(value))

    out = np.zeros(lanes, np.float32)
    fill(np.float32(0.1), out)
    np.testing.assert_array_equal(out, np.full(lanes, 0.1, np.float32))


@pytest.mark.parametrize("lanes", LANES)
def test_arithmetic_is_that_of_numpy(lanes: int) -> None:
    load = LOADS[lanes]

    @numba.njit  # type: ignore[untyped-decorator]
    def apply(left: Floats, right: Floats, out: Floats) -> None:
        one, other = load(left, 0), load(right, 0)
        vectors.store(out, 0, one + other)
        vectors.store(out, lanes, one - other)
        vectors.store(out, 2 * lanes, one * other)
        vectors.store(out, 3 * lanes, one / other)

    left, right, out = awkward(lanes), draw(lanes, seed=1), np.zeros(4 * lanes, np.float32)
    apply(left, right, out)
    np.testing.assert_array_equal(out, np.concatenate([left + right, left - right, left * right, left / right]))


@pytest.mark.parametrize("lanes", LANES)
def test_comparisons_become_bits(lanes: int) -> None:
    load = LOADS[lanes]

    @numba.njit  # type: ignore[untyped-decorator]
    def compare(left: Floats, right: Floats) -> int:
        return vectors.below(load(left, 0), load(right, 0))  # type: ignore[no-any-return]

    left, right = awkward(lanes), draw(lanes, seed=1)
    right[-1] = left[-1]
    assert compare(left, right) == sum(1 << lane for lane in np.nonzero(left < right)[0])
    assert compare(np.full(lanes, -1, np.float32), np.zeros(lanes, np.float32)) == 2**lanes - 1


def test_the_lowest_bit_is_found() -> None:
    @numba.njit  # type: ignore[untyped-decorator]
    def find(bits: np.int64) -> int:
        return vectors.lowest_bit(bits)  # type: ignore[no-any-return]

    for bit in (0, 1, 15, 40, 63):
        assert find(np.int64(-1) << np.int64(bit)) == bit


@pytest.mark.parametrize("lanes", LANES)
def test_a_hard_threshold_keeps_what_is_at_least_as_large(lanes: int) -> None:
    load, splat = LOADS[lanes], SPLATS[lanes]

    @numba.njit  # type: ignore[untyped-decorator]
    def cut(values: Floats, least: np.float32, out: Floats) -> int:
        kept = vectors.zero_below(load(values, 0), splat(least))
        vectors.store(out, 0, kept)
        return vectors.count_nonzero(kept)  # type: ignore[no-any-return]

    for least in (0.0, 0.5, 10.0):
        values, out = awkward(lanes), np.ones(lanes, np.float32)
        values[-1] = -np.float32(least)
        count = cut(values, np.float32(least), out)
        expected = np.where(np.abs(values) < np.float32(least), np.float32(0), values)
        np.testing.assert_array_equal(out, expected)
        assert count == np.count_nonzero(expected)


@pytest.mark.parametrize("lanes", LANES)
def test_a_total_adds_halves(lanes: int) -> None:
    load = LOADS[lanes]

    @numba.njit  # type: ignore[untyped-decorator]
    def add(values: Floats) -> tuple[np.float32, np.float32]:
        vector = load(values, 0)
        return vectors.total(vector), vectors.last(vector)

    values = draw(lanes)
    halves = values
    while len(halves) > 1:
        halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
    total, last = add(values)
    assert total == halves[0]
    assert last == values[-1]


@pytest.mark.parametrize("lanes", LANES)
def test_shift_up_takes_the_lane_before(lanes: int) -> None:
    load = LOADS[lanes]

    @numba.njit  # type: ignore[untyped-decorator]
    def shift(values: Floats, before: Floats, out: Floats) -> None:
        vectors.store(out, 0, vectors.shift_up(load(values, 0), load(before, 0)))

    values, before, out = draw(lanes), draw(lanes, seed=1), np.zeros(lanes, np.float32)
    shift(values, before, out)
    np.testing.assert_array_equal(out, [before[-1], *values[:-1]])


def test_insertion_is_a_stable_sort() -> None:
    """Ranks come in one by one, many of them equal; the sixteen lowest stay, in the order of their coming."""
    load, splat = LOADS[16], SPLATS[16]

    @numba.njit  # type: ignore[untyped-decorator]
    def insert(ranks: Floats, items: Floats, rank: np.float32, item: np.float32) -> None:
        old, old_items, new = load(ranks, 0), load(items, 0), splat(rank)
        shifted = vectors.shift_up(old, splat(np.float32(-1)))
        moved = vectors.insert_sorted(old, shifted, new, old_items, vectors.shift_up(old_items, old_items), splat(item))
        vectors.store(items, 0, moved)
        vectors.store(ranks, 0, vectors.insert_sorted(old, shifted, new, old, shifted, new))

    coming = np.random.default_rng(0).integers(0, 12, 40).astype(np.float32)
    ranks, items = np.full(16, 100, np.float32), np.full(16, -1, np.float32)
    for number, rank in enumerate(coming):
        insert(ranks, items, rank, np.float32(number))
        order = np.argsort(coming[: number + 1], kind="stable")[:16]
        np.testing.assert_array_equal(items[: len(order)], order)
        np.testing.assert_array_equal(ranks[: len(order)], coming[order])


# --- whole blocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5, 64])
def test_squared_distances(count: int) -> None:
    @numba.njit  # type: ignore[untyped-decorator]
    def measure(
        planes: Floats, rows: tuple[int, int, int, int], stride: int, count: int, references: Floats, out: Floats,
        at: int, pitch: int,
    ) -> None:  # fmt: skip
        matching.squared_distances(planes, rows, stride, count, references, out, at, pitch)

    stride, pitch, at = 40, 4, 16
    rows = (3, count * stride + 1, 3, 2 * count * stride + 20)
    planes, references = draw(3 * count * stride + 60), draw(count, 4, seed=1)
    out = np.full(4 * pitch * 64, np.nan, np.float32)
    measure(planes, rows, stride, count, references.ravel(), out, at, pitch)
    expected = np.full((4, pitch, 64), np.nan)
    for q in range(4):
        for r, row in enumerate(rows):
            block = np.stack([planes[row + k * stride : row + k * stride + 16] for k in range(count)])
            expected[q, r, at : at + 16] = np.square(block.astype(np.float64) - references[:, q : q + 1]).sum(axis=0)
    np.testing.assert_allclose(out.reshape(4, pitch, 64), expected, rtol=2e-6)


def haar_matrix(size: int) -> NDArray[np.float64]:
    """The orthonormal Haar transform as a matrix; row i belongs to patch i, which the kernel transforms in place."""
    rows = np.eye(size)
    step = 1
    while step < size:
        for first in range(0, size, 2 * step):
            low, high = rows[first].copy(), rows[first + step].copy()
            rows[first], rows[first + step] = (low + high) / np.sqrt(2), (low - high) / np.sqrt(2)
        step *= 2
    return rows


SIZES = (1, 2, 4, 8, 16, 32)


@pytest.mark.parametrize("count", SIZES)
def test_haar_and_its_inverse(count: int) -> None:
    haar, inverse = getattr(groups, f"haar{count}"), getattr(groups, f"inverse_haar{count}")

    @numba.njit  # type: ignore[untyped-decorator]
    def forward(source: Floats, places: NDArray[np.int64], pitch: int, offset: int, group: Floats, start: int) -> None:
        haar(source, places, pitch, offset, group, start)

    @numba.njit  # type: ignore[untyped-decorator]
    def backward(
        group: Floats, start: int, weight: np.float32, target: Floats, places: NDArray[np.int64], pitch: int,
        offset: int,
    ) -> None:  # fmt: skip
        inverse(group, start, vectors.splat16(weight), target, places, pitch, offset)

    matrix = haar_matrix(count)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(count), atol=1e-12)
    pitch, offset, start = 64, 16, 32
    places = np.random.default_rng(0).permutation(50)[:count]
    source = draw(50, pitch)
    group = np.full(start + 16 * count + 16, np.nan, np.float32)
    forward(source.ravel(), places, pitch, offset, group, start)
    patches = source[places, offset : offset + 16]
    coefficients = group[start : start + 16 * count].reshape(count, 16)
    np.testing.assert_allclose(coefficients, matrix @ patches, atol=5e-6)
    assert np.isnan(group[:start]).all()
    assert np.isnan(group[start + 16 * count :]).all()

    target = draw(50, pitch, seed=1)
    expected = target.astype(np.float64)
    expected[places, offset : offset + 16] += 0.7 * (matrix.T @ coefficients)
    backward(group, start, np.float32(0.7), target.ravel(), places, pitch, offset)
    np.testing.assert_allclose(target, expected, atol=5e-6)
