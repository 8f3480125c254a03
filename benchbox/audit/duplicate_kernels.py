"""Compiled duplicate search: compares hashes bit by bit, then details pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from benchbox.builtin.kernels import STACK, compiled

REACH = 3
"""Pixels by which one picture may be shifted against the other, in either direction."""


@intrinsic  # type: ignore[untyped-decorator]
def _ones(typing_context: Any, word: Any) -> Any:
    """Number of bits that are set in a uint64; numba has no name for the machine's instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@compiled("int32(int32[::1], int32)")
def _root(parents: NDArray[np.int32], one: int) -> int:
    while parents[one] != one:
        parents[one] = parents[parents[one]]
        one = parents[one]
    return one


@compiled("float32(float32[:, ::1], float32, Array(float32, 2, 'C', readonly=True), int64, int64)")
def _correlation(
    window: NDArray[np.float32], energy: np.float32, other: NDArray[np.float32], top: int, left: int
) -> np.float32:
    """Correlation of a window of mean 0 and sum of squares `energy` with what lies at a place of the other picture."""
    inner = len(window)
    product, total, square = np.float32(0), np.float32(0), np.float32(0)
    for i in range(inner):
        # A row of its own has no index that might be negative, which would keep the loop from the vector units.
        row, values = window[i], other[i + top, left : left + inner]
        for j in range(inner):
            product += row[j] * values[j]
            total += values[j]
            square += values[j] * values[j]
    scale = energy * (square - total * total / np.float32(inner * inner))
    return np.float32(product / np.sqrt(scale)) if scale > 0 else np.float32(-1)


@compiled(f"void({STACK}, int64, float32[:, :, ::1], float32[::1])")
def _take(stack: NDArray[np.float32], index: int, windows: NDArray[np.float32], energies: NDArray[np.float32]) -> None:
    """Take the middle of a picture less its mean, as it is and mirrored, and its sum of squares."""
    side, inner = stack.shape[1], windows.shape[1]
    margin = (side - inner) // 2
    for mirrored in range(2):
        mean, energy = np.float32(0), np.float32(0)
        for i in range(inner):
            for j in range(inner):
                column = side - 1 - margin - j if mirrored else margin + j
                windows[mirrored, i, j] = stack[index, i + margin, column]
                mean += windows[mirrored, i, j]
        mean /= np.float32(inner * inner)
        for i in range(inner):
            for j in range(inner):
                windows[mirrored, i, j] -= mean
                energy += windows[mirrored, i, j] * windows[mirrored, i, j]
        energies[mirrored] = energy


@compiled(
    f"int64({STACK}, {STACK}, uint64[::1], uint64, int64, int64, int64, float32, float32, int32[::1], int32[:, ::1],"
    " float32[::1])"
)
def find_pairs(
    details: NDArray[np.float32],
    halves: NDArray[np.float32],
    hashes: NDArray[np.uint64],
    mirror: int,
    start: int,
    stop: int,
    radius: int,
    promising: float,
    similar: float,
    parents: NDArray[np.int32],
    pairs: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> int:
    """Compare the pictures from `start` to `stop` with all that follow them, and link those that show the same.

    A pair is compared pixel by pixel where its hashes differ in at most `radius` bits, and where no pairs found before
    link it already; so there are fewer pairs than pictures, whatever the data. Shifts of two pixels are tried at half
    the size, then those around the best of them at full size.

    Parameters
    ----------
    details : ndarray of float32, shape (N, S, S)
    halves : ndarray of float32, shape (N, S / 2, S / 2)
        The same at half the size.
    hashes : ndarray of uint64, shape (N,)
    mirror : int
        Bits that change when a picture is mirrored left to right.
    start, stop, radius : int
    promising : float
        Least correlation at half the size for which the full size is compared.
    similar : float
        Least correlation of a pair.
    parents : ndarray of int32, shape (N,)
        Each picture's parent in the forest of links; at first itself.
    pairs : ndarray of int32, shape (N, 3)
        Is filled with first picture, second picture, and 1 where the second is mirrored.
    scores : ndarray of float32, shape (N,)
        Is filled with the correlation of each pair.

    Returns
    -------
    int
        Number of pairs.
    """
    side, half = details.shape[1], halves.shape[1]
    windows = np.empty((2, side - 2 * REACH, side - 2 * REACH), dtype=np.float32)
    half_windows = np.empty((2, half - 2, half - 2), dtype=np.float32)
    energies, half_energies = np.empty(2, dtype=np.float32), np.empty(2, dtype=np.float32)
    found = 0
    for first in range(start, stop):
        # The first picture is mirrored once, instead of every second one.
        _take(details, first, windows, energies)
        _take(halves, first, half_windows, half_energies)
        for second in range(first + 1, len(hashes)):
            difference = hashes[first] ^ hashes[second]
            for mirrored in range(2):
                if mirrored:
                    difference ^= np.uint64(mirror)
                if _ones(difference) > np.uint64(radius):
                    continue
                low, high = _root(parents, first), _root(parents, second)
                if low == high:
                    continue
                best, best_top, best_left = np.float32(-1), 1, 1
                for top in range(3):
                    for left in range(3):
                        score = _correlation(half_windows[mirrored], half_energies[mirrored], halves[second], top, left)
                        if score > best:
                            best, best_top, best_left = score, top, left
                if best < promising:
                    continue
                best = np.float32(-1)
                middle_top, middle_left = REACH + 2 * (best_top - 1), REACH + 2 * (best_left - 1)
                for top in range(middle_top - 1, middle_top + 2):
                    for left in range(middle_left - 1, middle_left + 2):
                        score = _correlation(windows[mirrored], energies[mirrored], details[second], top, left)
                        best = max(best, score)
                if best >= similar:
                    parents[high] = low
                    pairs[found, 0], pairs[found, 1], pairs[found, 2] = first, second, mirrored
                    scores[found] = best
                    found += 1
    return found
