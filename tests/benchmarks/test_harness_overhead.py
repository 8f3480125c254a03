"""How much the harness adds to drawing the noise, denoising and scoring: whole runs against the bare work."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from benchbox.engine.data import open_data
from benchbox.engine.drawing import Condition, draw
from benchbox.engine.plan import make_plan
from benchbox.engine.shard import ShardTask, compute_shard
from benchbox.records.options import RunOptions
from benchbox.records.run import PluginSpec
from benchbox.registry import load_registry

FACES = 3589


@dataclass(frozen=True)
class Job:
    """What is run: on PublicTest without duplicates, or on the faces of all splits."""

    denoisers: tuple[str, ...]
    noises: tuple[str, ...]
    whole: bool = False

    def arguments(self, csv: Path) -> list[str]:
        """The run, without pictures for the report, which are no part of the work that it is compared with."""
        given = ["run", *self.denoisers, "--no-timing", "--fresh", "--data", str(csv), "--split", "PublicTest"]
        given += ["--previews", "0", *["--keep-duplicates"] * self.whole]
        return given + [part for noise in self.noises for part in ("--noise", noise)]


FAST = Job(
    ("identity", "gaussian_blur", "median", "wiener", "tv_chambolle", "bilateral"),
    ("gaussian:0.1", "poisson:30", "salt-pepper:0.05"),
)
CLASSICAL = Job(
    (*FAST.denoisers, "nl_means", "opencv_nlm", "bm3d_lite", "bm3d_lite:profile=fast", "dct", "wavelet"),
    ("gaussian:0.1",),
    whole=True,
)


@pytest.fixture
def csv(tmp_path: Path, measured: bool) -> Path:
    """FER2013 where ``BENCHBOX_FER2013_CSV`` names it; else a csv of as many PublicTest faces made of sample tiles."""
    given = os.environ.get("BENCHBOX_FER2013_CSV")
    if given and measured:
        return Path(given)
    sample = open_data(RunOptions(dataset="sample"), {"sample": load_registry().dataset("sample").cls()})
    tiles = (sample.stack(np.arange(len(sample))) * 255).round().astype(int)
    rows = [" ".join(map(str, tile.ravel())) for tile in tiles]
    file = tmp_path / "fer2013.csv"
    lines = (f"0,{rows[index % len(rows)]},PublicTest\n" for index in range(FACES if measured else 400))
    file.write_text("emotion,pixels,Usage\n" + "".join(lines))
    return file


def in_one_split(csv: Path, folder: Path) -> Path:
    """A copy of a csv in a folder, in which every face is of PublicTest."""
    one = folder / "one-split.csv"
    with csv.open("rb") as lines, one.open("wb") as copy:
        copy.write(next(lines))
        copy.writelines(line.rpartition(b",")[0] + b",PublicTest\n" for line in lines)
    return one


def bare_seconds(csv: Path, job: Job) -> tuple[float, float, int]:
    """CPU seconds of the same work in one process, libraries loaded and warm, and the number of images.

    The first number is that of drawing the noise for each denoiser, the second one of drawing it once for all.
    """
    registry = load_registry()
    config = RunOptions(job.denoisers, job.noises, data=str(csv), split="PublicTest", keep_duplicates=job.whole)
    images = open_data(config, {name: entry.cls() for name, entry in registry.datasets.items()})
    plan = make_plan(config, registry, images)
    dataset = PluginSpec(registry.dataset("fer2013").provider, "fer2013")
    tasks = [
        ShardTask(
            denoiser.plugin,
            Condition(config, dataset, images.fingerprint, noise),
            tuple(metric.plugin for metric in plan.metrics),
            shard.indices,
        )
        for denoiser in plan.denoisers
        for noise in plan.noises
        for shard in plan.shards
    ]
    for task in tasks[:: len(plan.shards)]:
        compute_shard(task)
    before = time.process_time()
    for task in tasks:
        compute_shard(task)
    bare_s = time.process_time() - before
    before = time.process_time()
    for task in tasks[: len(plan.noises) * len(plan.shards)]:  # those of the first denoiser
        draw(task.condition, task.indices)
    drawn_s = time.process_time() - before
    return bare_s, bare_s - (len(plan.denoisers) - 1) * drawn_s, len(images)


def measured_run(csv: Path, job: Job, folder: Path) -> dict[str, float]:
    """Wall and CPU seconds and peak memory of the command with all its processes."""
    command = [str(Path(sys.executable).with_name("benchbox")), *job.arguments(csv)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0.0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        resident = 0
        for one in _family(process.pid):
            with contextlib.suppress(psutil.Error):
                resident += one.memory_info().rss
        peak = max(peak, resident / 2**20)
        time.sleep(0.05)
    _, status, used = ended  # with the processes that it has waited for
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return {"wall_s": time.perf_counter() - begun, "cpu_s": used.ru_utime + used.ru_stime, "peak_mb": peak}


def _family(pid: int) -> list[Any]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


@pytest.mark.slow
@pytest.mark.parametrize("job", [FAST, CLASSICAL], ids=["fast", "classical"])
def test_overhead_of_the_harness(
    job: Job, csv: Path, tmp_path: Path, measured: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    cores = len(os.sched_getaffinity(0))
    if job.whole:
        csv = in_one_split(csv, tmp_path)
    elif measured:
        measured_run(csv, job, tmp_path)  # fills the caches
    runs = [measured_run(csv, job, tmp_path) for _ in range(3 if measured and not job.whole else 1)]
    run = min(runs, key=lambda one: one["cpu_s"])
    bare_s, once_s, images = bare_seconds(csv, job)
    with capsys.disabled():
        print(f"\n{images} faces x {len(job.noises)} noises x {len(job.denoisers)} denoisers on {cores} cores")
        print(f"load of the machine                   {os.getloadavg()[0]:6.2f}")
        for drawn, seconds in (("for each denoiser", bare_s), ("once for all", once_s)):
            print(f"drawing, denoising, scoring alone     {seconds:6.2f} CPU s, noise drawn {drawn}")
            print(f"  benchbox run, CPU time              {run['cpu_s'] / seconds:6.2f} x")
            print(f"  benchbox run, time on {cores} cores       {run['wall_s'] / seconds * cores:6.2f} x")
        print(f"benchbox run                          {run['wall_s']:6.2f} s wall, {run['cpu_s']:.2f} CPU s")
        print(f"cores kept busy                       {100 * run['cpu_s'] / cores / run['wall_s']:6.0f} %")
        print(f"peak memory of all processes          {run['peak_mb']:6.0f} MiB")
    assert run["cpu_s"] > bare_s / 2, "the run did less work than the work alone takes"


@pytest.mark.slow
def test_where_the_time_goes(csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "breakdown.json"
    script = Path(__file__).with_name("breakdown.py")
    subprocess.run(
        [sys.executable, "-P", script, result, *FAST.arguments(csv)], cwd=tmp_path, check=True, capture_output=True
    )
    lines: dict[str, tuple[float, int]] = json.loads(result.read_text(encoding="utf-8"))
    with capsys.disabled():
        print()
        for line, (seconds, calls) in lines.items():
            print(f"{line:44} {1e3 * seconds:8.0f} ms" + (f" in {calls} calls" if calls else ""))
    shards, outcomes = lines["writing shards"][1], len(FAST.denoisers) * len(FAST.noises)
    assert shards >= outcomes
    assert lines["reading outcomes"][0] < lines["whole run, without interpreter and imports"][0]
