"""Records the machine and software of a run, and how fast the machine is.

A fixed workload is timed like a denoiser, so that latencies measured on two machines can be compared.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchbox.api.threads import cgroup_memory, thread_environment, usable_cores
from benchbox.api.version import DISTRIBUTION, __version__
from benchbox.records.run import Calibration, Environment, decode
from benchbox.system.program import Child, ChildDied, ChildHangs, parent_connection

_PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "opencv-python",
    "scikit-image",
    "PyWavelets",
    "tensorflow",
    "ai-edge-litert",
    "pytest-benchmark",
)
SIDE = 256
"""Side of the stencil's array and of both matrices, so that all of them fit a second-level cache."""
ROUNDS = 8
SAMPLES = 101
_WARM_UPS = 10


def environment() -> Environment:
    """Describe this machine and its software."""
    import psutil

    return Environment(
        cpu=_cpu(),
        cores=usable_cores(),
        memory_gb=round((cgroup_memory() or psutil.virtual_memory().total) / 2**30, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions={DISTRIBUTION: __version__} | {name: version for name in _PACKAGES if (version := _version(name))},
        load=round(psutil.getloadavg()[0], 2),
    )


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def calibrate(threads: int, timeout_s: float, log: Path) -> Calibration | None:
    """Time the workload in a fresh process; on failure returns None, logs why, and the run continues without it."""
    try:
        with Child("benchbox.engine.environment", thread_environment(threads)) as child:
            measured = child.receive(timeout_s)
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
