"""Runs a denoiser in a new process, as timing does, and measures the resources it uses and keeps."""

from __future__ import annotations

import importlib
import os
import random
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchbox.api.arrays import Images, Sigma
from benchbox.api.denoiser import Denoiser
from benchbox.records.run import Provider
from benchbox.records.specs import configure
from benchbox.registry import load_module
from benchbox.system.program import parent_connection
from benchbox.testing.threads_at_work import RunningThreads

_MIB = 2**20
_BUDGET_S = 0.5
_CALLS = 5, 60
_WARM_UPS = 3
_WATCH_S = 1.0
_LONG_S, _MOST = 0.02, 32
_CODE = {".py", ".pyc", ".pyi", ".so", ".nbi", ".nbc"}
_SETTINGS = {".json", ".cfg", ".ini", ".toml", ".yaml", ".yml"}
_SYSTEM = "/proc", "/sys", "/dev", "/etc", "/usr", "/lib"


@dataclass(frozen=True)
class FreshTask:
    """A denoiser to construct, the `sys.path` to import it from, and the images to give it."""

    provider: Provider | None
    module: str
    qualname: str
    spec: str
    path: tuple[str, ...]
    noisy: Images
    sigma: Sigma | None


@dataclass(frozen=True)
class FreshReport:
    """What was measured.

    The times are processor seconds: importing and constructing, `setup`, the first call, and the median of later calls
    with one image. `running` is the typical number of running threads during calls with the whole stack, `threads` the
    number of threads left alive. `memory_mb` is the resident memory added in MiB, `grown_mb` the part of it added
    from the fifth of `calls` calls on. `unnamed` are data files that it read and does not name in `files`. `alone` and
    `denoised` are the results for one image and for the stack.
    """

    make_s: float
    setup_s: float
    first_s: float
    call_s: float
    running: float
    threads: int
    memory_mb: float
    grown_mb: float
    calls: int
    random_changed: tuple[str, ...]
    unnamed: tuple[str, ...]
    alone: Any
    denoised: Any


def observe(task: FreshTask) -> FreshReport:
    """Construct the denoiser and call it as timing does: many times, one image at a time, then the stack."""
    process = psutil.Process()
    opened: set[str] = set()
    sys.addaudithook(lambda event, arguments: _note_read(event, arguments, opened))
    begun = time.time()
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - a denoiser must not change it
    threads, memory = process.num_threads(), process.memory_info().rss
    first_image = task.noisy[:1], None if task.sigma is None else task.sigma[:1]

    start = time.process_time()
    denoiser = _make(task)
    made = time.process_time()
    denoiser.setup((1, *task.noisy.shape[1:]))
    ready = time.process_time()
    _call(denoiser, *first_image)
    first = time.process_time()
    for _ in range(_WARM_UPS):
        _call(denoiser, *first_image)
    _, calls_s, _, alone = _repeat(denoiser, *first_image, process)
    _call(denoiser, task.noisy, task.sigma)
    settled, stack_s, grown, denoised = _repeat(denoiser, task.noisy, task.sigma, process)
    running = _running_threads(denoiser, task.noisy, task.sigma, float(np.median(stack_s)))

    named = {file.absolute().resolve() for file in denoiser.files()}
    read = [file for file in map(Path, sorted(opened)) if _holds_data(file, begun)]
    changed = []
    if not _same_state(numpy_state, np.random.get_state()):  # noqa: NPY002
        changed.append("numpy.random")
    if python_state != random.getstate():
        changed.append("random")
    return FreshReport(
        make_s=made - start,
        setup_s=ready - made,
        first_s=first - ready,
        call_s=float(np.median(calls_s)),
        running=running,
        threads=max(0, process.num_threads() - threads),
        memory_mb=max(0, settled - memory) / _MIB,
        grown_mb=grown / _MIB,
        calls=len(stack_s),
        random_changed=tuple(changed),
        unnamed=tuple(str(file) for file in read if file.resolve() not in named),
        alone=alone,
        denoised=denoised,
    )


