"""The quality pass: an engine scores shards, and each finished shard is on disk before the next one starts."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchbox.api.denoiser import Details, TrainingCard
from benchbox.engine.drawing import Condition
from benchbox.engine.engines import Engine, ShardWork
from benchbox.engine.events import CellDone, Event, ShardDone, WorkerStarted
from benchbox.engine.plan import Limits, Shard
from benchbox.engine.shard import ShardScores, ShardTask, cropped_size
from benchbox.engine.work_loop import WorkQueue
from benchbox.records.machines import Canary, Machine
from benchbox.records.run import Cell, Failure, Knowledge, Outcome
from benchbox.store import RunStore

MOST_KEPT_PIXELS = 2**26
"""Most pixels, over all cells and channels, that are kept in memory for the pictures of the report: 128 MiB."""


@dataclass
class _CellWork:
    """A cell in progress; `left` counts its unfinished shards."""

    cell: Cell
    condition: Condition
    left: int
    failure: Failure | None = None
    noise_level: Knowledge | Literal[""] = ""
    card: TrainingCard | None = None
    details: Details | None = None
    images: int = 0


class QualityPass:
    """Scores every cell of a run.

    Each denoiser has its own worker processes, so that one that misbehaves cannot affect another. `on_event` is called
    from several threads, but one at a time.
    """

    def __init__(
        self,
        store: RunStore,
        conditions: dict[str, Condition],
        shards: Sequence[Shard],
        limits: Limits,
        on_event: Callable[[Event], None],
    ) -> None:
        self._store = store
        self.record = store.record
        self.limits = limits
        self._on_event = on_event
        self._lock = threading.Lock()
        self._machines = store.machines()
        self.denoised: dict[str, dict[tuple[int, int], NDArray[np.float16]]] = {}
        """What pictures show of denoised images, by cell, image and repeat; empty if they are too many.

        Where whole images are saved, they are here, too.
        """
        self._saves = store.record.options.save_images
        sizes = [shard.size if self._saves else cropped_size(shard.size) for shard in shards]
        pixels = sum(len(shard.indices) * math.prod(size) for shard, size in zip(shards, sizes, strict=True))
        wanted = len(store.record.cells) * store.record.data.channels if store.record.options.previews else 0
        self._keeps = 0 < wanted * pixels <= MOST_KEPT_PIXELS
        self._metrics = tuple(metric.plugin for metric in store.record.metrics)
        self.queues: list[WorkQueue[ShardWork]] = []
        self._cells: dict[str, _CellWork] = {}
        finished = store.outcomes()
        for denoiser in store.record.denoisers:
            queue: WorkQueue[ShardWork] = WorkQueue(denoiser.label, store.log_file(denoiser.spec, "quality"), deque())
            self.queues.append(queue)
            for cell in store.record.cells:
                if cell.denoiser == denoiser.spec and not cell.skipped and cell.key not in finished:
                    left = _unfinished(shards, store.finished_shards(cell.key))
                    images = sum(len(shard.indices) for shard in shards) - sum(len(shard.indices) for shard in left)
                    condition = replace(conditions[cell.noise], sigma_factor=cell.sigma_factor)
                    self._cells[cell.key] = _CellWork(cell, condition, len(left), images=images)
                    queue.tasks.extend(ShardWork(cell, denoiser.plugin, shard) for shard in left)

    def run(self, engine: Engine) -> None:
        """Score everything; on an interrupt, keep finished shards, abandon running ones and raise."""
        for cell in self._store.record.cells:
            if cell.skipped and cell.key not in self._store.outcomes():
                self._finish(cell, Outcome("skipped", cell.skipped))
        if any(queue.tasks for queue in self.queues):
            engine.score(self)

    def task(self, work: ShardWork) -> ShardTask:
        """Return the shard as a value for another process."""
        keep: Literal["", "float16", "float32"] = "float32" if self._saves else "float16" if self._shows(work) else ""
        condition = self._cells[work.cell.key].condition
        return ShardTask(work.denoiser, condition, self._metrics, work.shard.indices, work.shard.repeat, keep)

    def is_wanted(self, work: ShardWork) -> bool:
        """Whether a shard is still to be scored."""
        return self._cells[work.cell.key].failure is None

    def _shows(self, work: ShardWork) -> bool:
        """Whether the report may show these images."""
        return self._keeps and work.cell.sigma_factor == 1

    def report_worker(self, queue: WorkQueue[ShardWork]) -> None:
        """Report that a worker begins with a denoiser."""
        self.report(WorkerStarted(queue.name))

    def report(self, event: Event) -> None:
        """Report an event."""
        with self._lock:
            self._on_event(event)

    def keep(self, shard_work: ShardWork, result: ShardScores | Failure, machine: Machine | None = None) -> None:
        """Store the result of a shard, and the outcome of its cell if it is the last one; None for this machine."""
        work, shard = self._cells[shard_work.cell.key], shard_work.shard
        if isinstance(result, ShardScores):
            if machine is not None:
                self._meet(machine)
            if self._saves and result.denoised is not None:
                self._store.write_denoised(work.cell.key, shard.start, shard.stop, result.denoised.astype(np.float32))
            key = machine.key if machine else ""
            self._store.write_shard(work.cell.key, shard.start, shard.stop, result.columns, machine=key)
        with self._lock:
            if work.failure is not None:
                return
            if isinstance(result, Failure):
                work.failure = result
            else:
                work.left -= 1
                work.noise_level, work.card, work.details = result.noise_level, result.card, result.details
                work.images += len(shard.indices)
                if result.denoised is not None and self._shows(shard_work):
                    places = ((int(index), shard.repeat) for index in shard.indices)
                    kept = self.denoised.setdefault(work.cell.key, {})
                    kept.update(zip(places, result.denoised.astype(np.float16), strict=True))
                self._on_event(ShardDone(work.cell, len(shard.indices)))
            if work.failure is None and work.left:
                return
        if work.failure is not None:
            outcome = Outcome(work.failure.status, work.failure.reason, images=work.images)
            self._finish(work.cell, outcome, work.failure.detail)
        else:
            self._finish(work.cell, Outcome("ok", "", work.noise_level, work.card, work.images, details=work.details))

    def _meet(self, machine: Machine) -> None:
        """Store what a machine is, before the first scores that name it."""
        with self._lock:
            if machine.key not in self._machines.machines:
                known = self._machines.machines | {machine.key: machine}
                self._machines = replace(self._machines, machines=known)
                self._store.write_machines(self._machines)

    def compare(self, canary: Canary) -> None:
        """Store what came of computing a shard a second time."""
        with self._lock:
            self._machines = replace(self._machines, canaries=(*self._machines.canaries, canary))
            self._store.write_machines(self._machines)

    def _finish(self, cell: Cell, outcome: Outcome, detail: str = "") -> None:
        self._store.write_outcome(cell.key, outcome, detail)
        with self._lock:
            self._on_event(CellDone(cell, outcome))


def _unfinished(shards: Sequence[Shard], finished: Sequence[tuple[int, int]]) -> list[Shard]:
    """Shards without scores on disk; if all have some, the last one again, because its result completes the outcome."""
    left = [shard for shard in shards if (shard.start, shard.stop) not in finished]
    return left or list(shards[-1:])
