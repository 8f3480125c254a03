"""Records the machine and the code that compute a run, and how fast the machine is.

A fixed workload is timed like a denoiser, so that latencies measured on two machines can be compared.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchbox.api.threads import cgroup_memory, thread_environment, usable_cores
from benchbox.api.version import DISTRIBUTION, __version__
from benchbox.records.run import Calibration, DenoiserRecord, Environment, Provider, decode, digest
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


def code_of(denoiser: DenoiserRecord, others: Sequence[Provider]) -> str:
    """Digest of the code and the machine that compute a cell; empty if they may change without a trace.

    `others` provide the noise and the metrics. A plugin file may import or read anything beside it, a program may be
    another one tomorrow, and a denoiser that draws random numbers is run again on purpose.
    """
    providers = {denoiser.plugin.provider, *others}
    foreign = denoiser.starts_programs or any(provider.kind == "file" for provider in providers)
    if foreign or not denoiser.deterministic:
        return ""
    packages = sorted({"benchbox", *(provider.target.partition(":")[0].partition(".")[0] for provider in providers)})
    return digest([_machine(), *((package, package_digest(package)) for package in packages)])


@functools.cache
def package_digest(name: str, *, only_code: bool = False) -> str:
    """Digest of the files of a package: the content of its code, the size and time of everything else.

    `only_code` leaves out everything else, whose time differs between machines.
    """
    spec = importlib.util.find_spec(name)
    whole = hashlib.blake2b(digest_size=8)
    for folder in sorted((spec.submodule_search_locations if spec else None) or ()):
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts and (file.suffix == ".py" or not only_code):
                whole.update(str(file.relative_to(folder)).encode("utf-8", "surrogateescape"))
                _update(whole, file)
    if spec is not None and not spec.submodule_search_locations and spec.origin:
        _update(whole, Path(spec.origin))
    return whole.hexdigest()


def _update(whole: hashlib.blake2b, file: Path) -> None:
    if file.suffix == ".py":
        whole.update(file.read_bytes())
    else:
        state = file.stat()
        whole.update(f"{state.st_size} {state.st_mtime_ns}".encode())


@functools.cache
def _machine() -> list[Any]:
    """What scores may depend on besides code that is read here: libraries decide how they add and multiply."""
    packages = {
        folder.name
        for entry in sys.path
        for pattern in ("*.dist-info", "*.egg-info")
        for folder in (Path(entry).glob(pattern) if entry else ())
    }
    return [platform.python_version(), platform.machine(), environment().cpu, sorted(packages)]


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
