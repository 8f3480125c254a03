"""The quality pass: worker processes score shards, and each shard is on disk before the next begins."""

from __future__ import annotations

import concurrent.futures
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from benchbox.api.denoiser import TrainingCard
from benchbox.api.errors import describe_exit
from benchbox.engine.events import CellDone, Event, ShardDone, WorkerStarted
from benchbox.engine.plan import Limits, Shard
from benchbox.engine.shard import Condition, ImagesLost, ShardScores, ShardTask
from benchbox.engine.worker import attempt, failure_of
from benchbox.engine.workers import WorkerContext, WorkerPool, completed
from benchbox.records.outcomes import Failure, Knowledge, Outcome
from benchbox.records.run import Cell, DenoiserRecord
from benchbox.store import RunStore

_POLL_S = 0.2
_INTERRUPT_S = 1.0  # what ends a worker may be an interrupt of the whole run, which is known of a moment later
_WORTH_S = 1.0  # a further worker takes a good part of a second to start


@dataclass
class _CellWork:
    """A cell under way."""

    cell: Cell
    condition: Condition
    left: int
    failure: Failure | None = None
    knew: Knowledge | Literal[""] = ""
    card: TrainingCard | None = None
    images: int = 0


@dataclass
class _DenoiserWork:
    """All shards of one denoiser; its worker processes run nothing else."""

    record: DenoiserRecord
    queue: deque[tuple[_CellWork, Shard]]
    workers: int = 0
    done: int = 0
    spent_s: float = 0.0

    @property
    def left_s(self) -> float:
        """Seconds that its workers need for what waits, judged by what was done; infinite where nothing was."""
        if not self.done:
            return float("inf") if self.queue else 0.0
        return len(self.queue) * self.spent_s / self.done / max(1, self.workers)


