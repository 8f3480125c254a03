"""Cores and memory of a container, read from made-up control groups."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from benchbox.api import threads
from benchbox.api.threads import cgroup_limits, cgroup_memory, usable_cores
from benchbox.engine.plan import Limits
from benchbox.records.options import RunOptions

GIB = 2**30


def made(folder: Path, groups: str, mounts: list[tuple[str, str, str]], files: dict[str, str]) -> Path:
    """A ``/proc/self`` and the control groups that it names; a mount has a root, a folder and its type with options."""
    process = folder / "proc"
    process.mkdir()
    (process / "cgroup").write_text(groups)
    lines = [
        f"{number} 25 0:26 {root} {folder / mount} rw,nosuid shared:4 - {kind}\n"
        for number, (root, mount, kind) in enumerate(mounts, 30)
    ]
    (process / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + "".join(lines))
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content + "\n")
    return process


V2 = [("/", "sys", "cgroup2 cgroup2 rw,nsdelegate")]
V1 = [
    ("/docker/abc", "sys/cpu,cpuacct", "cgroup cgroup rw,cpu,cpuacct"),
    ("/docker/abc", "sys/memory", "cgroup cgroup rw,memory"),
]
V1_GROUPS = "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc/inner\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "expected"),
    [
        ("0::/\n", V2, {"sys/cpu.max": "150000 100000", "sys/memory.max": str(2 * GIB)}, (1.5, 2 * GIB)),
        ("0::/\n", V2, {"sys/cpu.max": "max 100000", "sys/memory.max": "max"}, (math.inf, math.inf)),
        ("0::/\n", V2, {}, (math.inf, math.inf)),
        (  # the limit of an outer group holds too
            "0::/user/job\n",
            V2,
            {
                "sys/user/job/cpu.max": "max 100000",
                "sys/user/cpu.max": "300000 100000",
                "sys/user/job/memory.max": str(GIB),
                "sys/user/memory.max": str(3 * GIB),
            },
            (3.0, GIB),
        ),
        (
            V1_GROUPS,
            V1,
            {
                "sys/cpu,cpuacct/cpu.cfs_quota_us": "50000",
                "sys/cpu,cpuacct/cpu.cfs_period_us": "100000",
                "sys/memory/memory.limit_in_bytes": str(4 * GIB),
                "sys/memory/inner/memory.limit_in_bytes": "9223372036854771712",
            },
            (0.5, 4 * GIB),
        ),
        (V1_GROUPS, V1, {"sys/cpu,cpuacct/cpu.cfs_quota_us": "-1"}, (math.inf, math.inf)),
        ("0::/../elsewhere\n", V2, {"sys/memory.max": "12345"}, (math.inf, 12345)),
        ("nonsense\n\n", V2, {"sys/cpu.max": "a b"}, (math.inf, math.inf)),
    ],
)
def test_limits_of_control_groups(
    tmp_path: Path,
    groups: str,
    mounts: list[tuple[str, str, str]],
    files: dict[str, str],
    expected: tuple[float, float],
) -> None:
    assert cgroup_limits(made(tmp_path, groups, mounts, files)) == expected


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_limits(tmp_path) == (math.inf, math.inf)


def test_a_run_follows_its_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(threads.THREADS_VARIABLE, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    for limits, cores, memory, workers in (
        ((math.inf, math.inf), 64, None, 65),
        ((1.5, math.inf), 2, None, 3),
        ((0.1, 2.0**62), 1, None, 2),
        ((math.inf, GIB), 64, GIB, 2),
        ((math.inf, GIB / 4), 64, GIB // 4, 1),
    ):
        monkeypatch.setattr(threads, "cgroup_limits", lambda limits=limits: limits)
        assert (usable_cores(), cgroup_memory(), threads.threads()) == (cores, memory, cores)
        assert RunOptions().workers == workers
        assert RunOptions(jobs=7).workers == 7
        assert Limits.of(9.0, 1.5) == Limits(9.0, 1.5)
        assert Limits.of(9.0, None).memory_gb == (None if memory is None else 0.8 * memory / GIB)
    assert Limits.of(9.0, None).memory_reason == ("its process held more than 0.2 GiB (80 % of the container's memory)")
