"""The number of threads a denoiser may use: benchbox sets it, plugins read it."""

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
    """Threads that a denoiser may use in this process.

    Returns
    -------
    int
        What the harness set in ``BENCHBOX_THREADS``; outside a run, the cores this process may use.
    """
    given = os.environ.get(THREADS_VARIABLE, "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_environment(count: int) -> dict[str, str]:
    """Environment variables that hold common libraries to `count` threads.

    They must be set before the libraries are imported, so they are given to a new process.

    Parameters
    ----------
    count : int
        Number of threads, at least 1.

    Returns
    -------
    dict of str to str
        The variables of OpenMP, OpenBLAS, MKL, numba, OpenCV and TensorFlow, and benchbox's own.
    """
    return dict.fromkeys((*LIBRARY_VARIABLES, THREADS_VARIABLE), str(count))
