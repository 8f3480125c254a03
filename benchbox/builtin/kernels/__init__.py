"""Compiled kernels over whole stacks, and how they are compiled; numba is imported only when one is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

STACK = "Array(float32, 3, 'C', readonly=True)"
"""A stack of images in numba's words; read-only, so that a memory map and an array share one compilation."""

# Sums may be reordered and multiplications fused, so that loops use the vector units; NaN and infinity keep their
# meaning.
_FLOATS = {"reassoc", "contract", "nsz"}


def compiled(*signatures: str) -> Callable[[F], F]:
    """Compile a function for one thread, once a machine.

    Parameters
    ----------
    *signatures : str
        Types in numba's words, given beforehand, so that a call never compiles.

    Returns
    -------
    callable
        A decorator. The function's machine code is kept beside it, or in the user's cache folder where that place
        cannot be written.
    """

    def decorate(function: F) -> F:
        import numba

        dispatcher: F = numba.njit(list(signatures), cache=True, nogil=True, error_model="numpy", fastmath=_FLOATS)(
            function
        )
        return dispatcher

    return decorate


def inlined(function: F) -> F:
    """Compile a helper into each kernel that calls it; a call for every row would cost as much as the row."""
    import numba

    dispatcher: F = numba.njit(inline="always", nogil=True, error_model="numpy", fastmath=_FLOATS)(function)
    return dispatcher
