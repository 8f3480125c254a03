"""The pytest module that runs in each timing process; pytest-benchmark takes the samples."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from benchbox.api.arrays import Images, Sigma
from benchbox.api.denoiser import Denoiser
from benchbox.engine.construction import require_same_content
from benchbox.engine.sampling import CHUNKS, SIZES, Sampling, Size
from benchbox.engine.shard import check_denoised, new_denoiser
from benchbox.engine.timing import TASK_VARIABLE, TimingTask
from benchbox.engine.worker import failure_of
from benchbox.records.run import Timing, decode

_MIB = 2**20


class _Subject:
    """The timed denoiser with its images and the parts of its cold start."""

    def __init__(self, task: TimingTask) -> None:
        self.task = task
        self.samples_ms: dict[int, list[float]] = {}
        self.noisy: Images = np.load(task.noisy, allow_pickle=False)
        self.sigma_told: Sigma | None = np.load(task.sigma, allow_pickle=False) if task.sigma else None
        first, level = self.stack(1)
        self.bare_mb, self.bare_threads = _peak_mb(), _threads()
        start = time.perf_counter()
        self.denoiser: Denoiser = new_denoiser(task.denoiser.plugin)
        made = time.perf_counter()
        self.denoiser.setup(first.shape)
        ready = time.perf_counter()
        denoised = self.denoiser.denoise(first, level)
        done = time.perf_counter()
        check_denoised(denoised, first.shape)
        require_same_content(task.denoiser.plugin, self.denoiser)
        self.cold = made - start, ready - made, done - ready
        self.ready = done
        self.sampling = Sampling(self.noisy[0].size, task.batch, task.budget_s, done - ready, self.samples_ms)

    def stack(self, batch: int) -> tuple[Images, Sigma | None]:
        """A private copy of the first images, and of the noise level that the denoiser receives."""
        return self.noisy[:batch].copy(), None if self.sigma_told is None else self.sigma_told[:batch].copy()

    def timing(self) -> Timing:
        """Everything that was measured."""
        height, width = self.noisy.shape[1:]
        import_s, setup_s, first_s = self.cold
        return Timing(
            status="ok",
            shape=(height, width),
            noise=self.task.noise,
            threads=self.task.threads,
            batch=self.sampling.batch if self.sampling.batch in self.samples_ms else 1,
            import_s=import_s,
            setup_s=setup_s,
            first_s=first_s,
            peak_mb=max(0.0, _peak_mb() - self.bare_mb),
            threads_used=max(1, _threads() - self.bare_threads + 1),
            samples_ms=self.samples_ms,
        )


@pytest.fixture(scope="module")
def subject() -> Any:
    """Set up the denoiser; write why, if that fails."""
    task = decode(TimingTask, json.loads(Path(os.environ[TASK_VARIABLE]).read_text(encoding="utf-8")))
    try:
        return _Subject(task)
    except BaseException as error:
        _write(task, asdict(failure_of(error)))
        raise


@pytest.mark.parametrize("chunk", range(len(CHUNKS)))
@pytest.mark.parametrize("size", SIZES)
def test_time(subject: _Subject, size: Size, chunk: int, benchmark: Any) -> None:
    """Sample some more calls of one batch size, without the copying of the input, unless enough is known."""
    sampling = subject.sampling
    batch, rounds = sampling.images(size), sampling.rounds(size, chunk, time.perf_counter() - subject.ready)
    if not rounds:
        pytest.skip("enough is known, or the time is up")
    try:
        denoised = benchmark.pedantic(
            subject.denoiser.denoise,
            setup=lambda: (subject.stack(batch), {}),
            rounds=rounds,
            warmup_rounds=sampling.warm_ups(size, chunk),
            iterations=1,
        )
        check_denoised(denoised, subject.noisy[:batch].shape)
    except BaseException as error:
        _write(subject.task, asdict(failure_of(error)))
        pytest.exit("the denoiser failed")
    subject.samples_ms.setdefault(batch, []).extend(1e3 * seconds for seconds in benchmark.stats.stats.data)
    # Written each time, so that what is known outlives a process that exceeds its time limit.
    _write(subject.task, asdict(subject.timing()))


def _peak_mb() -> float:
    """Peak resident memory of this process, MiB.

    Not from `getrusage`, because that figure includes the peak of the process it was forked from.
    """
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="ascii", errors="replace").splitlines() if status.exists() else []:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / _MIB
    return psutil.Process().memory_info().rss / _MIB


def _threads() -> int:
    return max(psutil.Process().num_threads(), threading.active_count())


def _write(task: TimingTask, values: dict[str, Any]) -> None:
    file = Path(task.result)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(values), encoding="utf-8")
    part.replace(file)
