"""How kernels are compiled, and vectors of float32 for them, because numba's loops keep no patch in registers.

Each function here is one instruction or a few. LLVM splits a vector that is wider than the machine's into several, so
the kernels run anywhere and are merely slower where vectors are short.

How to read it. BM3D spends its time on short rows of numbers: 4 or 8 pixels of a patch, 16 neighbouring patches. A
processor handles such a row with one instruction if the row is in a vector register, but numba offers arrays only, and
an array is in memory. So this module gives numba a type of its own, `Vector`, whose values are LLVM vectors, and
functions on it. In a kernel they read like NumPy::

    total = splat8(weight) * load8(pixels, at)  # weight * pixels[at : at + 8]
    store(out, to, total)  # out[to : to + 8] = total

Each function is an `intrinsic`: numba calls it with the *types* of the arguments to learn the signature, and later
calls `generate` with a `builder`, to which it appends instructions. Python runs both only while a kernel is compiled.

What to keep in mind when you change it:

- Nothing checks bounds. A kernel must own all lanes that it loads or stores, which is why arrays have room at the end.
- Addresses are aligned to one number (``align = 4``), no more. Otherwise LLVM assumes the alignment of a whole vector,
  and the process crashes at the first odd column.
- ``a * b + c`` may be fused into one rounding (`FLAGS`), which is faster and closer to the exact result. Sums are never
  reordered, so results do not depend on the number of threads.
- ``tests/plugins/test_bm3d_kernels.py`` compares every function with a line of NumPy.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba.extending import intrinsic, models, overload, register_model

types: Any = numba.types
F = TypeVar("F", bound=Callable[..., object])

# Sums may be reordered and products fused, so that loops use the vector units; NaN and infinity keep their meaning.
_FASTMATH = {"reassoc", "contract", "nsz", "arcp"}

_SOURCES = [file.stat() for file in Path(__file__).parent.glob("*.py")]
_STAMP = (max(source.st_mtime for source in _SOURCES), sum(source.st_size for source in _SOURCES))


def compiled(function: F) -> F:
    """Compile a function on its first call; the machine code is cached on disk and shared between processes.

    Kernels run without the GIL on Python threads. Numba's `parallel=True` would abort the program if two threads called
    it, and would make the order of sums depend on the number of threads.
    """
    dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FASTMATH)(function)
    # Numba only checks a function's own file to see whether its machine code is out of date, but the machine code also
    # contains the functions that it calls: here, a change in any file of the package counts.
    dispatcher._cache._cache_file._source_stamp = _STAMP
    kernel: F = dispatcher
    return kernel


# A product may be fused into the sum that follows; nothing else is reordered.
FLAGS = ("contract",)
INT32 = ir.IntType(32)
INT64 = ir.IntType(64)


# Numba learns a type in three steps: a class that names it, a model that says what LLVM holds for it, and overloads of
# the operators (below), without which `left + right` of two vectors does not compile.
class Vector(types.Type):  # type: ignore[misc]
    """Numba type of some float32 lanes held in a register."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"float32x{lanes}")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(ir.FloatType(), vector.lanes))


def address(context: Any, builder: Any, kind: Any, array: Any, index: Any, lanes: int) -> Any:
    """Pointer to the vector of some lanes at ``array[index:]``; `kind` is the numba type of the array."""
    start = builder.gep(context.make_array(kind)(context, builder, array).data, [index])
    return builder.bitcast(start, ir.VectorType(ir.FloatType(), lanes).as_pointer())


def lanes_of(indices: list[int]) -> Any:
    """Mask of a shuffle that takes these lanes."""
    return ir.Constant(ir.VectorType(INT32, len(indices)), indices)


