"""How kernels are compiled: once per machine, single-threaded, without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])

# Sums may be reordered and products fused, so that loops use the vector units; NaN and infinity keep their meaning.
_FLOATS = {"reassoc", "contract", "nsz", "arcp"}

_SOURCES = [file.stat() for file in Path(__file__).parent.glob("*.py")]
_STAMP = (max(source.st_mtime for source in _SOURCES), sum(source.st_size for source in _SOURCES))


def compiled(function: F) -> F:
    """Compile a function on its first call; the machine code is cached on disk and shared between processes.

    Kernels run without the GIL on Python threads. Numba's `parallel=True` would abort the program if two threads called
    it, and would make the order of sums depend on the number of threads.
    """
    dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FLOATS)(function)
    # Numba only checks a function's own file to see whether its machine code is out of date, but the machine code also
    # contains the functions that it calls: here, a change in any file of the package counts.
    dispatcher._cache._cache_file._source_stamp = _STAMP
    kernel: F = dispatcher
    return kernel
