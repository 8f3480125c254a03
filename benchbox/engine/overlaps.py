"""Counts how many of the scored images have a duplicate among those that a denoiser was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchbox.api.records import DataRecord, Outcome
from benchbox.builtin.datasets.repeats import repeats_of
from benchbox.builtin.datasets.splits import lies_beside_training
from benchbox.engine.data import open_data
from benchbox.engine.events import Event, StageStarted
from benchbox.registry import Registry
from benchbox.store import RunStore


def note_overlaps(store: RunStore, registry: Registry, on_event: Callable[[Event], None]) -> None:
    """Add to the outcomes of trained denoisers what their training has in common with the scored images.

    Only where a card names the Training split of the scored data and other splits are scored: the images that it was
    fitted on are then at hand. All faces of FER2013 take a few seconds, once; the result is cached.

    Parameters
    ----------
    store : RunStore
        After its quality pass.
    registry : Registry
    on_event : callable
        Told when there is something to look for.
    """
    record = store.record
    open_ones = {key: one for key, one in store.outcomes().items() if _is_open(record.data, one)}
    if not open_ones:
        return
    on_event(StageStarted("looking for scored images in the training data"))
    dataset = registry.dataset(record.request.dataset).cls()
    images = open_data(record.request, {record.request.dataset: dataset})
    path = Path(record.request.path) if record.request.path else None
    repeats = repeats_of(images, dataset, path, skip_bad=record.request.skip_bad)
    if not repeats.note:
        for key, outcome in open_ones.items():
            store.write_outcome(key, replace(outcome, overlap=int(repeats.in_training.sum())))


def _is_open(data: DataRecord, outcome: Outcome) -> bool:
    here = outcome.card.get("dataset") == data.dataset and lies_beside_training(
        str(outcome.card.get("split", "")), data.split
    )
    return outcome.status == "ok" and outcome.overlap is None and here