class QualityPass:
    """Scores every cell of a run.

    Each slot keeps one worker process busy with one denoiser. A slot whose denoiser has no shard left turns to an
    untouched denoiser, then helps where most shards wait, so that no core idles while work remains.

    Parameters
    ----------
    store : RunStore
    conditions : dict of str to Condition
        By canonical noise.
    shards : sequence of Shard
    limits : Limits
    on_event : callable
        Told of each shard and cell, from several threads, one at a time.
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
        self._limits = limits
        self._on_event = on_event
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._metrics = tuple(store.record.metrics.items())
        self._work = [_DenoiserWork(record, deque()) for record in store.record.denoisers]
        finished = store.outcomes()
        for work in self._work:
            for cell in store.record.cells:
                if cell.denoiser == work.record.label and not cell.skipped and cell.key not in finished:
                    left = _unfinished(shards, store.finished_shards(cell.key))
                    images = sum(len(shard.indices) for shard in shards) - sum(len(shard.indices) for shard in left)
                    condition = replace(conditions[cell.noise], sigma_factor=cell.sigma_factor)
                    cell_work = _CellWork(cell, condition, len(left), images=images)
                    work.queue.extend((cell_work, shard) for shard in left)

    def run(self, context: WorkerContext) -> None:
        """Do all the work; on an interrupt abandon the shards under way, keep the finished ones and raise."""
        for cell in self._store.record.cells:
            if cell.skipped and cell.key not in self._store.outcomes():
                self._finish(cell, Outcome("skipped", cell.skipped))
        slots = min(self._store.record.options.workers, sum(len(work.queue) for work in self._work))
        with concurrent.futures.ThreadPoolExecutor(max(1, slots)) as threads:
            futures = [threads.submit(self._slot, context) for _ in range(slots)]
            try:
                for future in completed(futures):
                    future.result()
            finally:
                self._stop.set()

    def _slot(self, context: WorkerContext) -> None:
        try:
            while (work := self._next_denoiser()) is not None:
                self._serve(work, context)
        except BaseException:
            self._stop.set()
            raise

    def _next_denoiser(self) -> _DenoiserWork | None:
        with self._lock:
            waiting = [work for work in self._work if work.queue]
            if self._stop.is_set() or not waiting:
                return None
            untouched = [work for work in waiting if work.workers == 0]
            chosen = untouched[0] if untouched else max(waiting, key=lambda work: work.left_s)
            if chosen.workers and chosen.left_s < _WORTH_S:
                return None
            chosen.workers += 1
            return chosen

    def _serve(self, work: _DenoiserWork, context: WorkerContext) -> None:
        """Keep one worker process busy until its denoiser has no shard left."""
        log = self._store.log_file(work.record.label, "quality")
        with self._lock:
            self._on_event(WorkerStarted(work.record.label))
        with WorkerPool(context, log) as pool:
            while not self._stop.is_set() and (item := self._next_shard(work)) is not None:
                cell, shard = item
                task = ShardTask(work.record.reference, cell.condition, self._metrics, shard.indices, shard.repeat)
                begun = time.monotonic()
                result = self._attempt(pool, task)
                if result is not None:
                    self._keep(cell, shard, result)
                with self._lock:
                    work.done += 1
                    work.spent_s += time.monotonic() - begun
            pool.in_haste = self._stop.is_set()
        with self._lock:
            work.workers -= 1

    def _next_shard(self, work: _DenoiserWork) -> tuple[_CellWork, Shard] | None:
        with self._lock:
            while work.queue:
                cell, shard = work.queue.popleft()
                if cell.failure is None:
                    return cell, shard
        return None

    def _attempt(self, pool: WorkerPool, task: ShardTask) -> ShardScores | Failure | None:
        """Have a shard done; None when the run was stopped meanwhile.

        A worker that the system killed may have been in nobody's way but the machine's: its shard gets one more try.
        """
        for last in (False, True):
            future = pool.schedule(attempt, task, self._limits.timeout_s)
            while not future.done():
                if self._stop.is_set():
                    return None
                concurrent.futures.wait([future], timeout=_POLL_S)
                if self._limits.memory_gb and pool.resident_mb() > self._limits.memory_gb * 1024:
                    pool.kill()
                    return Failure("out of memory", self._limits.memory_words)
            failure = self._explain(future)
            if failure is None:
                result: ShardScores | Failure = future.result()
                return result
            if failure.status == "died" and self._stop.wait(_INTERRUPT_S):
                return None
            if last or not failure.detail.startswith("SIGKILL"):
                return failure
        return None

    def _explain(self, future: Any) -> Failure | None:
        """Why a worker gave no answer; None when it gave one."""
        from pebble import ProcessExpired

        error = future.exception()
        if error is None:
            return None
        if isinstance(error, TimeoutError):
            return Failure("timeout", f"a shard took longer than {self._limits.timeout_s:g} s (--timeout)")
        if isinstance(error, ProcessExpired):
            code = int(error.exitcode or 0)
            detail = "SIGKILL" if code == -signal.SIGKILL else ""
            return Failure("died", f"its process {describe_exit(code)}", detail)
        if isinstance(error, ImagesLost | KeyboardInterrupt):
            raise error
        # A plugin that meddles with the harness in its process spoils the way back, and that costs its own row only.
        return failure_of(error)

    def _keep(self, work: _CellWork, shard: Shard, result: ShardScores | Failure) -> None:
        if isinstance(result, ShardScores):
            self._store.write_shard(work.cell.key, shard.start, shard.stop, result.columns)
        with self._lock:
            if work.failure is not None:
                return
            if isinstance(result, Failure):
                work.failure = result
            else:
                work.left -= 1
                work.knew, work.card = result.knew, result.card
                work.images += len(shard.indices)
                self._on_event(ShardDone(work.cell, len(shard.indices)))
            if work.failure is None and work.left:
                return
        if work.failure is not None:
            outcome = Outcome(work.failure.status, work.failure.reason, images=work.images)
            self._finish(work.cell, outcome, work.failure.detail)
        else:
            self._finish(work.cell, Outcome("ok", "", work.knew, work.card, work.images))

    def _finish(self, cell: Cell, outcome: Outcome, detail: str = "") -> None:
        self._store.write_outcome(cell.key, outcome, detail)
        with self._lock:
            self._on_event(CellDone(cell, outcome))


def _unfinished(shards: Sequence[Shard], finished: Sequence[tuple[int, int]]) -> list[Shard]:
    """Shards without scores on disk; the last one again where all have them, for it tells what the denoiser knew."""
    left = [shard for shard in shards if (shard.start, shard.stop) not in finished]
    return left or list(shards[-1:])
