"""The quality pass: an engine scores shards, and each finished shard is on disk before the next one starts.

After it, the oracle Wiener filter, which is given each clean spectrum, is scored on every noise that allows it.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images, Sigma
from benchbox.api.denoiser import Details, TrainingCard
from benchbox.builtin.channels import CHANNELS, channels_apart, channels_together, is_colour
from benchbox.builtin.noise import apply_protocol
from benchbox.engine.drawing import Condition, draw, labels_of
from benchbox.engine.engines import Engine, ShardWork
from benchbox.engine.events import CellDone, Event, ShardDone, StageStarted, WorkerStarted
from benchbox.engine.plan import Limits, Shard
from benchbox.engine.shard import ShardScores, ShardTask, cropped_size, score
from benchbox.engine.work_loop import WorkLoop, WorkQueue
from benchbox.engine.workers import WorkerContext
from benchbox.records.machines import Canary, Machine
from benchbox.records.run import Cell, Failure, Knowledge, Outcome, PluginSpec
from benchbox.store import IMAGE, RunStore

MOST_KEPT_PIXELS = 2**26
"""Most pixels, over all cells and channels, that are kept in memory for the pictures of the report: 128 MiB."""
_AT_ONCE = 2**17
"""Pixels that are filtered together: their spectra fit the cache, which saves a third of the time."""
Columns = dict[str, NDArray[Any]]


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


@dataclass(frozen=True)
class CeilingTask:
    """A stack of images of one size to filter and score."""

    condition: Condition
    metrics: tuple[PluginSpec, ...]
    indices: NDArray[np.intp]  # shape (M,); positions in the image set; images of one size
    repeat: int  # number of the noise drawn, from 0


def make_ceilings(
    store: RunStore,
    conditions: Mapping[str, Condition],
    shards: Sequence[Shard],
    context: WorkerContext,
    limits: Limits,
    on_event: Callable[[Event], None],
) -> None:
    """Score the oracle Wiener filter on every noise that allows it and has no scores yet.

    A failure is logged and leaves that noise without a ceiling; it does not fail the run.
    """
    metrics = tuple(metric.plugin for metric in store.record.metrics)
    missing = [noise for noise, condition in conditions.items() if has_ceiling(condition) and not store.ceiling(noise)]
    log = store.log_file("oracle_wiener", "ceiling")
    tasks = deque(
        CeilingTask(conditions[noise], metrics, shard.indices, shard.repeat) for noise in missing for shard in shards
    )
    if missing:
        on_event(StageStarted("scoring the oracle Wiener filter"))
    made: dict[str, list[Columns | Failure]] = {noise: [] for noise in missing}

    def keep(task: CeilingTask, result: Columns | Failure) -> None:
        made[task.condition.noise.spec].append(result)

    loop = WorkLoop(score_ceiling, lambda task: task, keep, what="a shard", limits=limits)
    loop.run(context, [WorkQueue("oracle_wiener", log, tasks)], store.record.options.workers)
    for noise, parts in made.items():
        tables = [part for part in parts if not isinstance(part, Failure)]
        failures = [part for part in parts if isinstance(part, Failure)]
        if failures:
            with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                label = store.record.noise_label(noise)
                file.write(f"no oracle Wiener filter on {label}: {failures[0].reason}\n{failures[0].detail}\n")
            continue
        columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
        order = np.lexsort((columns["repeat"], columns[IMAGE]))
        store.write_ceiling(noise, {name: values[order] for name, values in columns.items()})


def has_ceiling(condition: Condition) -> bool:
    """Whether the oracle Wiener filter is defined: the noise is white, and neither clipped nor rounded."""
    return not condition.protocol.changes_noise and condition.noise.white


def score_ceiling(task: CeilingTask) -> Columns | Failure:
    """Filter and score a stack: columns ``image``, ``repeat`` and one per metric, each of shape (M,)."""
    clean, noisy, sigma, _ = draw(task.condition, task.indices, task.repeat)
    if sigma is None:
        return Failure("failed", "its noise model defines no noise level")
    protocol = task.condition.protocol
    denoised = apply_protocol(oracle_wiener(clean, noisy, sigma), clip=True, quantize=protocol.round_output)
    repeat = np.full(len(clean), task.repeat, dtype=np.int32)
    columns: Columns = {IMAGE: task.indices.astype(np.int32), "repeat": repeat}
    labels = labels_of(task.condition, task.indices)
    for metric in task.metrics:
        columns[metric.spec] = score(metric, clean, denoised, labels, protocol.border)
    return columns


def oracle_wiener(clean: Images, noisy: Images, sigma: Sigma) -> Images:
    """Filter images, each channel by itself, by the gain derived from their clean spectrum, ``|X|^2 / (|X|^2 + N)``.

    Among all gains that do not depend on the draw of the noise it minimises the expected squared error. X is the
    discrete Fourier transform of the clean image, and ``N = sigma^2 H W`` the expected power of white noise at each
    frequency. If the variance differs between pixels, `sigma` (shape (N,)) is the root of the mean variance.

    References
    ----------
    N. Wiener, Extrapolation, Interpolation, and Smoothing of Stationary Time Series, MIT Press 1949.
    """
    if is_colour(clean):
        planes, levels = channels_apart(noisy), np.repeat(sigma, CHANNELS)
        return channels_together(oracle_wiener(channels_apart(clean), planes, levels))
    height, width = clean.shape[1:]
    few = max(1, _AT_ONCE // (height * width))
    if len(clean) > few:
        parts = [slice(start, start + few) for start in range(0, len(clean), few)]
        return np.concatenate([oracle_wiener(clean[part], noisy[part], sigma[part]) for part in parts])
    spectrum = np.fft.rfft2(clean)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    total = power + (np.square(sigma) * np.float32(height * width))[:, None, None]
    gain = np.divide(power, total, out=np.zeros_like(power), where=total > 0)
    filtered = np.fft.irfft2(np.fft.rfft2(noisy) * gain, s=(height, width))
    return np.ascontiguousarray(filtered, dtype=np.float32)
