"""Scores the outputs of a run again under other protocols, with the noise of its recorded seeds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.metric import NoReferenceMetric
from benchbox.api.threads import usable_cores
from benchbox.builtin.noise import apply_protocol
from benchbox.engine.drawing import Condition, draw, labels_of
from benchbox.engine.events import Event, StageAdvanced, StageStarted
from benchbox.engine.plan import Limits, Shard, cell_key, make_shards, plan_metrics
from benchbox.engine.replay import as_now
from benchbox.engine.reuse import providers_now, reload_images, reload_registry
from benchbox.engine.run import make_conditions
from benchbox.engine.shard import denoise_drawn, score
from benchbox.engine.work_loop import WorkLoop, WorkQueue
from benchbox.engine.workers import WorkerContext, worker_context
from benchbox.records.alternatives import AS_RUN, OUTPUTS, Alternative, alternatives_of, column_of, stage_of
from benchbox.records.run import Cell, Failure, PluginSpec, Timing
from benchbox.registry import Registry
from benchbox.store import IMAGE, RunStore


@dataclass(frozen=True)
class Ruler:
    """One way to score outputs: the protocol's rules for them, and a metric for each column."""

    round_output: bool
    border: int
    metrics: Mapping[str, PluginSpec]


@dataclass(frozen=True)
class RescoreTask:
    """One shard of a cell to be scored in several ways, as a value that is sent to a worker."""

    denoiser: PluginSpec
    condition: Condition
    rulers: tuple[Ruler, ...]
    indices: NDArray[np.intp]  # shape (M,); positions in the image set; images of one size
    repeat: int


@dataclass(frozen=True)
class _Work:
    cell: Cell
    stage: str
    shard: Shard


@dataclass(frozen=True)
class Rescored:
    """What a run looks like under other protocols, besides the scores in its folder.

    Attributes
    ----------
    keys : dict of str to str
        Name of the folder with the scores of each cell, by the cell's key.
    failures : dict of tuple of str to str
        Why a cell has no scores, by its key and the stage.
    warnings : tuple of str
        Plugins that have changed since the run was made.
    """

    keys: Mapping[str, str]
    failures: Mapping[tuple[str, str], str]
    warnings: tuple[str, ...] = ()


