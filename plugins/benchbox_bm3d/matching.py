"""Block matching: finds the patches closest to a reference patch by their DCT coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from benchbox_bm3d.vectors import (
    FLAGS,
    INT32,
    INT64,
    address,
    below,
    compiled,
    insert_sorted,
    lanes_of,
    last,
    load16,
    lowest_bit,
    shift_up,
    splat16,
    store,
    types,
)

FLOATS = NDArray[np.float32]
INTS = NDArray[np.int64]

# Value of coefficients outside the image, so far away that no patch there is ever similar.
_FAR = np.float32(1e4)


@intrinsic  # type: ignore[untyped-decorator]
def squared_distances(
    typing: Any, array: Any, rows: Any, stride: Any, count: Any, references: Any, out: Any, at: Any, pitch: Any
) -> Any:
    """Distances of 16 columns in four rows to four references, over `count` coefficients.

    Row r has its coefficient k at ``array[rows[r] + k * stride:]``, reference q at ``references[4 * k + q]``. The sum
    for them goes to ``out[at + (q * pitch + r) * 64:]``. Every coefficient that is loaded serves four references, and
    all sixteen sums stay in registers, so that the arithmetic units and not the cache set the pace.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_, rows_, stride_, count_, references_, out_, at_, pitch_ = arguments
        kind = ir.VectorType(ir.FloatType(), 16)
        # The sums are stack variables, which LLVM promotes to registers: simpler to write than the phi nodes of a loop.
        starts = cgutils.unpack_tuple(builder, rows_, 4)
        sums = [[cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for _ in range(4)] for _ in range(4)]
        source = context.make_array(references)(context, builder, references_).data
        # The only loop of the machine code, over the coefficients that are compared.
        with cgutils.for_range(builder, count_, intp=INT64) as loop:
            skipped = builder.mul(loop.index, stride_)
            first = builder.mul(loop.index, ir.Constant(INT64, 4))
            values = []
            for q in range(4):
                value = builder.load(builder.gep(source, [builder.add(first, ir.Constant(INT64, q))]))
                vector = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT32, 0))
                values.append(builder.shuffle_vector(vector, vector, lanes_of([0] * 16)))
            for r in range(4):
                place = address(context, builder, array, array_, builder.add(starts[r], skipped), 16)
                line = builder.load(place)
                line.align = 4
                for q in range(4):
                    error = builder.fsub(line, values[q], flags=FLAGS)
                    square = builder.fmul(error, error, flags=FLAGS)
                    builder.store(builder.fadd(builder.load(sums[q][r]), square, flags=FLAGS), sums[q][r])
        for q in range(4):
            for r in range(4):
                step = builder.mul(builder.add(builder.mul(pitch_, ir.Constant(INT64, q)), ir.Constant(INT64, r)),
                                   ir.Constant(INT64, 64))  # fmt: skip
                written = builder.store(
                    builder.load(sums[q][r]), address(context, builder, out, out_, builder.add(at_, step), 16)
                )
                written.align = 4
        return context.get_dummy_value()

    signature = types.void(
        array, types.UniTuple(types.intp, 4), types.intp, types.intp, references, out, types.intp, types.intp
    )
    return signature, generate


