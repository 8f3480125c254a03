"""The timing pass: a process of its own per denoiser, with thread limits set before any import."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images, Sigma
from benchbox.api.errors import BenchboxError, describe_exit
from benchbox.engine.drawing import Condition, draw, known_sigma
from benchbox.engine.environment import calibrate, environment
from benchbox.engine.plan import SHARD_PIXELS, Limits, Shard
from benchbox.engine.workers import Worker, WorkerContext, WorkerDied
from benchbox.records.machines import Machine
from benchbox.records.run import Calibration, DenoiserRecord, Environment, Failure, Timing, decode
from benchbox.system.files import TEMPORARY_HINT, temporary_folder
from benchbox.system.program import MemoryLimitPassed, TimeLimitPassed, timeout_reason

TASK_VARIABLE = "BENCHBOX_TIMING_TASK"
"""Set while a denoiser is timed, and by the health card, which finds out whether a plugin behaves differently then."""
_ROOM = 1 << 17
"""Bytes that a result needs at most."""
ALONE_PIXELS = 256 * 256
"""Larger images are timed one by one only: a batch of them measures the memory, not the denoiser."""


@dataclass(frozen=True, eq=False)
class TimingTask:
    """Input of the timing process, a plugin of its pytest."""

    denoiser: DenoiserRecord
    noise: str  # canonical noise of the images
    # The stack of `batch` images. They are drawn elsewhere, because whatever the timing process imports itself would be
    # missing from the cold start of the denoiser.
    noisy: Images
    sigma: Sigma | None  # noise level that the denoiser receives
    batch: int  # images per call when measuring throughput, at most
    threads: int
    budget_s: float  # seconds of sampling
    result: str = ""  # output file, written after each size, so that it outlives a process that exceeds its time limit


def largest_batch(pixels: int, batch: int) -> int:
    """Images of so many pixels per call, at most: `batch`, halved until a call fits the memory of a shard."""
    if pixels > ALONE_PIXELS:
        return 1
    while batch > 1 and batch * pixels > SHARD_PIXELS:
        batch //= 2
    return batch


def choose_images(shards: Sequence[Shard], batch: int) -> list[int]:
    """Positions of the images to time: `largest_batch` of the most common size, the first ones, repeated if too few."""
    sizes: dict[tuple[int, int], list[NDArray[np.intp]]] = {}
    for shard in shards:
        sizes.setdefault(shard.size, []).append(shard.indices)
    size, parts = max(sizes.items(), key=lambda item: sum(len(part) for part in item[1]))
    return [int(index) for index in np.resize(np.concatenate(parts), largest_batch(math.prod(size), batch))]


def timing_context(threads: int) -> WorkerContext:
    """Make the server that forks timing processes: a clean process with pytest-benchmark, whose libraries are limited.

    It imports what every timing process needs, once for all rows, and no plugin, so a denoiser's cold start stays its
    own. The server for scoring will not do: it has compiled kernels in it, and keeps freed memory.
    """
    return WorkerContext(threads, "benchbox.engine.timing_case")


def timing_task(
    denoiser: DenoiserRecord, condition: Condition, indices: Sequence[int], *, batch: int, threads: int, budget_s: float
) -> TimingTask:
    """What to time of one denoiser, with the images from `choose_images`."""
    _, noisy, sigma, _ = draw(condition, np.asarray(indices))
    sigma_given, _ = known_sigma(denoiser.sigma_use, condition.protocol, noisy, sigma, condition.noise.is_estimable)
    return TimingTask(denoiser, condition.noise.spec, noisy, sigma_given, batch, threads, budget_s)


class Timer(Protocol):
    """Times denoisers on one machine, one after the other; `machine` says on which, if not on that of the run."""

    machine: str

    def calibrate(self, log: Path) -> Calibration | None:
        """Time the calibration kernel; None if it fails."""

    def time(self, task: TimingTask, log: Path) -> tuple[Timing, str]:
        """Time one denoiser; returns its timing and details of a failure."""


class LocalTimer:
    """Times denoisers on this machine."""

    def __init__(self, context: WorkerContext, limits: Limits, run: Environment) -> None:
        self._context = context
        self._limits = limits
        self.machine = Machine.here(environment()).timed_for(run)  # a run may go on elsewhere

    def calibrate(self, log: Path) -> Calibration | None:
        """Time the calibration kernel; None if it fails."""
        return calibrate(self._context.threads, self._limits.timeout_s, log)

    def time(self, task: TimingTask, log: Path) -> tuple[Timing, str]:
        """Time one denoiser; returns its timing and details of a failure."""
        return time_denoiser(task, self._context, self._limits, log, threading.Event())


def time_denoiser(
    task: TimingTask, context: WorkerContext, limits: Limits, log: Path, stop: threading.Event
) -> tuple[Timing, str]:
    """Time one denoiser in a process of its own; raises `Stopped` once `stop` is set."""
    with temporary_folder() as folder:
        result = folder / "timing.json"
        task = replace(task, result=str(result))
        try:
            result.write_bytes(bytes(_ROOM))  # a full disk must not look as if the denoiser had died
            result.unlink()
        except OSError as error:
            raise BenchboxError(f"cannot write what is timed: {error}", hint=TEMPORARY_HINT) from error
        try:
            with Worker(context, log) as worker:
                worker.call(time_here, task, limits.timeout_s, limits.too_large, stop)
        except TimeLimitPassed:
            reason = f"{timeout_reason('timing', limits.timeout_s)} (--timeout)"
            if result.is_file():  # what is known by then: at least one call
                known = json.loads(result.read_text(encoding="utf-8"))
                if "detail" not in known:
                    return replace(decode(Timing, known), reason=reason), ""
            return Timing("timeout", reason), ""
        except MemoryLimitPassed:
            return Timing("out of memory", limits.memory_reason), ""
        except WorkerDied as error:
            ended = "closed its connection" if error.code is None else describe_exit(error.code)
            # Like one that raises, it has no timing, even if some calls were timed by then.
            values = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {}
            if "detail" not in values:
                what = "after some calls were timed" if values else "and left no result"
                return Timing("died", f"its process {ended} {what}"), _tail(log)
        else:
            if not result.is_file():
                return Timing("died", "its process ended and left no result"), _tail(log)
            values = json.loads(result.read_text(encoding="utf-8"))
    if "detail" in values:
        failure = decode(Failure, values)
        return Timing(failure.status, failure.reason), failure.detail
    return decode(Timing, values), ""


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        return log.read_text(encoding="utf-8", errors="replace")[-4000:]
    return ""


def time_here(task: TimingTask) -> None:
    """In a timing process: let pytest-benchmark time the calls that `timing_case` asks for."""
    import pytest

    # When benchbox itself runs under pytest, the settings of that pytest must not reach this one.
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", TASK_VARIABLE: task.denoiser.spec}
    scratch = str(Path(task.result).parent)
    command = ["-q", "--noconftest", "-p", "no:cacheprovider", "-p", "pytest_benchmark.plugin", "--benchmark-only"]
    command += ["-c", os.devnull, "--rootdir", scratch]
    # pytest-benchmark creates this folder even if nothing is saved.
    command += [f"--benchmark-storage=file://{scratch}/saved"]
    pytest.main([*command, str(Path(__file__).with_name("timing_case.py"))], plugins=[task])
