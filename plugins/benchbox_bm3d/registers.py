"""Distances and Haar transforms as LLVM code, for more vectors than numba's loops keep in registers.

The two inner loops of BM3D are here: block matching, which sums squared differences between a reference patch and every
patch around it, and the transform along a group, which mixes up to 32 similar patches. Both do little arithmetic for
each number that they read, so in a plain loop they wait for memory. The remedy is the same for both: read a number
once, and do everything with it while it is in a register.

- `squared_distances` takes four reference patches and four rows of candidates at a time. Each vector of candidates
  serves four references, each reference value four rows: 16 sums grow in 16 registers, and 16 multiply-adds share 8
  loads. One reference and one row at a time would need two loads for every multiply-add.
- `haar1` ... `haar32` hold one vector of every patch of a group, go through all levels of the transform, and write it
  out once. A loop over the levels would write and read the whole group up to five times.

They are LLVM code because numba's compiler decides by itself what stays in registers, and decides against it as soon as
a loop has a variable count or an array in it. Here each sum is a value of its own, and the loops over references, rows
and patches run in Python while the kernel is compiled, so the machine code has them written out. A machine with fewer
or shorter registers spills some of them, which costs speed but changes no result.

`vectors` explains how such functions are built; ``tests/plugins/test_bm3d_kernels.py`` compares each of them with a few
lines of NumPy.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from benchbox_bm3d.vectors import FLAGS, INT32, INT64, address, lanes_of

types: Any = numba.types


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
