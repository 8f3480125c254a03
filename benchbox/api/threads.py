"""How many threads a denoiser may use: benchbox sets the number, plugins read it."""

from __future__ import annotations

import os

THREADS_VARIABLE = "BENCHBOX_THREADS"
LIBRARY_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


def threads() -> int:
    """Return the number of threads that a denoiser may use in this process.

    Returns
    -------
    int
        The value of ``BENCHBOX_THREADS``, which benchbox sets in a run; otherwise the cores this process may use.
    """
    given = os.environ.get(THREADS_VARIABLE, "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_environment(count: int) -> dict[str, str]:
    """Environment variables that limit common libraries to `count` threads; set them before starting a process."""
    return dict.fromkeys((*LIBRARY_VARIABLES, THREADS_VARIABLE), str(count))
