"""Where shards are computed: what an engine must do, the local one, and how others are found.

An engine is a class named by an entry point of the group ``benchbox.engines``, so that a cluster system can be
somebody else's package. Whatever it does, a shard is the same plain value (names, options, seeds and a fingerprint of
the data in, scores out), so scores do not depend on it.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.api.version import DISTRIBUTION
from benchbox.engine.drawing import Condition, DrawTask, draw_ahead, room_for_noise
from benchbox.engine.events import Event, StageAdvanced, StageStarted
from benchbox.engine.plan import Limits, Shard
from benchbox.engine.shard import ShardScores, ShardTask, compute_shard
from benchbox.engine.timing import Timer
from benchbox.engine.work_loop import WorkLoop, WorkQueue
from benchbox.engine.workers import worker_context
from benchbox.records.machines import Canary, Machine
from benchbox.records.options import LOCAL, NO_CLUSTER, RunOptions
from benchbox.records.run import Cell, Failure, PluginSpec, RunRecord

GROUP = "benchbox.engines"


@dataclass(frozen=True)
class ShardWork:
    """A shard of a cell, still to be scored."""

    cell: Cell
    denoiser: PluginSpec
    shard: Shard


class Scoring(Protocol):
    """What the quality pass asks of an engine, and how it takes the results; every method may be called by any thread.

    Shards that are no longer wanted, because their cell has failed, are left out.
    """

    record: RunRecord
    limits: Limits

    @property
    def queues(self) -> Sequence[WorkQueue[ShardWork]]:
        """The shards of each denoiser."""

    def task(self, work: ShardWork) -> ShardTask:
        """Return the shard as a value for another process."""

    def is_wanted(self, work: ShardWork) -> bool:
        """Whether a shard is still to be scored."""

    def keep(self, work: ShardWork, result: ShardScores | Failure, machine: Machine | None = None) -> None:
        """Store the result of a shard; `machine` is None for this one."""

    def compare(self, canary: Canary) -> None:
        """Store what came of computing a shard a second time."""

    def report_worker(self, queue: WorkQueue[ShardWork]) -> None:
        """Report that a worker begins with a denoiser."""

    def report(self, event: Event) -> None:
        """Report an event."""


class Engine(AbstractContextManager["Engine"], Protocol):
    """Computes shards; its ``with`` block is the time during which it may hold connections and processes."""

    name: ClassVar[str]

    @classmethod
    def from_options(cls, options: RunOptions) -> Self:
        """Make it from the options of a run, without connecting; raises `BenchboxError` if they do not fit."""

    @classmethod
    def from_object(cls, given: object) -> Self | None:
        """Make it from what ``benchbox.run(engine=...)`` got, such as a client; None if that is of another engine."""

    def score(self, scoring: Scoring) -> None:
        """Score all shards; on an interrupt or an error, abandon running ones and raise."""

    def timer(
        self, worker: str, record: RunRecord, condition: Condition, limits: Limits, report: Callable[[Event], None]
    ) -> Timer:
        """What times denoisers on a worker; raises `BenchboxError` if none of that name comes, or it is not fit."""


class LocalEngine:
    """Worker processes on this machine."""

    name: ClassVar[str] = LOCAL

    @classmethod
    def from_options(cls, options: RunOptions) -> Self:
        """Make it; no option is about it."""
        return cls()

    @classmethod
    def from_object(cls, given: object) -> Self | None:
        """No object stands for it."""
        return None

    def __enter__(self) -> Self:
        """Do nothing; worker processes start with the first shards."""
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing; no worker process outlives `score`."""

    def score(self, scoring: Scoring) -> None:
        """Score all shards; on an interrupt or an error, abandon running ones and raise."""
        _draw_ahead(scoring)
        loop = WorkLoop(
            compute_shard,
            scoring.task,
            scoring.keep,
            what="a shard",
            limits=scoring.limits,
            is_wanted=scoring.is_wanted,
            on_worker=scoring.report_worker,
        )
        loop.run(worker_context(), scoring.queues, scoring.record.options.workers)

    def timer(
        self, worker: str, record: RunRecord, condition: Condition, limits: Limits, report: Callable[[Event], None]
    ) -> Timer:
        """There is none: without a cluster, denoisers are timed here."""
        raise BenchboxError(f"--timing-on {worker}: {NO_CLUSTER[0]}", hint=NO_CLUSTER[1])


