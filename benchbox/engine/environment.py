"""Records the machine and software of a run."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from benchbox.api.threads import cgroup_memory, usable_cores
from benchbox.api.version import DISTRIBUTION, __version__

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


def environment() -> dict[str, Any]:
    """Describe this machine and its software.

    ``cores`` and ``memory_gb`` are those that this process may use; ``load`` is the average number of runnable
    processes in the last minute, before the run.
    """
    import psutil

    return {
        "cpu": _cpu(),
        "cores": usable_cores(),
        "memory_gb": round((cgroup_memory() or psutil.virtual_memory().total) / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {DISTRIBUTION: __version__} | {name: version for name in _PACKAGES if (version := _version(name))},
        "load": round(psutil.getloadavg()[0], 2),
    }


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
