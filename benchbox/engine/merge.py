"""Merges several runs into one; refuses runs that cannot be compared, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError
from benchbox.records.run import Cell, DenoiserRecord, Environment, NoiseRecord, Outcome, RunRecord, Timing
from benchbox.store import IMAGE, RunStore, new_run_id, noise_key

Previews = tuple[dict[str, NDArray[Any]], dict[str, list[NDArray[np.float32]]]]

SAME_SCORES = 1e-4
"""Relative difference up to which scores of two machines count as equal, because machines round differently."""


def merge_runs(stores: Sequence[RunStore], folder: Path, command: str) -> RunStore:
    """Merge all rows of at least two runs into a new run in `folder`; `command` is stored in its record.

    A row that appears in several runs is taken from the first that completed it. Latencies are kept if all runs were
    timed alike on machines of the same kind; otherwise they are left out and a note in `data` says so, but latencies
    relative to the calibration workload stay if all machines timed the same task. For each noise the pictures that
    most rows share are kept. Raises `BenchboxError` if protocol, data, metrics or the versions of a denoiser differ, or
    if two runs have different scores for the same row.
    """
    first = stores[0]
    for other in stores[1:]:
        _require_comparable(first.record, other.record)
    denoisers: dict[str, tuple[RunStore, DenoiserRecord]] = {}
    for store in stores:
        for denoiser in store.record.denoisers:
            kept_store, kept = denoisers.setdefault(denoiser.spec, (store, denoiser))
            if kept.plugin.content != denoiser.plugin.content:
                raise BenchboxError(
                    f"'{denoiser.label}' had other files, such as weights, in run {kept_store.record.run_id} than in "
                    f"run {store.record.run_id}",
                    hint="run one of them again with the files of the other, or leave one run out",
                )
            if kept.plugin != denoiser.plugin:
                raise BenchboxError(
                    f"'{denoiser.label}' of run {kept_store.record.run_id} is from {kept.plugin.provider.label}, "
                    f"that of run {store.record.run_id} from {denoiser.plugin.provider.label}",
                    hint="run one of them again with the plugin of the other, or leave one run out",
                )
    noises: dict[str, NoiseRecord] = {}
    for store in stores:
        for noise in store.record.noises:
            noises.setdefault(noise.spec, noise)
    chosen = _choose(stores)
    timed_alike = len({_timing_of(store) for store in stores}) == 1 and first.record.options.timing
    notes, warnings = (
        dict.fromkeys(note for store in stores for note in getattr(store.record.data, kind))
        for kind in ("notes", "warnings")
    )
    if not timed_alike and any(store.record.options.timing for store in stores):
        notes["latencies left out, because the runs differ in timing options or type of machine"] = None
    record = replace(
        first.record,
        run_id=new_run_id(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        data=replace(first.record.data, notes=tuple(notes), warnings=tuple(warnings)),
        noises=_labelled(noises),
        denoisers=_labelled({denoiser.spec: denoiser for _, denoiser in denoisers.values()}),
        cells=tuple(cell for _, cell, _ in chosen),
        environment=_environment(stores),
        options=replace(
            first.record.options,
            denoisers=tuple(denoisers),
            noise=tuple(noises),
            timing=timed_alike,
            save_images=False,
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
        ceiling = next((columns for store in stores if (columns := store.ceiling(spec))), None)
        if ceiling:
            merged.write_ceiling(spec, ceiling)
        _carry_previews(spec, stores, chosen, merged)
    if timed_alike or len({_timed_task(store) for store in stores if store.timings(include_unlike_machines=True)}) == 1:
        # The run that provides the scores of a row may not have timed it, but another run may have.
        timings = [_located_timings(store, merged.record.environment) for store in stores]
        for spec in denoisers:
            timing = next((timed[spec] for timed in timings if spec in timed), None)
            if timing is not None:
                merged.write_timing(spec, timing)
    return merged


def _list_of_metrics(record: RunRecord) -> str:
    return ", ".join(sorted(metric.spec for metric in record.metrics))


T = TypeVar("T")
L = TypeVar("L", DenoiserRecord, NoiseRecord)


def _labelled(records: Mapping[str, L]) -> tuple[L, ...]:
    """Records by canonical specification, which replaces labels that are not unique."""
    labels = [record.label for record in records.values()]
    return tuple(
        record if labels.count(record.label) == 1 else replace(record, label=spec) for spec, record in records.items()
    )


def _require_comparable(first: RunRecord, other: RunRecord) -> None:
    """Raise `BenchboxError` if protocol, images or metrics differ."""
    pairs: list[tuple[str, Any, Any]] = [
        ("protocol", first.protocol_label, other.protocol_label),
        ("seed", first.protocol.seed, other.protocol.seed),
        ("data set", f"{first.data.dataset} {first.data.split}", f"{other.data.dataset} {other.data.split}"),
        ("number of images", first.data.images, other.data.images),
        ("number of channels", first.data.channels, other.data.channels),
        ("fingerprint of the images", first.data.fingerprint, other.data.fingerprint),
        ("list of metrics", _list_of_metrics(first), _list_of_metrics(other)),
    ]
    providers = {metric.spec: metric.plugin.provider for metric in other.metrics}
    pairs += [
        (f"metric '{metric.label}'", metric.plugin.provider.label, providers[metric.spec].label)
        for metric in first.metrics
        if metric.spec in providers
    ]
    for name, first_value, other_value in pairs:
        if first_value != other_value:
            raise BenchboxError(
                f"cannot merge runs {first.run_id} and {other.run_id}: "
                f"the {name} is '{first_value}' and '{other_value}'",
                hint="run one of them again with the options of the other, or leave one out",
            )


def _choose(stores: Sequence[RunStore]) -> list[tuple[RunStore, Cell, Outcome | None]]:
    """Each cell once, from the first run that completed it; raises if two runs that did disagree."""
    chosen: dict[str, tuple[RunStore, Cell, Outcome | None]] = {}
    for store in stores:
        outcomes = store.outcomes()
        for cell in store.record.cells:
            outcome = outcomes.get(cell.key)
            kept = chosen.get(cell.key)
            if kept is None or (not _completed(kept[2]) and _completed(outcome)):
                chosen[cell.key] = (store, cell, outcome)
            elif _completed(kept[2]) and _completed(outcome):
                _require_same_scores(kept[0], store, cell)
    return list(chosen.values())


def _require_same_scores(first: RunStore, other: RunStore, cell: Cell) -> None:
    scores, other_scores = first.scores(cell.key), other.scores(cell.key)
    for metric in first.record.metrics:
        if not _close(scores[metric.spec], other_scores[metric.spec]):
            raise BenchboxError(
                f"{first.record.cell_label(cell)} has different {metric.label} scores in runs "
                f"{first.record.run_id} and {other.record.run_id}",
                hint="the denoiser or its libraries changed, or it draws random numbers: leave one of the runs out",
            )


def _close(scores: NDArray[Any], others: NDArray[Any]) -> bool:
    return scores.shape == others.shape and bool(
        np.allclose(scores, others, rtol=SAME_SCORES, atol=1e-6, equal_nan=True)
    )


def _carry_previews(
    noise: str,
    stores: Sequence[RunStore],
    chosen: Sequence[tuple[RunStore, Cell, Outcome | None]],
    merged: RunStore,
) -> None:
    """Copy pictures of the same images for as many rows as possible.

    Each run chose images by its own leaders. Kept are the images common to all runs, or else the choice of the run
    that covers most rows. Rows that lack one of these images get no pictures, which the report says.
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
    first = next(shared for shared in inputs if kept <= shared[0].keys())
    order = [place for place in first[0] if place in kept]
    for key, (places, columns, pictures) in {noise_key(noise): first, **rows}.items():
        if kept <= places.keys():
            index = [places[place] for place in order]
            merged.write_previews(
                key,
                {name: values[index] for name, values in columns.items()},
                {name: [stack[row] for row in index] for name, stack in pictures.items()},
            )