@compiled
def coefficient_planes(
    tile: FLOATS, pitch: int, ny: int, nx: int, matrix: FLOATS, order: INTS, margin: int, stride: int,
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
    margin : int
        Columns of `_FAR` to put on the left.
    stride : int
        Length of a row of `planes`.
    rows : ndarray of float32, flat
        Room for ``(ny + P - 1) * P * pitch`` numbers.
    planes : ndarray of float32, flat
        Filled: ``(ny, K, stride)``, where the patch in column x stands at ``margin + x``.
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
                store(planes, start + margin + x, value)
            outside = _FAR if k == 0 else np.float32(0)
            planes[start : start + margin] = outside
            planes[start + margin + nx : start + stride] = outside


@compiled
def aligned(count: int) -> FLOATS:
    """Room for `count` numbers that starts on a cache line, so that a vector never straddles two."""
    room = np.empty(count + 16, np.float32)
    skipped = (-(room.ctypes.data // 4)) % 16
    return room[skipped : skipped + count]


@compiled
def distances(
    planes: FLOATS, kept: int, stride: int, margin: int, top: int, bottom: int, y: int,
    places: tuple[int, int, int, int], reach: int, references: FLOATS, room: FLOATS,
) -> int:  # fmt: skip
    """Compare four reference patches of one row with all patches in reach of any of them.

    Parameters
    ----------
    planes : ndarray of float32, flat
        What `coefficient_planes` made: `kept` coefficients a patch, `stride` a row, the first patch at `margin`.
    top, bottom : int
        Rows of patches to search, `bottom` excluded.
    y : int
        Row of the reference patches.
    places : tuple of int
        Their columns, ascending.
    reach : int
        Columns to search on either side.
    references : ndarray of float32, shape (4 * kept,)
        Scratch.
    room : ndarray of float32, flat
        Filled: sums of squared differences, ``(4, rows, 64)``, rows being a multiple of 4 that is at least
        ``bottom - top``. The first of the 64 columns is the one returned.

    Returns
    -------
    int
        Column that the first distance of each row belongs to; it may lie outside the image.
    """
    for k in range(kept):
        for q in range(4):
            references[4 * k + q] = planes[(y * kept + k) * stride + margin + places[q]]
    row = kept * stride
    left = margin + places[0] - reach
    blocks = (places[3] - places[0] + 2 * reach) // 16 + 1
    pitch = (bottom - top + 3) // 4 * 4
    for line in range(0, bottom - top, 4):
        start = (top + line) * row + left
        # Four rows at a time; the last one is compared again in place of those that are missing, and nobody reads it.
        row1 = min(top + line + 1, bottom - 1) * row + left
        row2 = min(top + line + 2, bottom - 1) * row + left
        row3 = min(top + line + 3, bottom - 1) * row + left
        for block in range(blocks):
            more = 16 * block
            squared_distances(
                planes, (start + more, row1 + more, row2 + more, row3 + more), stride, kept, references,
                room, line * 64 + more, pitch,
            )  # fmt: skip
    return left - margin


@compiled
def _best(
    room: FLOATS, height: int, middle: int, columns: np.int64, own: int, limit: np.float32, size: int, place: int,
    nx: int, ranks: FLOATS, found: INTS,
) -> int:  # fmt: skip
    # Two vectors hold the 32 best, ascending; of a smaller group only the upper lanes are in use.
    unused = 32 - size
    # Lanes that no rank can pass: below the reference itself, which is -1 and so stays first.
    ranks[:unused] = -2
    ranks[unused] = -1
    ranks[unused + 1 :] = limit
    low, high = load16(ranks, 0), load16(ranks, 16)
    ranks[:] = -1
    ranks[unused] = place + middle * nx + own
    low_items, high_items = load16(ranks, 0), load16(ranks, 16)
    worst = limit
    for turn in range(2 * height):
        # Rows near the reference come first: the best patches are often there, and spare the sorting of others.
        # Turns 0, 1, 2, 3 ... are the rows 0, +1, -1, +2 ... from that of the reference.
        line = middle + (turn + 1) // 2 * (1 if turn % 2 else -1)
        if line < 0 or line >= height:
            continue
        at = 64 * line
        bound = splat16(worst)
        bits = below(load16(room, at), bound) | below(load16(room, at + 16), bound) << 16
        bits |= below(load16(room, at + 32), bound) << 32 | below(load16(room, at + 48), bound) << 48
        bits &= columns
        if line == middle:
            bits &= ~(np.int64(1) << own)
        while bits:
            column = lowest_bit(bits)
            bits &= bits - 1
            # Columns were compared with the bound at the start of the row, which has fallen since.
            rank = room[at + column]
            if rank >= worst:
                continue
            item = splat16(np.float32(place + line * nx + column))
            new = splat16(rank)
            shifted = shift_up(high, low)
            high_items = insert_sorted(high, shifted, new, high_items, shift_up(high_items, low_items), item)
            high = insert_sorted(high, shifted, new, high, shifted, new)
            if size > 16:
                shifted = shift_up(low, splat16(np.float32(-2)))
                low_items = insert_sorted(low, shifted, new, low_items, shift_up(low_items, low_items), item)
                low = insert_sorted(low, shifted, new, low, shifted, new)
            worst = last(high)
    store(ranks, 0, low_items)
    store(ranks, 16, high_items)
    count = 0
    while count < size and ranks[unused + count] >= 0:
        found[count] = np.int64(ranks[unused + count])
        count += 1
    ranks[0] = worst
    return count


@compiled
def nearest(
    room: FLOATS, height: int, top: int, left: int, y: int, x: int, nx: int, reach: int, limit: np.float32,
    guess: np.float32, size: int, ranks: FLOATS, found: INTS,
) -> int:  # fmt: skip
    """Pick the patches nearest to a reference patch, itself first, then by distance.

    Parameters
    ----------
    room : ndarray of float32, flat
        Distances of this reference, as `distances` left them: `height` rows of 64 columns.
    top, left : int
        Row and column of the first distance.
    y, x, nx : int
        Place of the reference patch; patches a row.
    reach : int
        Columns to search on either side.
    limit : float32
        Distance that a similar patch stays below.
    guess : float32
        Likely distance of the last patch found. A low bound from the start spares most of the sorting; where it was
        too low, the search is repeated without, so that it never changes the result.
    size : int
        Patches to find at most, up to 32.
    ranks : ndarray of float32, shape (32,)
        Scratch; ``ranks[0]`` is left as the distance of the last patch found.
    found : ndarray of int64, shape (32,)
        Filled with places, ``y * nx + x``.

    Returns
    -------
    int
        How many were found, at least 1.
    """
    first, own = max(0, x - reach - left), x - left
    columns = ((np.int64(1) << (2 * reach + 1)) - 1) << first
    place = top * nx + left
    if guess < limit:
        count = _best(room, height, y - top, columns, own, guess, size, place, nx, ranks, found)
        if count == size:
            return count
    return _best(room, height, y - top, columns, own, limit, size, place, nx, ranks, found)
