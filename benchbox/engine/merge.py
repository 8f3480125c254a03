"""Merges several runs into one; refuses runs that cannot be compared and says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError
from benchbox.records.run import Cell, DenoiserRecord, NoiseRecord, Outcome, RunRecord
from benchbox.store import IMAGE, RunStore, new_run_id, noise_key

Previews = tuple[dict[str, NDArray[Any]], dict[str, list[NDArray[np.float32]]]]

SAME_SCORES = 1e-4
"""Relative difference up to which two machines gave one result: they round differently."""


def merge_runs(stores: Sequence[RunStore], folder: Path, command: str) -> RunStore:
    """Make one run of all rows of several.

    A row that stands in several runs is kept once, from the first that completed it. Latencies are kept if all runs
    were timed alike on machines of one kind, else they are left out and a note in `data` says so; what they are over
    the calibration kernel stays, if the machines had the same task. Of the pictures of a noise those stay that most
    rows have.
    """
    first = stores[0]
    for other in stores[1:]:
        _refuse(first.record, other.record)
    denoisers: dict[str, tuple[RunStore, DenoiserRecord]] = {}
    for store in stores:
        for one in store.record.denoisers:
            kept_store, kept = denoisers.setdefault(one.spec, (store, one))
            if kept.plugin.content != one.plugin.content:
                raise BenchboxError(
                    f"'{one.label}' had other files, such as weights, in run {kept_store.record.run_id} than in run "
                    f"{store.record.run_id}",
                    hint="run one of them again with the files of the other, or leave one run out",
                )
            if kept.plugin != one.plugin:
                raise BenchboxError(
                    f"'{one.label}' of run {kept_store.record.run_id} is from {kept.plugin.provider.label}, "
                    f"that of run {store.record.run_id} from {one.plugin.provider.label}",
                    hint="run one of them again with the plugin of the other, or leave one run out",
                )
    noises: dict[str, NoiseRecord] = {}
    for store in stores:
        for noise in store.record.noises:
            noises.setdefault(noise.spec, noise)
    chosen = _choose(stores)
    timed_alike = len({_timing_of(store) for store in stores}) == 1 and first.record.options.timing
    notes = dict.fromkeys(note for store in stores for note in store.record.data.notes)
    if not timed_alike and any(store.record.options.timing for store in stores):
        notes["latencies left out: the runs were not timed alike on machines of one kind"] = None
    record = replace(
        first.record,
        run_id=new_run_id(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        data=replace(first.record.data, notes=tuple(notes)),
        noises=_labelled(noises),
        denoisers=_labelled({one.spec: one for _, one in denoisers.values()}),
        cells=tuple(cell for _, cell, _ in chosen),
        environment=_environment(stores),
        options=replace(
            first.record.options,
            denoisers=tuple(denoisers),
            noise=tuple(noises),
            timing=timed_alike,
            previews=max(store.record.options.previews for store in stores),
        ),
    )
    merged = RunStore.create(folder, record, first.images())
    for store, cell, outcome in chosen:
        if outcome is None:
            continue
        scores = store.scores(cell.key)
        if scores:
            merged.write_shard(cell.key, 0, len(next(iter(scores.values()))), scores)
        detail = store.failure_file(cell.key)
        text = detail.read_text(encoding="utf-8") if detail.is_file() else ""
        merged.write_outcome(cell.key, outcome, text)
    for spec in noises:
        ceiling = next((found for store in stores if (found := store.ceiling(spec))), None)
        if ceiling:
            merged.write_ceiling(spec, ceiling)
        _carry_previews(spec, stores, chosen, merged)
    if timed_alike or len({_timed_task(store) for store in stores if store.timings(include_unlike_machines=True)}) == 1:
        # Where the run that gave a row was not timed, another one with that row may have been.
        timings = [store.timings(include_unlike_machines=True) for store in stores]
        for spec in denoisers:
            timing = next((one[spec] for one in timings if spec in one), None)
            if timing is not None:
                merged.write_timing(spec, timing)
    return merged


def _list_of_metrics(record: RunRecord) -> str:
    return ", ".join(sorted(one.spec for one in record.metrics))


L = TypeVar("L", DenoiserRecord, NoiseRecord)


def _labelled(things: Mapping[str, L]) -> tuple[L, ...]:
    """Things by canonical specification; those that were typed alike and are not the same are told apart by it."""
    labels = [one.label for one in things.values()]
    return tuple(one if labels.count(one.label) == 1 else replace(one, label=spec) for spec, one in things.items())


def _refuse(first: RunRecord, other: RunRecord) -> None:
    """Raise where rules, images or metrics differ."""
    pairs: list[tuple[str, Any, Any]] = [
        ("protocol", first.protocol.label, other.protocol.label),
        ("seed", first.protocol.seed, other.protocol.seed),
        ("data set", f"{first.data.dataset} {first.data.split}", f"{other.data.dataset} {other.data.split}"),
        ("number of images", first.data.images, other.data.images),
        ("fingerprint of the images", first.data.fingerprint, other.data.fingerprint),
        ("list of metrics", _list_of_metrics(first), _list_of_metrics(other)),
    ]
    others = {one.spec: one.plugin.provider for one in other.metrics}
    pairs += [
        (f"metric '{one.label}'", one.plugin.provider.label, others[one.spec].label)
        for one in first.metrics
        if one.spec in others
    ]
    for word, before, after in pairs:
        if before != after:
            raise BenchboxError(
                f"runs {first.run_id} and {other.run_id} do not merge: the {word} is '{before}' and '{after}'",
                hint="run one of them again as the other was run, or leave one out",
            )


def _choose(stores: Sequence[RunStore]) -> list[tuple[RunStore, Cell, Outcome | None]]:
    """Each cell once, from the first run that completed it; raises where two that did disagree."""
    chosen: dict[str, tuple[RunStore, Cell, Outcome | None]] = {}
    for store in stores:
        outcomes = store.outcomes()
        for cell in store.record.cells:
            outcome = outcomes.get(cell.key)
            kept = chosen.get(cell.key)
            if kept is None or (not _completed(kept[2]) and _completed(outcome)):
                chosen[cell.key] = (store, cell, outcome)
            elif _completed(kept[2]) and _completed(outcome):
                _same_scores(kept[0], store, cell)
    return list(chosen.values())


def _same_scores(first: RunStore, other: RunStore, cell: Cell) -> None:
    one, two = first.scores(cell.key), other.scores(cell.key)
    for metric in first.record.metrics:
        if not _close(one[metric.spec], two[metric.spec]):
            raise BenchboxError(
                f"{first.record.cell_label(cell)} has other scores ({metric.label}) in run {other.record.run_id} than "
                f"in {first.record.run_id}",
                hint="the denoiser or its libraries changed, or it draws random numbers: leave one of the runs out",
            )


def _close(one: NDArray[Any], two: NDArray[Any]) -> bool:
    return one.shape == two.shape and bool(np.allclose(one, two, rtol=SAME_SCORES, atol=1e-6, equal_nan=True))


def _carry_previews(
    noise: str,
    stores: Sequence[RunStore],
    chosen: Sequence[tuple[RunStore, Cell, Outcome | None]],
    merged: RunStore,
) -> None:
    """Keep pictures of the same images for as many rows as possible.

    Each run chose images by its own leaders: what all runs have in common is kept, or else the choice of the run that
    most rows have. Rows without one of these go without pictures, which the report says.
    """
    inputs = [(_places(columns), columns, pictures) for columns, pictures in _previews(stores, noise_key(noise))]
    rows = {
        cell.key: (_places(columns), columns, pictures)
        for store, cell, _ in chosen
        if cell.noise == noise and cell.sigma_factor == 1
        for columns, pictures in _previews([store], cell.key)
    }
    choices = [set(places) for places, _, _ in inputs]
    choices += [set.intersection(*choices)] if choices else []
    kept = max(
        (choice for choice in choices if choice),
        key=lambda choice: (sum(choice <= places.keys() for places, _, _ in rows.values()), len(choice)),
        default=set(),
    )
    if not kept:
        return
    first = next(one for one in inputs if kept <= one[0].keys())
    order = [place for place in first[0] if place in kept]
    for key, (places, columns, pictures) in {noise_key(noise): first, **rows}.items():
        if kept <= places.keys():
            index = [places[place] for place in order]
            merged.write_previews(
                key,
                {name: values[index] for name, values in columns.items()},
                {name: [stack[one] for one in index] for name, stack in pictures.items()},
            )


def _previews(stores: Sequence[RunStore], key: str) -> list[Previews]:
    """What the runs that kept pictures kept of a cell or a noise."""
    return [found for store in stores if (found := store.previews(key))[0]]


def _places(columns: Mapping[str, NDArray[Any]]) -> dict[tuple[int, int], int]:
    """Row of each picture by image and repeat."""
    pairs = zip(columns[IMAGE].tolist(), columns["repeat"].tolist(), strict=True)
    return {pair: row for row, pair in enumerate(pairs)}


def _completed(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.status == "ok"


def _timing_of(store: RunStore) -> tuple[object, ...]:
    """What latencies hang on besides the denoiser."""
    record, environment = store.record, store.record.environment
    return (
        *(environment.get(key) for key in ("cpu", "cores")),
        record.options.timing,
        record.options.batch,
        _timed_task(store),
    )


def _timed_task(store: RunStore) -> tuple[object, ...]:
    """What latencies of one image hang on besides the denoiser and the machine."""
    timings = store.timings(include_unlike_machines=True).values()
    return (store.record.options.threads, *sorted({(one.shape, one.noise) for one in timings if one.status == "ok"}))


def _environment(stores: Sequence[RunStore]) -> dict[str, Any]:
    """The environment of all runs: a value that differs is the list of its values in words."""
    environments = [store.record.environment for store in stores]
    keys = dict.fromkeys(key for one in environments for key in one)
    merged: dict[str, Any] = {}
    for key in keys:
        values = [one.get(key) for one in environments]
        if all(value == values[0] for value in values):
            merged[key] = values[0]
        elif key == "versions":
            packages = dict.fromkeys(name for one in values for name in one or {})
            merged[key] = {name: _words([(one or {}).get(name) for one in values]) for name in packages}
        elif key == "load":
            merged[key] = max(value for value in values if value is not None)
        else:
            merged[key] = _words(values)
    return merged


def _words(values: Sequence[Any]) -> str:
    return " / ".join(dict.fromkeys(str(value) for value in values if value is not None))