# The number of lanes must be known when a kernel is compiled: a function for each instead of an argument.
def _make_load(lanes: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def load(typing: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = builder.load(address(context, builder, array, arguments[0], arguments[1], lanes))
            value.align = 4
            return value

        return Vector(lanes)(array, types.intp), generate

    return load


def _make_splat(lanes: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def splat(typing: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            # LLVM's idiom for a broadcast: put the number into lane 0, then take lane 0 for every lane.
            empty = ir.Constant(ir.VectorType(ir.FloatType(), lanes), ir.Undefined)
            first = builder.insert_element(empty, arguments[0], ir.Constant(INT32, 0))
            return builder.shuffle_vector(first, first, lanes_of([0] * lanes))

        return Vector(lanes)(types.float32), generate

    return splat


load4, load8, load16 = _make_load(4), _make_load(8), _make_load(16)
splat4, splat8, splat16 = _make_splat(4), _make_splat(8), _make_splat(16)


@intrinsic  # type: ignore[untyped-decorator]
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write the lanes of `vector` to ``array[index:]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        written = builder.store(
            arguments[2], address(context, builder, array, arguments[0], arguments[1], vector.lanes)
        )
        written.align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


# `overload` asks `choose` about each pair of types that meet at an operator: it gives an implementation for two equal
# vectors, and None ("not mine") for all others. `+=` is the same as `+`, because a register has no address.
def _arithmetic(operation: str, *operators: Callable[..., object]) -> None:
    @intrinsic  # type: ignore[untyped-decorator]
    def apply(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, operation)(*arguments, flags=FLAGS)

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
        # Block matching compares 64 distances with a bound and visits the few below it. As bits of one integer they
        # are found by counting zeros, without a branch for each of the others. Ordered: NaN is below nothing.
        bits = builder.bitcast(builder.fcmp_ordered("<", *arguments), ir.IntType(left.lanes))
        return builder.zext(bits, INT64)

    return types.int64(left, right), generate


@intrinsic  # type: ignore[untyped-decorator]
def lowest_bit(typing: Any, bits: Any) -> Any:
    """Position of the lowest bit that is set; there must be one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # The 1 promises that some bit is set, which spares the instructions for none.
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
        return builder.zext(builder.ctpop(bits), INT64)

    return types.int64(vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def total(typing: Any, vector: Any) -> Any:
    """Sum of the lanes, halves first."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # A fixed tree, because LLVM's own reduction is either sequential, hence slow, or in any order it likes.
        value, lanes = arguments[0], vector.lanes
        while lanes > 1:
            half = lanes // 2
            low = builder.shuffle_vector(value, value, lanes_of(list(range(half))))
            high = builder.shuffle_vector(value, value, lanes_of(list(range(half, lanes))))
            value, lanes = builder.fadd(low, high), half
        return builder.extract_element(value, ir.Constant(INT32, 0))

    return types.float32(vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def last(typing: Any, vector: Any) -> Any:
    """Value of the last lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.extract_element(arguments[0], ir.Constant(INT32, vector.lanes - 1))

    return types.float32(vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def shift_up(typing: Any, vector: Any, before: Any) -> Any:
    """Move every lane one up; the first becomes the last lane of `before`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = vector.lanes
        return builder.shuffle_vector(arguments[1], arguments[0], lanes_of(list(range(lanes - 1, 2 * lanes - 1))))

    return vector(vector, vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def insert_sorted(typing: Any, ranks: Any, shifted: Any, rank: Any, items: Any, items_shifted: Any, item: Any) -> Any:
    """Lanes of `items` once `item` has been put where `rank` belongs among the ascending lanes of `ranks`.

    With ``items = ranks`` and ``item = rank`` it gives the new ranks. Equal ranks stay in the order of their coming.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # Insertion sort without a loop. Lanes before the new one's place keep what they hold; lanes after it take what
        # their lower neighbour held (`shifted`); the one in between, which moves while its neighbour does not, takes
        # the new item. All lanes decide at once. "<", not "<=", puts an equal rank behind those that came before it.
        ranks, shifted, rank, items, items_shifted, item = arguments
        moves = builder.fcmp_ordered("<", rank, ranks)
        passed = builder.fcmp_ordered("<", rank, shifted)
        return builder.select(moves, builder.select(passed, items_shifted, item), items)

    return ranks(ranks, ranks, ranks, ranks, ranks, ranks), generate
