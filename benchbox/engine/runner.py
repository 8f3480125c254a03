"""One run from what was asked for to what is on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchbox.api.dataset import ImageSet
from benchbox.api.records import DataRequest, Reference, RunRecord
from benchbox.engine.data import describe_data, open_data
from benchbox.engine.environment import environment
from benchbox.engine.events import Event, RunStarted, TimingDone, TimingStarted
from benchbox.engine.plan import Plan, RunConfig, make_plan
from benchbox.engine.processes import worker_context
from benchbox.engine.quality import QualityPass
from benchbox.engine.timing import choose_images, time_denoiser
from benchbox.engine.work import Condition
from benchbox.registry import Registry, load_registry
from benchbox.store import FORMAT, RunStore, new_run_id


def execute(config: RunConfig, on_event: Callable[[Event], None]) -> RunStore:
    """Make a run: plan, quality pass, timing pass.

    Parameters
    ----------
    config : RunConfig
    on_event : callable
        Told of each step; never by two threads at once.

    Returns
    -------
    RunStore
        With everything on disk.

    Raises
    ------
    BenchboxError
        What was asked for does not exist or cannot be opened, or the results cannot be written.
    """
    context = worker_context()  # it loads the ruler while this process opens the data
    registry = load_registry(config.plugin_files, config.plugin_folders)
    images = open_data(config.data, {name: entry.cls() for name, entry in registry.datasets.items()})
    plan = make_plan(config, registry, images)
    request = _pin(config.data, images)
    record = RunRecord(
        format=FORMAT,
        run_id=new_run_id(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=config.command,
        request=request,
        data=describe_data(images),
        protocol=config.protocol,
        noises=plan.noises,
        metrics=plan.metrics,
        denoisers=plan.denoisers,
        cells=plan.cells,
        environment=environment(),
        jobs=config.jobs,
        timing=config.timing,
        timing_threads=config.timing_threads,
        timing_batch=config.timing_batch,
    )
    store = RunStore.create(config.results, record, _image_columns(images))
    on_event(RunStarted(record))
    conditions = _conditions(record, registry)
    QualityPass(store, conditions, plan.shards, config.timeout_s, on_event).run(context)
    if config.timing:
        _time_all(store, config, plan, conditions, on_event)
    return store


def _time_all(
    store: RunStore,
    config: RunConfig,
    plan: Plan,
    conditions: dict[str, Condition],
    on_event: Callable[[Event], None],
) -> None:
    """Time each denoiser that scored anything, one after the other, on the first noise."""
    outcomes = store.outcomes()
    indices = choose_images(plan.shards, config.timing_batch)
    for denoiser in plan.denoisers:
        cells = [cell for cell in plan.cells if cell.denoiser == denoiser.label and outcomes[cell.key].status == "ok"]
        if not cells:
            continue
        on_event(TimingStarted(denoiser.label))
        timing, detail = time_denoiser(
            denoiser,
            conditions[cells[0].noise],
            indices,
            batch=config.timing_batch,
            threads=config.timing_threads,
            timeout_s=config.timeout_s,
            log=store.log_file(denoiser.label, "timing"),
        )
        store.write_timing(denoiser.label, timing, detail)
        on_event(TimingDone(denoiser.label, timing))


def _pin(request: DataRequest, images: ImageSet) -> DataRequest:
    """Name the data set that was found by looking, so that every process opens the same."""
    path = str(Path(request.path).resolve()) if request.path else ""
    return replace(request, dataset=images.dataset, path=path, split=images.split)


def _conditions(record: RunRecord, registry: Registry) -> dict[str, Condition]:
    dataset = Reference(registry.dataset(record.request.dataset).provider, record.request.dataset)
    return {
        noise: Condition(record.request, dataset, record.data.fingerprint, noise, parts, record.protocol)
        for noise, parts in record.noises.items()
    }


def _image_columns(images: ImageSet) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    shapes = images.shapes.astype(np.int32)
    columns = {"id": np.asarray(images.ids, dtype=object), "height": shapes[:, 0], "width": shapes[:, 1]}
    return columns | {f"label_{name}": np.asarray(values) for name, values in images.labels.items()}
