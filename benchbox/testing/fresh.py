"""Runs a denoiser in a fresh process, as the timing pass does, and observes what it uses and leaves behind."""

from __future__ import annotations

import importlib
import random
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil

from benchbox.api.arrays import Images, Sigma
from benchbox.api.denoiser import Denoiser
from benchbox.records.run import Provider
from benchbox.records.specs import configure
from benchbox.registry import load_module
from benchbox.system.program import parent_connection
from benchbox.testing.threads_at_work import BusyThreads

_MIB = 2**20
_BUDGET_S = 0.5
_CALLS = 5, 60
_WARM_UPS = 3
_WATCH_S = 1.0
_LONG_S, _MOST = 0.02, 32


@dataclass(frozen=True)
class FreshTask:
    """What to make and what to give it.

    Attributes
    ----------
    provider : Provider or None
    module, qualname : str
        Where the class stands once the provider is loaded.
    spec : str
    path : tuple of str
        Folders to import from.
    noisy : ndarray of float32, shape (N, H, W)
    sigma : ndarray of float32, shape (N,), or None
    """

    provider: Provider | None
    module: str
    qualname: str
    spec: str
    path: tuple[str, ...]
    noisy: Images
    sigma: Sigma | None


@dataclass(frozen=True)
class FreshReport:
    """What was seen.

    Attributes
    ----------
    make_s, setup_s, first_s, call_s : float
        Processor seconds to import the module and construct, to set up, of the first call and of a later one with one
        image (median).
    busy : float
        Number of threads with work, most of the time, during calls with the whole stack.
    threads : int
        Threads alive that were not there before.
    memory_mb, grown_mb : float
        Resident memory in MiB that it added; and that was added from the fifth call on.
    calls : int
        Calls over which memory was watched.
    random_changed : tuple of str
        Global random states that are no longer as they were.
    alone, denoised : ndarray of float32
        Results of the last timed calls: with one image, and with the whole stack.
    """

    make_s: float
    setup_s: float
    first_s: float
    call_s: float
    busy: float
    threads: int
    memory_mb: float
    grown_mb: float
    calls: int
    random_changed: tuple[str, ...]
    alone: Any
    denoised: Any


def observe(task: FreshTask) -> FreshReport:
    """Make the denoiser and call it as the timing pass does: many times, one image at a time, then the stack."""
    process = psutil.Process()
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - the state that is guarded
    threads, memory = process.num_threads(), process.memory_info().rss
    one = task.noisy[:1], None if task.sigma is None else task.sigma[:1]

    start = time.process_time()
    denoiser = _make(task)
    made = time.process_time()
    denoiser.setup((1, *task.noisy.shape[1:]))
    ready = time.process_time()
    _call(denoiser, *one)
    first = time.process_time()
    for _ in range(_WARM_UPS):
        _call(denoiser, *one)
    _, calls_s, _, alone = _repeat(denoiser, *one, process)
    _call(denoiser, task.noisy, task.sigma)
    settled, stack_s, grown, denoised = _repeat(denoiser, task.noisy, task.sigma, process)
    busy = _busy(denoiser, task.noisy, task.sigma, float(np.median(stack_s)))

    changed = []
    if not _same(numpy_state, np.random.get_state()):  # noqa: NPY002
        changed.append("numpy.random")
    if python_state != random.getstate():
        changed.append("random")
    return FreshReport(
        make_s=made - start,
        setup_s=ready - made,
        first_s=first - ready,
        call_s=float(np.median(calls_s)),
        busy=busy,
        threads=max(0, process.num_threads() - threads),
        memory_mb=max(0, settled - memory) / _MIB,
        grown_mb=grown / _MIB,
        calls=len(stack_s),
        random_changed=tuple(changed),
        alone=alone,
        denoised=denoised,
    )


def _make(task: FreshTask) -> Denoiser:
    if task.provider is not None:
        load_module(task.provider)
    found: Any = importlib.import_module(task.module)
    for part in task.qualname.split("."):
        found = getattr(found, part)
    denoiser: Denoiser = configure(found, task.spec).make()
    return denoiser


def _call(denoiser: Denoiser, noisy: Images, sigma: Sigma | None) -> Images:
    return denoiser.denoise(noisy.copy(), None if sigma is None else sigma.copy())


def _repeat(
    denoiser: Denoiser, noisy: Images, sigma: Sigma | None, process: psutil.Process
) -> tuple[int, list[float], int, Images]:
    """Call it again and again: resident bytes at the end, processor seconds a call, bytes grown, the last result."""
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


def _busy(denoiser: Denoiser, noisy: Images, sigma: Sigma | None, call_s: float) -> float:
    """Threads with work, in calls that take long enough for more threads to be worth their start."""
    often = max(1, min(_MOST, round(_LONG_S / max(call_s, 1e-6))))
    if often > 1:
        noisy, sigma = np.tile(noisy, (often, 1, 1)), None if sigma is None else np.tile(sigma, often)
        _call(denoiser, noisy, sigma)  # some libraries prepare for each new size
    until = time.perf_counter() + _WATCH_S
    with BusyThreads() as busy:
        _call(denoiser, noisy, sigma)
        while time.perf_counter() < until:
            _call(denoiser, noisy, sigma)
    return busy.typical


def _same(one: Any, other: Any) -> bool:
    return all(np.array_equal(left, right) for left, right in zip(one, other, strict=True))


def main() -> None:
    """Answer a `FreshTask` by a report, and then a denoiser, set up here, by what it makes of the same stack."""
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
    """A result, or the exception in words, for not every exception survives the way."""
    try:
        return work()
    except Exception as error:
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}" + (f": {lines[0]}" if lines else "")
