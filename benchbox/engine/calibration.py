"""Times a fixed workload like a denoiser, so that latencies measured on two machines can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchbox.api.threads import thread_environment
from benchbox.engine.plan import Limits
from benchbox.records.outcomes import Calibration
from benchbox.records.run import decode
from benchbox.system.program import Child, ChildDied, ChildHangs, parent_connection

SIDE = 256
"""Side of the stencil's array and of both matrices, so that all of them fit a second-level cache."""
ROUNDS = 8
SAMPLES = 101
_WARM_UPS = 10


def calibrate(threads: int, limits: Limits, log: Path) -> Calibration | None:
    """Time the workload in a fresh process; on failure returns None, logs why, and the run continues without it."""
    try:
        with Child("benchbox.engine.calibration", thread_environment(threads)) as child:
            measured = child.receive(limits.timeout_s)
        return decode(Calibration, measured | {"threads": threads})
    except (ChildDied, ChildHangs, OSError, ValueError) as error:
        log.write_text(f"calibration failed: {error}\n", encoding="utf-8", errors="backslashreplace")
        return None


def measure() -> dict[str, list[float]]:
    """Time the workload in this process; returns samples in milliseconds.

    ``stencil_ms``: `ROUNDS` passes back and forth over an array, single-threaded. ``product_ms``: the product of two
    float32 matrices by numpy's BLAS, on as many threads as it may use.
    """
    from benchbox.builtin.kernels.pixels import smooth

    rng = np.random.default_rng(0)
    first, left, right = (rng.random((SIDE, SIDE), dtype=np.float32) for _ in range(3))
    second = first.copy()
    out = np.empty_like(left)
    return {
        "stencil_ms": _samples_ms(lambda: smooth(first, second, ROUNDS)),
        "product_ms": _samples_ms(lambda: np.matmul(left, right, out=out)),
    }


def _samples_ms(work: Callable[[], Any]) -> list[float]:
    samples = []
    for _ in range(_WARM_UPS + SAMPLES):
        start = time.perf_counter_ns()
        work()
        samples.append((time.perf_counter_ns() - start) / 1e6)
    return samples[_WARM_UPS:]


def main() -> None:
    """Send the result of `measure` to the parent process."""
    parent_connection().send(measure())