def _previews(stores: Sequence[RunStore], key: str) -> list[Previews]:
    """Pictures of a cell or a noise from every run that has some."""
    return [previews for store in stores if (previews := store.previews(key))[0]]


def _places(columns: Mapping[str, NDArray[Any]]) -> dict[tuple[int, int], int]:
    """Row of each picture by image and repeat."""
    pairs = zip(columns[IMAGE].tolist(), columns["repeat"].tolist(), strict=True)
    return {pair: row for row, pair in enumerate(pairs)}


def _completed(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.status == "ok"


def _timing_of(store: RunStore) -> tuple[object, ...]:
    """Everything that latencies depend on besides the denoiser."""
    record = store.record
    return (
        record.environment.machine,
        record.options.timing,
        record.options.batch,
        *sorted({timing.machine for timing in store.timings(include_unlike_machines=True).values()}),
        _timed_task(store),
    )


def _located_timings(store: RunStore, environment: Environment) -> dict[str, Timing]:
    """Timings of a run that name their machine, unless it is that of the merged run."""
    own = store.record.environment
    here = "" if own.machine == environment.machine else own.machine_label
    timings = store.timings(include_unlike_machines=True).items()
    return {spec: replace(timing, machine=timing.machine or here) for spec, timing in timings}


def _timed_task(store: RunStore) -> tuple[object, ...]:
    """Everything that latencies of one image depend on besides the denoiser and the machine."""
    timings = store.timings(include_unlike_machines=True).values()
    return (
        store.record.options.threads,
        *sorted({(timing.shape, timing.noise) for timing in timings if timing.status == "ok"}),
    )


def _environment(stores: Sequence[RunStore]) -> Environment:
    """Common environment of all runs; values that differ are joined by slashes."""
    all_of = [store.record.environment for store in stores]
    packages = dict.fromkeys(name for one in all_of for name in one.versions)
    return Environment(
        cpu=_joined([one.cpu for one in all_of]),
        cores=_joined([one.cores for one in all_of]),
        memory_gb=_joined([one.memory_gb for one in all_of]),
        system=_joined([one.system for one in all_of]),
        python=_joined([one.python for one in all_of]),
        versions={name: _joined([one.versions[name] for one in all_of if name in one.versions]) for name in packages},
        load=max(one.load for one in all_of),
    )


def _joined(values: Sequence[T]) -> T | str:
    return values[0] if len(set(values)) == 1 else " / ".join(dict.fromkeys(map(str, values)))
