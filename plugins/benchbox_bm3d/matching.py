"""Block matching: the patches most like a reference patch, by the distance of their DCT coefficients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox_bm3d.compiled import compiled
from benchbox_bm3d.vectors import below, insert_sorted, last, load16, lowest_bit, shift_up, splat16, store

FLOATS = NDArray[np.float32]
INTS = NDArray[np.int64]

# Value of coefficients outside the image, so far away that no patch there is ever similar.
_FAR = np.float32(1e4)
# Low frequencies that are compared first; where none of 64 candidates can still be among the best, the rest is skipped.
_FIRST = 16


@compiled
def coefficient_planes(
    tile: FLOATS, pitch: int, ny: int, nx: int, matrix: FLOATS, order: INTS, reach: int, stride: int,
    rows: FLOATS, planes: FLOATS,
) -> None:  # fmt: skip
    """Transform every patch of a tile, and lay the coefficients out so that neighbours in a row are contiguous.

    Parameters
    ----------
    tile : ndarray of float32, flat
        Pixels, `pitch` a row, at least 16 + P beyond the last patch of a row.
    pitch, ny, nx : int
        Pixels a row in memory; rows and columns of patches.
    matrix : ndarray of float32, shape (P, P)
        Orthonormal transform of a line.
    order : ndarray of int64, shape (K,)
        Coefficients to keep, as ``P * vertical + horizontal``.
    reach : int
        Columns of `_FAR` to put on the left.
    stride : int
        Length of a row of `planes`.
    rows : ndarray of float32, flat
        Room for ``(ny + P - 1) * P * pitch`` numbers.
    planes : ndarray of float32, flat
        Filled: ``(ny, K, stride)``, where the patch in column x stands at ``reach + x``.
    """
    side = len(matrix)
    kept = len(order)
    zero = splat16(np.float32(0))
    for y in range(ny + side - 1):
        for k in range(side):
            for x in range(0, nx, 16):
                value = zero
                for j in range(side):
                    value += splat16(matrix[k, j]) * load16(tile, y * pitch + x + j)
                store(rows, (y * side + k) * pitch + x, value)
    for y in range(ny):
        for k in range(kept):
            vertical, horizontal = order[k] // side, order[k] % side
            start = (y * kept + k) * stride
            for x in range(0, nx, 16):
                value = zero
                for j in range(side):
                    value += splat16(matrix[vertical, j]) * load16(rows, ((y + j) * side + horizontal) * pitch + x)
                store(planes, start + reach + x, value)
            outside = _FAR if k == 0 else np.float32(0)
            planes[start : start + reach] = outside
            planes[start + reach + nx : start + stride] = outside


@compiled
def _nearest_below(
    planes: FLOATS, kept: int, stride: int, top: int, bottom: int, y: int, x: int, nx: int, reach: int,
    limit: np.float32, size: int, reference: FLOATS, room: FLOATS, ranks: FLOATS, found: INTS,
) -> int:  # fmt: skip
    # Two vectors hold the 32 best, ascending; of a smaller group only the upper lanes are in use.
    unused = 32 - size
    ranks[:unused] = -2
    ranks[unused] = -1
    ranks[unused + 1 :] = limit
    low, high = load16(ranks, 0), load16(ranks, 16)
    ranks[:] = -1
    ranks[unused] = y * nx + x
    low_items, high_items = load16(ranks, 0), load16(ranks, 16)
    worst = limit

    row = kept * stride
    width = 2 * reach + 1
    first = min(_FIRST, kept)
    blocks = (width + 15) // 16
    quads = (bottom - top + 3) // 4
    start = (y - top) // 4
    for turn in range(quads):
        # Rows near the reference come first, for the best patches are often there.
        quad = (start + turn) % quads
        above = top + 4 * quad
        row0 = above * row + x
        row1 = min(above + 1, bottom - 1) * row + x
        row2 = min(above + 2, bottom - 1) * row + x
        row3 = min(above + 3, bottom - 1) * row + x
        height = min(4, bottom - above)
        for block in range(blocks):
            zero = splat16(np.float32(0))
            sum0, sum1, sum2, sum3 = zero, zero, zero, zero
            for k in range(first):
                value = splat16(reference[k])
                column = k * stride + 16 * block
                error0 = load16(planes, row0 + column) - value
                error1 = load16(planes, row1 + column) - value
                error2 = load16(planes, row2 + column) - value
                error3 = load16(planes, row3 + column) - value
                sum0 += error0 * error0
                sum1 += error1 * error1
                sum2 += error2 * error2
                sum3 += error3 * error3
            bound = splat16(worst)
            if first < kept and (below(sum0, bound) | below(sum1, bound) | below(sum2, bound) | below(sum3, bound)):
                for k in range(first, kept):
                    value = splat16(reference[k])
                    column = k * stride + 16 * block
                    error0 = load16(planes, row0 + column) - value
                    error1 = load16(planes, row1 + column) - value
                    error2 = load16(planes, row2 + column) - value
                    error3 = load16(planes, row3 + column) - value
                    sum0 += error0 * error0
                    sum1 += error1 * error1
                    sum2 += error2 * error2
                    sum3 += error3 * error3
            bits0 = below(sum0, bound) | below(sum1, bound) << 16
            bits1 = below(sum2, bound) | below(sum3, bound) << 16
            if not bits0 | bits1:
                continue
            store(room, 0, sum0)
            store(room, 16, sum1)
            store(room, 32, sum2)
            store(room, 48, sum3)
            left = x - reach + 16 * block
            for half in range(2):
                bits = bits1 if half else bits0
                while bits:
                    lane = lowest_bit(bits) + 32 * half
                    bits &= bits - 1
                    line, column = lane // 16, lane % 16
                    rank = room[lane]
                    if rank >= worst or line >= height or 16 * block + column >= width:
                        continue
                    if above + line == y and left + column == x:
                        continue
                    place = splat16(np.float32((above + line) * nx + left + column))
                    new = splat16(rank)
                    shifted = shift_up(high, low)
                    high_items = insert_sorted(high, shifted, new, high_items, shift_up(high_items, low_items), place)
                    high = insert_sorted(high, shifted, new, high, shifted, new)
                    if size > 16:
                        shifted = shift_up(low, splat16(np.float32(-2)))
                        low_items = insert_sorted(low, shifted, new, low_items, shift_up(low_items, low_items), place)
                        low = insert_sorted(low, shifted, new, low, shifted, new)
                    worst = last(high)
    store(ranks, 0, low_items)
    store(ranks, 16, high_items)
    count = 0
    while count < size and ranks[unused + count] >= 0:
        found[count] = np.int64(ranks[unused + count])
        count += 1
    room[0] = worst
    return count


@compiled
def nearest(
    planes: FLOATS, kept: int, stride: int, top: int, bottom: int, y: int, x: int, nx: int, reach: int,
    limit: np.float32, guess: np.float32, size: int, reference: FLOATS, room: FLOATS, ranks: FLOATS, found: INTS,
) -> int:  # fmt: skip
    """Find the patches nearest to a reference patch, itself first, then by distance.

    Parameters
    ----------
    planes : ndarray of float32, flat
        What `coefficient_planes` made, `kept` coefficients a patch, `stride` a row.
    top, bottom : int
        Rows of patches to search, `bottom` excluded.
    y, x, nx : int
        Place of the reference patch; patches a row.
    reach : int
        Columns to search on either side.
    limit : float32
        Sum of squared differences that a similar patch stays below.
    guess : float32
        Likely distance of the last patch found. A low bound from the start spares most of the sorting; where it was
        too low, the search is repeated without, so that it never changes the result.
    size : int
        Patches to find at most, up to 32.
    reference, room, ranks : ndarray of float32
        Scratch of `kept`, 64 and 32 numbers. ``room[0]`` is left as the distance of the last patch found.
    found : ndarray of int64, shape (32,)
        Filled with places, ``y * nx + x``.

    Returns
    -------
    int
        How many were found, at least 1.
    """
    for k in range(kept):
        reference[k] = planes[(y * kept + k) * stride + reach + x]
    if guess < limit:
        count = _nearest_below(
            planes, kept, stride, top, bottom, y, x, nx, reach, guess, size, reference, room, ranks, found
        )  # fmt: skip
        if count == size:
            return count
    return _nearest_below(
        planes, kept, stride, top, bottom, y, x, nx, reach, limit, size, reference, room, ranks, found
    )  # fmt: skip