@dataclass
class Rescoring:
    """The scores that a run lacks under some alternatives: what is to do, how long it takes, and doing it.

    Every finished shard is in the run's folder before the next one starts, so an interrupt loses only what is being
    computed. `plugin_files` are those that the user trusts, besides the ones already run on this machine. Raises
    `BenchboxError` if the images have changed, or a noise or metric is missing; a missing denoiser is a failure of its
    own cells.
    """

    store: RunStore
    alternatives: Sequence[Alternative]
    on_event: Callable[[Event], None]
    plugin_files: Sequence[Path] = ()
    context: WorkerContext = field(default_factory=worker_context, init=False)
    queues: dict[str, WorkQueue[_Work]] = field(default_factory=dict, init=False)
    keys: dict[str, str] = field(default_factory=dict, init=False)
    failures: dict[tuple[str, str], str] = field(default_factory=dict, init=False)
    warnings: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        record = self.store.record
        self._limits = Limits.of(record.options.timeout_s, record.options.memory_gb)
        self._lock = threading.Lock()
        self._stages: dict[str, list[Alternative]] = {}
        for alternative in self.alternatives:
            if not alternative.pooled:
                self._stages.setdefault(stage_of(alternative, record.protocol), []).append(alternative)
        if not self._stages:
            return
        registry = reload_registry(record, self._limits, self.on_event, self.plugin_files)
        cells = tuple(self._cells(registry))
        if not cells:
            return
        self._again, self.warnings = as_now(replace(record, cells=cells), registry)
        # Whether the outputs are still those that were scored is always looked at; the rest comes at the price of one.
        fitting = alternatives_of(record, self.store.smallest_side())
        own = [each for each in fitting if not each.pooled and stage_of(each, record.protocol) == OUTPUTS]
        self._stages[OUTPUTS] = [AS_RUN, *own]
        self._denoisers = {row.spec: row for row in self._again.denoisers}
        images = reload_images(record, registry)
        self._conditions = make_conditions(self._again, registry)
        self._rulers = {stage: self._rulers_of(stage, registry) for stage in self._stages}
        shards = make_shards(images.shapes, record.protocol.repeats, images.channels)
        identities = tuple(metric.identity for metric in record.metrics)
        for cell in cells:
            row = self._denoisers[cell.denoiser]
            # Of another version or other files, the scores are not those of the run: they get a name of their own.
            key = cell_key(row, cell.noise, record.data.fingerprint, record.protocol, identities)
            self.keys[cell.key] = key
            for stage in self._stages:
                self._plan(cell, stage, shards)

    def _cells(self, registry: Registry) -> Iterator[Cell]:
        """Cells with scores whose denoiser is still there."""
        record, outcomes = self.store.record, self.store.outcomes()
        now = providers_now(record, registry)
        missing = {row.spec for row in record.denoisers if now[row.plugin] is None}
        for cell in record.cells:
            outcome = outcomes.get(cell.key)
            if outcome is None or outcome.status != "ok" or cell.sigma_factor != 1:
                continue
            if cell.denoiser in missing:
                reason = f"'{cell.denoiser.partition(':')[0]}' is not installed any more"
                self.failures |= {(cell.key, stage): reason for stage in self._stages}
            else:
                yield cell

    def _rulers_of(self, stage: str, registry: Registry) -> tuple[Ruler, ...]:
        record = self.store.record
        compared = [
            metric
            for metric in self._again.metrics
            if not issubclass(registry.metric(metric.spec).cls, NoReferenceMetric)
        ]
        rulers = []
        for alternative in self._stages[stage]:
            rules = alternative.under(record.protocol)
            if alternative.replaces:
                (variant,) = plan_metrics([alternative.metric], registry, self._limits.timeout_s, record.data.channels)
                metrics = {column_of(alternative, alternative.replaces): variant.plugin}
            else:
                metrics = {column_of(alternative, metric.spec): metric.plugin for metric in compared}
            rulers.append(Ruler(rules.round_output, rules.border, metrics))
        return tuple(rulers)

    def _plan(self, cell: Cell, stage: str, shards: Sequence[Shard]) -> None:
        needed = {column for ruler in self._rulers[stage] for column in ruler.metrics}
        found = self.store.rescored(self.keys[cell.key], stage)
        missing = [shard for shard in shards if not needed <= found.get((shard.start, shard.stop), {}).keys()]
        if missing:
            label = self.store.record.denoiser_label(cell.denoiser)
            log = self.store.log_file(cell.denoiser, "whatif")
            queue = self.queues.setdefault(cell.denoiser, WorkQueue(label, log, deque()))
            queue.tasks.extend(_Work(cell, stage, shard) for shard in missing)

    @property
    def shards(self) -> int:
        """Number of shards to compute."""
        return sum(len(queue.tasks) for queue in self.queues.values())

    def estimate(self) -> tuple[float, tuple[str, ...]]:
        """About how many seconds it takes on an idle machine, from the latencies of the run; and rows without any."""
        timings, seconds, unknown = self.store.timings(include_unlike_machines=True), 0.0, []
        for denoiser, queue in self.queues.items():
            timing = timings.get(denoiser)
            if timing is None or timing.status != "ok" or not timing.samples_ms.get(timing.batch):
                unknown.append(queue.name)
                continue
            pixels = sum(len(work.shard.indices) * work.shard.size[0] * work.shard.size[1] for work in queue.tasks)
            seconds += timing.cold_start_s + pixels * _seconds_per_pixel(timing)
        return seconds / min(self._workers, usable_cores(), max(1, self.shards)), tuple(unknown)

    @property
    def _workers(self) -> int:
        return self._again.options.workers

    def run(self) -> Rescored:
        """Compute what is missing; on an interrupt, keep finished shards and raise."""
        if self.queues:
            with self.store.locked():
                self.on_event(StageStarted("scoring under other protocols", self.shards))
                loop = WorkLoop(
                    rescore, self._task, self._keep, what="a shard", limits=self._limits,
                    is_wanted=lambda work: (work.cell.key, work.stage) not in self.failures,
                )  # fmt: skip
                loop.run(self.context, list(self.queues.values()), self._workers)
        return Rescored(self.keys, self.failures, self.warnings)

    def _task(self, work: _Work) -> RescoreTask:
        shard, first = work.shard, self._stages[work.stage][0]
        condition = replace(self._conditions[work.cell.noise], rules=first.under(self.store.record.protocol))
        denoiser = self._denoisers[work.cell.denoiser].plugin
        return RescoreTask(denoiser, condition, self._rulers[work.stage], shard.indices, shard.repeat)

    def _keep(self, work: _Work, result: dict[str, NDArray[Any]] | Failure) -> None:
        if isinstance(result, Failure):
            with self.queues[work.cell.denoiser].log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(
                    f"{self.store.record.cell_label(work.cell)}, {work.stage}: {result.reason}\n{result.detail}\n"
                )
        else:
            shard = work.shard
            self.store.write_rescored(self.keys[work.cell.key], work.stage, shard.start, shard.stop, result)
        with self._lock:
            if isinstance(result, Failure):
                self.failures[work.cell.key, work.stage] = f"{result.status}: {result.reason}"
            self.on_event(StageAdvanced())


def _seconds_per_pixel(timing: Timing) -> float:
    height, width = timing.shape
    return float(np.median(timing.samples_ms[timing.batch])) / 1e3 / (timing.batch * height * width)


def rescore(task: RescoreTask) -> dict[str, NDArray[Any]]:
    """Score one shard in several ways: columns ``image``, ``repeat`` and those of the rulers, each of shape (M,)."""
    clean, noisy, sigma_true, _ = draw(task.condition, task.indices, task.repeat)
    denoised = denoise_drawn(task.denoiser, task.condition, noisy, sigma_true)
    labels = labels_of(task.condition, task.indices)
    repeat = np.full(len(clean), task.repeat, dtype=np.int32)
    columns: dict[str, NDArray[Any]] = {IMAGE: task.indices.astype(np.int32), "repeat": repeat}
    for ruler in task.rulers:
        outputs = apply_protocol(denoised, clip=False, quantize=ruler.round_output)
        for column, metric in ruler.metrics.items():
            columns[column] = score(metric, clean, outputs, labels, ruler.border)
    return columns
