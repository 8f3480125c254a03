"""How the kernels are compiled: once a machine, for one thread, without Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])

# Sums may be reordered and products fused, so that loops use the vector units; NaN and infinity keep their meaning.
_FLOATS = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: F) -> F:
    """Compile a function on its first call; the machine code is kept on disk and shared between processes.

    Threads are Python's own, for the kernels hold no lock: numba's `parallel=True` would make the program abort where
    two threads call it, and would let the order of sums depend on their number.
    """
    dispatcher: F = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FLOATS)(function)
    return dispatcher