def _note_read(event: str, arguments: tuple[Any, ...], opened: set[str]) -> None:
    """Note the files that Python opens for reading; libraries in C open theirs unseen."""
    if event == "open" and isinstance(arguments[0], str | os.PathLike) and "r" in (arguments[1] or "r"):
        opened.add(str(Path(arguments[0]).absolute()))


def _holds_data(file: Path, begun: float) -> bool:
    """Whether a file that was read is neither code nor a part of Python or the system, nor written meanwhile."""
    if file.suffix in _SETTINGS and any(part.startswith(".") for part in file.parts):
        return False  # of a library, such as ~/.keras/keras.json
    if file.suffix in _CODE or "site-packages" in file.parts or not file.is_file() or file.stat().st_mtime > begun:
        return False
    return not any(file.is_relative_to(folder) for folder in (sys.prefix, sys.base_prefix, *_SYSTEM))


def _make(task: FreshTask) -> Denoiser:
    if task.provider is not None:
        load_module(task.provider)
    cls: Any = importlib.import_module(task.module)
    for part in task.qualname.split("."):
        cls = getattr(cls, part)
    denoiser: Denoiser = configure(cls, task.spec).make()
    return denoiser


def _call(denoiser: Denoiser, noisy: Images, sigma: Sigma | None) -> Images:
    return denoiser.denoise(noisy.copy(), None if sigma is None else sigma.copy())


def _repeat(
    denoiser: Denoiser, noisy: Images, sigma: Sigma | None, process: psutil.Process
) -> tuple[int, list[float], int, Images]:
    """Call it repeatedly: resident bytes at the end, processor seconds of each call, bytes grown, the last result."""
    low, high = _CALLS
    until = time.perf_counter() + _BUDGET_S
    seconds: list[float] = []
    settled = 0
    while len(seconds) < low or (len(seconds) < high and time.perf_counter() < until):
        start = time.process_time()
        result = _call(denoiser, noisy, sigma)
        seconds.append(time.process_time() - start)
        if len(seconds) == low - 1:
            settled = process.memory_info().rss
    end = process.memory_info().rss
    return end, seconds, end - settled, result


def _running_threads(denoiser: Denoiser, noisy: Images, sigma: Sigma | None, call_s: float) -> float:
    """Typical number of running threads, on a stack so large that starting more threads would pay off."""
    often = max(1, min(_MOST, round(_LONG_S / max(call_s, 1e-6))))
    if often > 1:
        noisy, sigma = (
            np.tile(noisy, (often, *[1] * (noisy.ndim - 1))),
            None if sigma is None else np.tile(sigma, often),
        )
        _call(denoiser, noisy, sigma)  # some libraries compile or plan for each new size
    until = time.perf_counter() + _WATCH_S
    with RunningThreads() as running:
        _call(denoiser, noisy, sigma)
        while time.perf_counter() < until:
            _call(denoiser, noisy, sigma)
    return running.typical


def _same_state(before: Any, after: Any) -> bool:
    return all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))


def main() -> None:
    """Answer a `FreshTask` with a report, then a pickled denoiser with its result for the same stack."""
    pipe = parent_connection()
    task: FreshTask = pipe.recv()
    sys.path[:] = task.path
    pipe.send(_attempt(lambda: observe(task)))
    pipe.send(_attempt(lambda: _revive(pipe, task)))


def _revive(pipe: Connection[Any, Any], task: FreshTask) -> Images:
    denoiser = pipe.recv()
    denoiser.setup((1, *task.noisy.shape[1:]))
    return _call(denoiser, task.noisy, task.sigma)


def _attempt(work: Any) -> object:
    """A result, or the exception as text, because not every exception can be pickled."""
    try:
        return work()
    except Exception as error:
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}" + (f": {lines[0]}" if lines else "")
