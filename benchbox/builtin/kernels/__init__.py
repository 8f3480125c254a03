"""Compiled kernels for whole stacks, and their compiler settings; numba is imported only when a kernel is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

STACK = "Array(float32, 3, 'C', readonly=True)"
"""Numba type of a stack of images; read-only, so that memory maps and arrays share one compilation."""

# Sums may be reordered and multiplications fused, so that loops use the vector units; NaN and infinity keep their
# meaning.
_FLOATS = {"reassoc", "contract", "nsz"}


def compiled(*signatures: str) -> Callable[[F], F]:
    """Compile a function for these numba signatures when its module is imported, so that no call compiles.

    Numba caches the machine code next to the source, or in the user's cache folder if that place is read-only.
    """

    def decorate(function: F) -> F:
        import numba

        dispatcher: F = numba.njit(list(signatures), cache=True, nogil=True, error_model="numpy", fastmath=_FLOATS)(
            function
        )
        return dispatcher

    return decorate


def inlined(function: F) -> F:
    """Inline a helper into each kernel that calls it, because a call for every row costs as much as the row."""
    import numba

    dispatcher: F = numba.njit(inline="always", nogil=True, error_model="numpy", fastmath=_FLOATS)(function)
    return dispatcher
