"""Executes a run from its options to the finished folder, and resumes an interrupted one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.engine.construction import changed_files
from benchbox.engine.data import as_noisy, describe_data, note_overlaps, open_data
from benchbox.engine.drawing import Condition
from benchbox.engine.engines import Engine, engine_of
from benchbox.engine.environment import environment
from benchbox.engine.events import (
    CellsReused,
    Event,
    FileSetAside,
    RunStarted,
    ScoresDone,
    StageStarted,
    TimingDone,
    TimingStarted,
)
from benchbox.engine.plan import Limits, Shard, cell_key, make_plan, make_shards
from benchbox.engine.previews import make_previews
from benchbox.engine.reuse import (
    describe_change,
    providers_now,
    reload_images,
    reload_registry,
    remember_trusted,
    reuse_cells,
)
from benchbox.engine.scoring import QualityPass, make_ceilings
from benchbox.engine.timing import LocalTimer, Timer, choose_images, timing_context, timing_task
from benchbox.engine.workers import WorkerContext, worker_context
from benchbox.records.options import CLUSTER_OPTIONS, LOCAL, RECORDED, RunOptions
from benchbox.records.run import RunRecord
from benchbox.registry import Registry, load_registry
from benchbox.store import FORMAT, RunStore, new_run_id, set_aside_foreign_files
from benchbox.system.files import temporary_folder

_CHANGED = "restore the original run.json, or start a new run"


def execute(
    options: RunOptions,
    on_event: Callable[[Event], None],
    command: str = "",
    engine: Engine | None = None,
    *,
    check: Callable[[RunRecord], None] = lambda record: None,
) -> RunStore:
    """Execute a run: plan, quality pass, ceilings, previews, timing pass; everything is on disk afterwards.

    `on_event` is never called by two threads at once; `command` is stored in the record. `check` may refuse what is
    planned, before anything is stored or computed. `engine` is the one that the options name, unless it is given.
    """
    options.check()
    engine = engine or engine_of(options)
    limits = Limits.of(options.timeout_s, options.memory_gb)
    context = worker_context()  # its server imports while this process opens the data
    registry = load_registry(
        [Path(file) for file in options.plugins],
        [Path(folder) for folder in options.plugin_folders],
        timeout_s=limits.timeout_s,
        on_event=on_event,
    )
    images = open_data(options, {name: entry.cls() for name, entry in registry.datasets.items()})
    has_clean = images.read_noisy is not None or RECORDED not in options.noise
    if not has_clean:
        images = as_noisy(images, options)
    options = options.settled(recorded=images.read_noisy is not None, has_clean=has_clean)
    plan = make_plan(options, registry, images, has_clean=has_clean)
    remember_trusted(registry, plan.denoisers)
    opened = _pinned(options, images)
    if engine.name == LOCAL:
        opened = replace(opened, jobs=options.workers)
    described = describe_data(images, registry.dataset(images.dataset).cls, opened.path)
    record = RunRecord(
        format=FORMAT,
        run_id=new_run_id(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        options=opened,
        data=replace(described, notes=(*plan.notes, *described.notes), warnings=plan.warnings, has_clean=has_clean),
        noises=plan.noises,
        metrics=plan.metrics,
        denoisers=plan.denoisers,
        cells=plan.cells,
        environment=environment(),
    )
    check(record)
    store = RunStore.create(Path(options.results), record, _image_columns(images))
    with store.locked():
        sources = {} if options.fresh else reuse_cells(store, Path(options.results))
        if sources:
            runs = tuple(dict.fromkeys(source.record.run_id for source in sources.values()))
            total = sum(not cell.skipped for cell in record.cells)
            on_event(CellsReused(len(sources), total, len(store.timings()), runs))
        _work(store, context, plan.shards, registry, limits, on_event, engine, sources)
    return store


def resume(
    folder: Path,
    on_event: Callable[[Event], None],
    changes: Mapping[str, Any] = MappingProxyType({}),
    plugin_files: Sequence[Path] = (),
) -> RunStore:
    """Resume an interrupted run: compute only what is missing.

    `changes` are options on which scores do not depend, the `Option.resumable` ones. Latencies that are missing stay so
    if timing is turned off. It goes on locally, whatever its first engine was, unless `changes` name one: a recorded
    address may come from anybody. `plugin_files` are those that the user trusts, besides the ones already run on this
    machine. Raises `BenchboxError` if the data or a plugin have changed, or another process is working on the run.
    """
    context = worker_context()
    store = RunStore.open(folder)
    recorded = store.record.options
    where = {name: getattr(RunOptions(), name) for name in CLUSTER_OPTIONS}
    options = replace(recorded, **where | dict(changes))
    options.check()
    engine = engine_of(options)
    if options.timing and not recorded.timing:
        raise BenchboxError(
            f"run {store.record.run_id} was made with --no-timing, which --resume cannot change",
            hint="start it again with the same options, but without --no-timing",
        )
    limits = Limits.of(options.timeout_s, options.memory_gb)
    record = replace(store.record, options=options)
    registry = reload_registry(record, limits, on_event, plugin_files)
    _require_same_plugins(record, registry)
    _require_same_plan(record)
    images = reload_images(record, registry)
    with store.locked():
        shards = make_shards(images.shapes, record.protocol.repeats, images.channels)
        planned = {(shard.start, shard.stop): (shard.indices, shard.repeat) for shard in shards}
        for name in set_aside_foreign_files(store, planned):
            on_event(FileSetAside(name))
        store.keep_images(_image_columns(images))
        resumed = RunStore(store.folder, record)
        _work(resumed, context, shards, registry, limits, on_event, engine)
    return store


def _work(
    store: RunStore,
    context: WorkerContext,
    shards: Sequence[Shard],
    registry: Registry,
    limits: Limits,
    on_event: Callable[[Event], None],
    engine: Engine,
    sources: Mapping[str, RunStore] = MappingProxyType({}),
) -> None:
    """Compute whatever a run lacks; `sources` are earlier runs by the keys of cells that were copied from them."""
    done = sum(stop - start for cell in store.record.cells for start, stop in store.finished_shards(cell.key))
    on_event(RunStarted(store.record, done, len(store.timings())))
    conditions = make_conditions(store.record, registry)
    with temporary_folder() as folder:
        ahead = str(folder) if engine.name == LOCAL else ""
        drawn = {noise: replace(condition, ahead=ahead) for noise, condition in conditions.items()}
        quality = QualityPass(store, drawn, shards, limits, on_event)
        if engine.name != LOCAL:
            on_event(StageStarted(f"connecting to engine {engine.name}"))
        with engine:
            options = store.record.options
            if options.timing and options.timing_on:  # said now, not after hours of scoring
                engine.timer(options.timing_on, store.record, next(iter(conditions.values())), limits, on_event)
            quality.run(engine)
        note_overlaps(store, registry, on_event)
        make_ceilings(store, drawn, shards, context, limits, on_event)
    on_event(ScoresDone(store))
    if store.record.options.previews:
        make_previews(store, conditions, context, limits, on_event, quality.denoised, sources)
    if store.record.options.timing:
        _time_all(store, shards, conditions, limits, on_event, engine)


def _require_same_plugins(record: RunRecord, registry: Registry) -> None:
    for plugin, now in providers_now(record, registry).items():
        if now != plugin.provider:
            raise BenchboxError(describe_change(record, plugin, now), hint="restore that version, or start a new run")
    for change in changed_files(record, registry).values():
        raise BenchboxError(change, hint="restore them, or start a new run")


def _require_same_plan(record: RunRecord) -> None:
    """Raise if the record has changed since its cells were planned, because old and new scores would mix."""
    denoisers = {denoiser.spec: denoiser for denoiser in record.denoisers}
    metrics = tuple(metric.identity for metric in record.metrics)
    for cell in record.cells:
        row = denoisers[cell.denoiser]
        key = cell_key(row, cell.noise, record.data.fingerprint, record.protocol, metrics, cell.sigma_factor)
        if key != cell.key:
            raise BenchboxError(
                f"run.json has changed since run {record.run_id} began: {record.cell_label(cell)} was planned as cell "
                f"{cell.key}, but its protocol, data, metrics and plugins now give {key}",
                hint=_CHANGED,
            )


def _time_all(
    store: RunStore,
    shards: Sequence[Shard],
    conditions: dict[str, Condition],
    limits: Limits,
    on_event: Callable[[Event], None],
    engine: Engine,
) -> None:
    """Time the denoisers one after the other, each on the first noise it completed."""
    record, outcomes, finished = store.record, store.outcomes(), store.timings()
    indices = choose_images(shards, record.options.batch)
    completed = [cell for cell in record.cells if outcomes[cell.key].status == "ok"]
    noises = {cell.denoiser: cell.noise for cell in reversed(completed)}
    left = [denoiser for denoiser in record.denoisers if denoiser.spec in noises and denoiser.spec not in finished]
    if not left:
        return
    options = record.options
    with contextlib.ExitStack() as stack:
        timer: Timer
        if options.timing_on:
            stack.enter_context(engine)
            timer = engine.timer(options.timing_on, record, next(iter(conditions.values())), limits, on_event)
        else:
            timer = LocalTimer(stack.enter_context(timing_context(options.threads)), limits, record.environment)
        calibration = timer.calibrate(store.log_file("calibration", "timing"))
        for denoiser in left:
            on_event(TimingStarted(denoiser.label))
            task = timing_task(
                denoiser,
                conditions[noises[denoiser.spec]],
                indices,
                batch=options.batch,
                threads=options.threads,
                budget_s=options.timing_budget_s,
            )
            timing, detail = timer.time(task, store.log_file(denoiser.spec, "timing"))
            timing = replace(timing, calibration=calibration, machine=timer.machine)
            store.write_timing(denoiser.spec, timing, detail)
            on_event(TimingDone(denoiser, timing))


def _pinned(options: RunOptions, images: ImageSet) -> RunOptions:
    """Fill in what was detected, and full paths, so that every process opens the same images."""
    data, noisy, clean = (
        str(Path(given).resolve()) if given else "" for given in (options.data, options.noisy, options.clean)
    )
    found = replace(options, dataset=images.dataset, split=images.split)
    return replace(found, data=data, noisy=noisy, clean=clean)


def make_conditions(record: RunRecord, registry: Registry) -> dict[str, Condition]:
    """Conditions of a run, by canonical noise."""
    dataset = registry.dataset(record.options.dataset).plugin
    return {
        noise.spec: Condition(record.options, dataset, record.data.fingerprint, noise, has_clean=record.data.has_clean)
        for noise in record.noises
    }


def _image_columns(images: ImageSet) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    shapes = images.shapes.astype(np.int32)
    columns: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
        "id": np.asarray(images.ids, dtype=object),
        "height": shapes[:, 0],
        "width": shapes[:, 1],
    }
    if images.scenes:
        columns["scene"] = np.asarray(images.scenes, dtype=object)
    return columns | {f"label_{name}": np.asarray(values) for name, values in images.labels.items()}
