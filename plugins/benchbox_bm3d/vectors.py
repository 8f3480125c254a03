"""Vectors of float32 lanes for compiled kernels: numba's own loops do not keep a patch in vector registers.

Each function here is one instruction or a few. LLVM splits a vector that is wider than the machine's into several,
so that the kernels run anywhere and are merely slower where vectors are short.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

types: Any = numba.types

# A product may be fused into the sum that follows; nothing else is reordered.
_FLAGS = ("contract",)
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)


class Vector(types.Type):  # type: ignore[misc]
    """Numba type of some float32 lanes held in a register."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"float32x{lanes}")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(ir.FloatType(), vector.lanes))


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any, lanes: int) -> Any:
    start = builder.gep(context.make_array(kind)(context, builder, array).data, [index])
    return builder.bitcast(start, ir.VectorType(ir.FloatType(), lanes).as_pointer())


def _lanes(indices: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_INT32, len(indices)), indices)


def _make_load(lanes: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def load(typing: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = builder.load(_address(context, builder, array, arguments[0], arguments[1], lanes))
            value.align = 4
            return value

        return Vector(lanes)(array, types.intp), generate

    return load


def _make_splat(lanes: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def splat(typing: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            empty = ir.Constant(ir.VectorType(ir.FloatType(), lanes), ir.Undefined)
            first = builder.insert_element(empty, arguments[0], ir.Constant(_INT32, 0))
            return builder.shuffle_vector(first, first, _lanes([0] * lanes))

        return Vector(lanes)(types.float32), generate

    return splat


load4, load8, load16 = _make_load(4), _make_load(8), _make_load(16)
splat4, splat8, splat16 = _make_splat(4), _make_splat(8), _make_splat(16)


@intrinsic  # type: ignore[untyped-decorator]
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write the lanes of `vector` to ``array[index:]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        written = builder.store(
            arguments[2], _address(context, builder, array, arguments[0], arguments[1], vector.lanes)
        )
        written.align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


def _arithmetic(operation: str, *operators: Callable[..., object]) -> None:
    @intrinsic  # type: ignore[untyped-decorator]
    def apply(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, operation)(*arguments, flags=_FLAGS)

        return left(left, right), generate

    def choose(left: Any, right: Any) -> Any:
        def implementation(left: Any, right: Any) -> Any:
            return apply(left, right)

        return implementation if isinstance(left, Vector) and left == right else None

    for symbol in operators:
        overload(symbol)(choose)


_arithmetic("fadd", operator.add, operator.iadd)
_arithmetic("fsub", operator.sub, operator.isub)
_arithmetic("fmul", operator.mul, operator.imul)
_arithmetic("fdiv", operator.truediv, operator.itruediv)


@intrinsic  # type: ignore[untyped-decorator]
def below(typing: Any, left: Any, right: Any) -> Any:
    """Integer whose bit i is set where lane i of `left` is less than that of `right`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(builder.fcmp_ordered("<", *arguments), ir.IntType(left.lanes))
        return builder.zext(bits, _INT64)

    return types.int64(left, right), generate


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
        starts = cgutils.unpack_tuple(builder, rows_, 4)
        sums = [[cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for _ in range(4)] for _ in range(4)]
        source = context.make_array(references)(context, builder, references_).data
        with cgutils.for_range(builder, count_, intp=_INT64) as loop:
            skipped = builder.mul(loop.index, stride_)
            first = builder.mul(loop.index, ir.Constant(_INT64, 4))
            values = []
            for q in range(4):
                value = builder.load(builder.gep(source, [builder.add(first, ir.Constant(_INT64, q))]))
                vector = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT32, 0))
                values.append(builder.shuffle_vector(vector, vector, _lanes([0] * 16)))
            for r in range(4):
                place = _address(context, builder, array, array_, builder.add(starts[r], skipped), 16)
                line = builder.load(place)
                line.align = 4
                for q in range(4):
                    error = builder.fsub(line, values[q], flags=_FLAGS)
                    square = builder.fmul(error, error, flags=_FLAGS)
                    builder.store(builder.fadd(builder.load(sums[q][r]), square, flags=_FLAGS), sums[q][r])
        for q in range(4):
            for r in range(4):
                step = builder.mul(builder.add(builder.mul(pitch_, ir.Constant(_INT64, q)), ir.Constant(_INT64, r)),
                                   ir.Constant(_INT64, 64))  # fmt: skip
                written = builder.store(
                    builder.load(sums[q][r]), _address(context, builder, out, out_, builder.add(at_, step), 16)
                )
                written.align = 4
        return context.get_dummy_value()

    signature = types.void(
        array, types.UniTuple(types.intp, 4), types.intp, types.intp, references, out, types.intp, types.intp
    )
    return signature, generate


def _levels(count: int) -> list[int]:
    # How many levels of the Haar transform each row of a group takes part in.
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
            rows = []
            for row in range(count):
                place = builder.load(builder.gep(indices, [ir.Constant(_INT64, row)]))
                at = builder.add(builder.mul(place, pitch_), offset_)
                value = builder.load(_address(context, builder, source, source_, at, 16))
                value.align = 4
                rows.append(value)
            step = 1
            while step < count:
                for row in range(0, count, 2 * step):
                    _butterfly(builder, rows, row, row + step)
                step *= 2
            for row, level in enumerate(_levels(count)):
                at = builder.add(start_, ir.Constant(_INT64, 16 * row))
                written = builder.store(
                    _scale(builder, rows[row], level), _address(context, builder, group, group_, at, 16)
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
                at = builder.add(start_, ir.Constant(_INT64, 16 * row))
                value = builder.load(_address(context, builder, group, group_, at, 16))
                value.align = 4
                rows.append(_scale(builder, value, level))
            step = count // 2
            while step > 0:
                for row in range(0, count, 2 * step):
                    _butterfly(builder, rows, row, row + step)
                step //= 2
            for row in range(count):
                place = builder.load(builder.gep(indices, [ir.Constant(_INT64, row)]))
                at = _address(context, builder, target, target_, builder.add(builder.mul(place, pitch_), offset_), 16)
                before = builder.load(at)
                before.align = 4
                more = builder.fmul(rows[row], weight_, flags=_FLAGS)
                written = builder.store(builder.fadd(before, more, flags=_FLAGS), at)
                written.align = 4
            return context.get_dummy_value()

        return types.void(group, types.intp, weight, target, places, types.intp, types.intp), generate

    return inverse_haar


haar1, haar2, haar4, haar8, haar16, haar32 = (_make_haar(count) for count in (1, 2, 4, 8, 16, 32))
inverse_haar1, inverse_haar2, inverse_haar4, inverse_haar8, inverse_haar16, inverse_haar32 = (
    _make_inverse_haar(count) for count in (1, 2, 4, 8, 16, 32)
)


@intrinsic  # type: ignore[untyped-decorator]
def lowest_bit(typing: Any, bits: Any) -> Any:
    """Position of the lowest bit that is set; there must be one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def zero_below(typing: Any, vector: Any, threshold: Any) -> Any:
    """Hard threshold: lanes whose magnitude is less than `threshold` become zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, least = arguments
        magnitude = builder.select(
            builder.fcmp_ordered("<", value, ir.Constant(value.type, None)), builder.fneg(value), value
        )
        return builder.select(builder.fcmp_ordered("<", magnitude, least), ir.Constant(value.type, None), value)

    return vector(vector, vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def count_nonzero(typing: Any, vector: Any) -> Any:
    """Number of lanes that are not zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = arguments[0]
        bits = builder.bitcast(
            builder.fcmp_unordered("!=", value, ir.Constant(value.type, None)), ir.IntType(vector.lanes)
        )
        return builder.zext(builder.ctpop(bits), _INT64)

    return types.int64(vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def total(typing: Any, vector: Any) -> Any:
    """Sum of the lanes, halves first."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, lanes = arguments[0], vector.lanes
        while lanes > 1:
            half = lanes // 2
            low = builder.shuffle_vector(value, value, _lanes(list(range(half))))
            high = builder.shuffle_vector(value, value, _lanes(list(range(half, lanes))))
            value, lanes = builder.fadd(low, high), half
        return builder.extract_element(value, ir.Constant(_INT32, 0))

    return types.float32(vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def last(typing: Any, vector: Any) -> Any:
    """Value of the last lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.extract_element(arguments[0], ir.Constant(_INT32, vector.lanes - 1))

    return types.float32(vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def shift_up(typing: Any, vector: Any, before: Any) -> Any:
    """Move every lane one up; the first becomes the last lane of `before`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = vector.lanes
        return builder.shuffle_vector(arguments[1], arguments[0], _lanes(list(range(lanes - 1, 2 * lanes - 1))))

    return vector(vector, vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def insert_sorted(typing: Any, ranks: Any, shifted: Any, rank: Any, items: Any, items_shifted: Any, item: Any) -> Any:
    """Lanes of `items` once `item` has been put where `rank` belongs among the ascending lanes of `ranks`.

    With ``items = ranks`` and ``item = rank`` it gives the new ranks. Equal ranks stay in the order of their coming.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        ranks, shifted, rank, items, items_shifted, item = arguments
        moves = builder.fcmp_ordered("<", rank, ranks)
        passed = builder.fcmp_ordered("<", rank, shifted)
        return builder.select(moves, builder.select(passed, items_shifted, item), items)

    return ranks(ranks, ranks, ranks, ranks, ranks, ranks), generate
