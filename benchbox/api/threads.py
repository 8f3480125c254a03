"""How many threads a denoiser may use, and the cores and memory that are left to this process."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

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
        The value of ``BENCHBOX_THREADS``, which benchbox sets in a run; otherwise `usable_cores`.
    """
    given = os.environ.get(THREADS_VARIABLE, "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return usable_cores()


def thread_environment(count: int) -> dict[str, str]:
    """Environment variables that limit common libraries to `count` threads; set them before starting a process."""
    return dict.fromkeys((*LIBRARY_VARIABLES, THREADS_VARIABLE), str(count))


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the limit of its container, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, cgroup_limits()[0])))


def cgroup_memory() -> int | None:
    """Bytes of memory that the container of this process may use; None if that is all the memory there is."""
    most = cgroup_limits()[1]
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return int(most) if most < (physical or math.inf) else None


@functools.cache
def cgroup_limits(process: Path = Path("/proc/self")) -> tuple[float, float]:
    """Cores and bytes of memory to which control groups of Linux, version 1 or 2, limit a process; inf for no limit.

    A container is such a group. A limit of a group holds for the groups inside it too, so the smallest one counts.
    """
    cores = memory = math.inf
    for folder in _cgroup_folders(process):
        quota, period = [*_numbers(folder / "cpu.max"), math.inf, 1.0][:2]
        if old := _numbers(folder / "cpu.cfs_quota_us"):
            quota, period = old[0], next(iter(_numbers(folder / "cpu.cfs_period_us")), 1.0)
        if quota > 0 and period > 0:  # -1: no limit
            cores = min(cores, quota / period)
        for name in ("memory.max", "memory.limit_in_bytes"):
            memory = min([memory, *_numbers(folder / name)])
    return cores, memory


def _cgroup_folders(process: Path) -> Iterator[Path]:
    """Folders of the control groups that contain a process, in every hierarchy, from its own to the outermost."""
    try:
        groups = (process / "cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (process / "mountinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return  # not Linux
    paths: dict[str, PurePosixPath] = {}
    for line in groups:
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        paths |= dict.fromkeys(controllers.split(","), PurePosixPath(group))  # version 2 names no controller
    for line in mounts:
        place, _, kind = line.partition(" - ")
        root, mount = [*place.split(), *[""] * 5][3:5]
        names = {"cgroup": kind.rpartition(" ")[2].split(","), "cgroup2": [""]}.get(kind.partition(" ")[0], [])
        for name in names:
            if name in paths:
                path = paths[name]
                inside = path.relative_to(root) if path.is_relative_to(root) else PurePosixPath()
                yield from (Path(mount) / part for part in (inside, *inside.parents))


def _numbers(file: Path) -> list[float]:
    """Numbers in a file of a control group, ``max`` as inf; none if there is no such file."""
    try:
        return [math.inf if word == "max" else float(word) for word in file.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []
