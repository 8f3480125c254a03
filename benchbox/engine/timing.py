"""The timing pass: one fresh process a denoiser, alone on the machine, threads set before anything is imported."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from benchbox.api.endings import signal_name
from benchbox.api.records import DenoiserRecord, Failure, Timing, from_json, to_json
from benchbox.api.threads import thread_environment
from benchbox.engine.limits import Limits
from benchbox.engine.output import OutputKeeper
from benchbox.engine.plan import Shard
from benchbox.engine.processes import sessions
from benchbox.engine.work import Condition, draw, tell

TASK_VARIABLE = "BENCHBOX_TIMING_TASK"
_POLL_S = 0.5


@dataclass(frozen=True)
class TimingTask:
    """What the fresh process is to time.

    Attributes
    ----------
    denoiser : DenoiserRecord
    noise : str
        Canonical noise of the images.
    noisy : str
        File of the noisy stack, as many images as `batch`. They are drawn elsewhere, so that the fresh process imports
        nothing that a denoiser would otherwise pay for in its cold start.
    sigma : str
        File of what is told of their noise level; empty for nothing.
    batch : int
        Images a call when throughput is measured.
    threads : int
    budget_s : float
        Seconds of sampling for each batch size.
    result : str
        File that takes the result.
    """

    denoiser: DenoiserRecord
    noise: str
    noisy: str
    sigma: str
    batch: int
    threads: int
    budget_s: float
    result: str


def choose_images(shards: Sequence[Shard], batch: int) -> list[int]:
    """Positions of the images to time: the first `batch` of the most common size, repeated where there are fewer."""
    sizes: dict[tuple[int, int], list[NDArray[np.intp]]] = {}
    for shard in shards:
        sizes.setdefault(shard.size, []).append(shard.indices)
    most = max(sizes.values(), key=lambda parts: sum(len(part) for part in parts))
    return [int(index) for index in np.resize(np.concatenate(most), batch)]


def time_denoiser(
    denoiser: DenoiserRecord,
    condition: Condition,
    indices: Sequence[int],
    *,
    batch: int,
    threads: int,
    limits: Limits,
    log: Path,
    budget_s: float = 0.5,
) -> tuple[Timing, str]:
    """Time one denoiser.

    Parameters
    ----------
    denoiser : DenoiserRecord
    condition : Condition
    indices : sequence of int
        From `choose_images`.
    batch, threads : int
    limits : Limits
    log : Path
        File that takes all output.
    budget_s : float
        Seconds of sampling for each batch size.

    Returns
    -------
    timing : Timing
    detail : str
        Traceback or end of the output where it failed.
    """
    with tempfile.TemporaryDirectory(prefix="benchbox-") as folder:
        result, noisy_file, sigma_file = (Path(folder) / name for name in ("timing.json", "noisy.npy", "sigma.npy"))
        _, noisy, sigma = draw(condition, np.asarray(indices))
        told, _ = tell(denoiser.sigma_use, condition.protocol, noisy, sigma)
        np.save(noisy_file, noisy)
        if told is not None:
            np.save(sigma_file, told)
        level = str(sigma_file) if told is not None else ""
        task = TimingTask(denoiser, condition.noise, str(noisy_file), level, batch, threads, budget_s, str(result))
        task_file = Path(folder) / "task.json"
        task_file.write_text(json.dumps(to_json(task)), encoding="utf-8")
        # Where benchbox itself runs under pytest, what that was told is not for this one.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment = inherited | thread_environment(threads)
        environment |= {TASK_VARIABLE: str(task_file), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        # -P: a file in the working directory must not pass for a library.
        command = [sys.executable, "-P", "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-p"]
        command += ["pytest_benchmark.plugin", "--benchmark-only", "-c", os.devnull, "--rootdir", folder]
        command += [str(Path(__file__).with_name("timing_case.py"))]
        with OutputKeeper(log) as keeper, keeper.pipe.open("wb", buffering=0) as output:
            # A session of its own, so that whatever the plugin started can be ended with it.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
            )
            sessions.add(process.pid)
            try:
                failure = _wait(process, limits)
            finally:
                _end_session(process)
                sessions.discard(process.pid)
        if failure is not None:
            return Timing(failure.status, failure.reason), ""
        code = process.returncode
        if not result.is_file():
            reason = f"ended by {signal_name(-code)}" if code < 0 else f"exit code {code}"
            tail = log.read_text(encoding="utf-8", errors="replace")[-4000:]
            return Timing("died", f"its process ended without a result ({reason})"), tail
        values = json.loads(result.read_text(encoding="utf-8"))
    if "detail" in values:
        failure = from_json(Failure, values)
        return Timing(failure.status, failure.reason), failure.detail
    return from_json(Timing, values), ""


def _wait(process: subprocess.Popen[bytes], limits: Limits) -> Failure | None:
    """Wait for the end of a process, or for the limit that it passes."""
    end = time.monotonic() + limits.timeout_s
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
        if time.monotonic() > end:
            return Failure("timeout", f"timing took longer than {limits.timeout_s:g} s (--timeout)")
        if limits.exceeded(lambda: _resident_mb(process.pid)):
            return Failure("out of memory", limits.memory_words)
    return None


def _resident_mb(pid: int) -> float:
    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 2**20
    except psutil.Error:
        return 0.0


def _end_session(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