def _draw_ahead(scoring: Scoring) -> None:
    """Draw the noise that several cells need, as far as it fits; what cannot be drawn is left to their workers."""
    uses = tuple({row.sigma_use for row in scoring.record.denoisers})
    needed: Counter[tuple[str, int]] = Counter()
    tasks: list[tuple[int, DrawTask]] = []
    room: int | None = None  # for so many values more
    for work in (work for queue in scoring.queues for work in queue.tasks):
        shard = work.shard
        needed[work.cell.noise, shard.start] += 1
        condition = scoring.task(work).condition
        if needed[work.cell.noise, shard.start] == 2 and condition.ahead and not condition.noise.is_recorded:
            height, width = shard.size
            room = room_for_noise(condition.ahead) if room is None else room
            room -= len(shard.indices) * height * width * scoring.record.data.channels
            if room < 0:
                break
            tasks.append((shard.start, DrawTask(condition, shard.indices, shard.repeat, uses)))
    if not tasks:
        return
    scoring.report(StageStarted("drawing the noise", len(tasks)))
    # Noises take turns, so that the one that takes longest, because its level is estimated, is not left for the end.
    tasks.sort(key=lambda task: task[0])
    failed: set[str] = set()  # canonical noises

    def take_note(task: DrawTask, result: bool | Failure) -> None:
        if isinstance(result, Failure):
            failed.add(task.condition.noise.spec)
        scoring.report(StageAdvanced())

    loop = WorkLoop(
        draw_ahead,
        lambda task: task,
        take_note,
        what="drawing noise",
        limits=scoring.limits,
        is_wanted=lambda task: task.condition.noise.spec not in failed,
    )
    queue = WorkQueue("noise", scoring.queues[0].log.with_name("noise.log"), deque(task for _, task in tasks))
    loop.run(worker_context(), [queue], scoring.record.options.workers)


def _installed() -> Mapping[str, Callable[[], type[Engine]]]:
    """Engines by name; loading one imports its package."""
    points = {point.name: point.load for point in importlib.metadata.entry_points(group=GROUP)}
    return points | {LOCAL: lambda: LocalEngine}


def engine_of(options: RunOptions) -> Engine:
    """The engine that the options name; raises `BenchboxError` if it is unknown or cannot be used."""
    if options.engine_name == LOCAL:  # most runs: no need to look for others
        return LocalEngine.from_options(options)
    name, installed = options.engine_name, _installed()
    if name not in installed:
        raise BenchboxError(f"unknown engine '{name}'", hint=did_you_mean(name, installed))
    try:
        return installed[name]().from_options(options)
    except ImportError as error:
        # An extra of benchbox brings only what its own engines need.
        owners = [point.dist.name for point in importlib.metadata.entry_points(group=GROUP, name=name) if point.dist]
        needed = f'"{DISTRIBUTION}[{name}]"' if DISTRIBUTION in owners else " ".join(owners) or name
        raise BenchboxError(
            f"engine '{name}' cannot be imported: {error}", hint=f"install what it needs: pip install {needed}"
        ) from error


def engine_from(given: object) -> Engine:
    """The engine that takes an object, such as an open client; raises `BenchboxError` if none does."""
    installed = _installed()
    for load in installed.values():
        try:
            engine = load().from_object(given)
        except ImportError:
            continue
        if engine is not None:
            return engine
    raise BenchboxError(
        f"engine={given!r} is not an engine", hint=f"give a name ({', '.join(sorted(installed))}) or a dask client"
    )
