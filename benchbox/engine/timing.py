"""The timing pass: one fresh process per denoiser, with thread limits set before any import."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError, describe_exit
from benchbox.api.threads import thread_environment
from benchbox.engine.drawing import Condition, draw, known_sigma
from benchbox.engine.plan import SHARD_PIXELS, Limits, Shard
from benchbox.records.run import DenoiserRecord, Failure, Timing, decode
from benchbox.system.files import TEMPORARY_HINT, temporary_folder
from benchbox.system.program import GuardedProgram, MemoryLimitPassed, OutputKeeper, TimeLimitPassed, timeout_reason

TASK_VARIABLE = "BENCHBOX_TIMING_TASK"
ALONE_PIXELS = 256 * 256
"""Larger images are timed one by one only: a batch of them measures the memory, not the denoiser."""
# Runs the exit handlers of plugins, but skips tearing down the interpreter, which takes up to 0.3 s.
_PYTEST = """import atexit, os, sys, pytest
code = pytest.main(sys.argv[1:])
atexit._run_exitfuncs()
sys.stdout.flush()
os._exit(code)"""


@dataclass(frozen=True)
class TimingTask:
    """Input of the timing process."""

    denoiser: DenoiserRecord
    noise: str  # canonical noise of the images
    # File of the noisy stack of `batch` images. They are drawn elsewhere, because whatever the timing process imports
    # itself would be missing from the cold start of the denoiser.
    noisy: str
    sigma: str  # file of the noise level that the denoiser receives; empty for none
    batch: int  # images per call when measuring throughput, at most
    threads: int
    budget_s: float  # seconds of sampling
    result: str  # output file


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


def time_denoiser(
    denoiser: DenoiserRecord,
    condition: Condition,
    indices: Sequence[int],
    *,
    batch: int,
    threads: int,
    limits: Limits,
    log: Path,
    budget_s: float,
) -> tuple[Timing, str]:
    """Time one denoiser on images from `choose_images`; returns its timing and details of a failure."""
    _, noisy, sigma, _ = draw(condition, np.asarray(indices))
    sigma_given, _ = known_sigma(denoiser.sigma_use, condition.protocol, noisy, sigma, condition.noise.is_estimable)
    with temporary_folder() as folder:
        result, noisy_file, sigma_file = (folder / name for name in ("timing.json", "noisy.npy", "sigma.npy"))
        level = str(sigma_file) if sigma_given is not None else ""
        task = TimingTask(denoiser, condition.noise.spec, str(noisy_file), level, batch, threads, budget_s, str(result))
        task_file, scratch = folder / "task.json", folder / "t"
        try:
            np.save(noisy_file, noisy)
            if sigma_given is not None:
                np.save(sigma_file, sigma_given)
            task_file.write_text(json.dumps(asdict(task)), encoding="utf-8")
            scratch.mkdir()
        except OSError as error:
            raise BenchboxError(f"cannot write the images to time: {error}", hint=TEMPORARY_HINT) from error
        # When benchbox itself runs under pytest, the settings of that pytest must not reach this one.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment = inherited | thread_environment(threads)
        environment |= {TASK_VARIABLE: str(task_file), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMPDIR": str(scratch)}
        # -P: a file in the working directory must not shadow a library.
        command = [sys.executable, "-P", "-c", _PYTEST, "-q", "--noconftest", "-p", "no:cacheprovider", "-p"]
        command += ["pytest_benchmark.plugin", "--benchmark-only", "-c", os.devnull, "--rootdir", str(folder)]
        # pytest-benchmark creates this folder even if nothing is saved.
        command += [f"--benchmark-storage=file://{scratch}/saved"]
        command += [str(Path(__file__).with_name("timing_case.py"))]
        try:
            with (
                OutputKeeper(log, folder) as keeper,
                keeper.pipe.open("wb", buffering=0) as output,
                GuardedProgram(command, stdout=output, stderr=output, environment=environment) as process,
            ):
                code = process.wait_within(limits.timeout_s, limits.too_large)
        except TimeLimitPassed:
            reason = f"{timeout_reason('timing', limits.timeout_s)} (--timeout)"
            if result.is_file():  # what is known by then: at least one call
                known = json.loads(result.read_text(encoding="utf-8"))
                if "detail" not in known:
                    return replace(decode(Timing, known), reason=reason), ""
            return Timing("timeout", reason), ""
        except MemoryLimitPassed:
            return Timing("out of memory", limits.memory_reason), ""
        if not result.is_file():
            tail = ""
            with contextlib.suppress(OSError):
                tail = log.read_text(encoding="utf-8", errors="replace")[-4000:]
            return Timing("died", f"its process {describe_exit(code)} and left no result"), tail
        values = json.loads(result.read_text(encoding="utf-8"))
    if "detail" in values:
        failure = decode(Failure, values)
        return Timing(failure.status, failure.reason), failure.detail
    return decode(Timing, values), ""
