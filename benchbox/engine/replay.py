"""Recomputes cells of a run from their recorded seeds and compares every score with the stored one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.api.threads import threads
from benchbox.engine.content import changed_files
from benchbox.engine.events import Event, RunStarted
from benchbox.engine.plan import Limits, make_shards, plan_denoisers, plan_noise
from benchbox.engine.reload import describe_change, providers_now, reload_images, reload_registry
from benchbox.engine.run import make_conditions
from benchbox.engine.scoring import QualityPass
from benchbox.engine.workers import worker_context
from benchbox.records.run import Cell, Outcome, PluginSpec, Provider, RunRecord
from benchbox.registry import Registry
from benchbox.store import IMAGE, RunStore

NOISE = "noisy_mse"
Columns = Mapping[str, NDArray[Any]]
_NO_LIMITS = Limits()


@dataclass(frozen=True)
class ScoresReplayed:
    """A column of scores, computed again."""

    images: int  # images scored
    different: int  # images of which a score is not bit-identical
    # of the absolute differences over all scores; infinite where a value stands against none
    largest: float
    mean: float


@dataclass(frozen=True)
class CellReplayed:
    """A cell, computed again."""

    # as the user of the run typed them
    denoiser: str
    noise: str
    sigma_factor: float  # what the given noise level is multiplied by
    # ``identical`` or ``different``; ``not replayed`` where the run has no scores of it; else how it ended this
    # time
    status: str
    reason: str = ""
    # by metric; the first is ``noisy_mse``, which tells whether the noise is the same
    scores: dict[str, ScoresReplayed] = field(default_factory=dict)


@dataclass(frozen=True)
class Replay:
    """Cells of a run, computed again."""

    run_id: str
    identical: bool  # whether every replayed score is bit-identical
    warnings: tuple[str, ...]  # what is not as it was when the run was made
    cells: tuple[CellReplayed, ...]


def replay_run(
    store: RunStore,
    cell: str,
    on_event: Callable[[Event], None],
    limits: Limits = _NO_LIMITS,
    plugin_files: Sequence[Path] = (),
) -> Replay:
    """Compute cells again, in a folder that is thrown away, and compare."""
    context = worker_context()
    record = store.record
    registry = reload_registry(record, limits, on_event, plugin_files)
    chosen = _choose(record, cell, registry)
    outcomes = store.outcomes()
    replayed = tuple(one for one in chosen if (outcome := outcomes.get(one.key)) and outcome.status == "ok")
    if not replayed:
        raise BenchboxError(
            f"run {record.run_id} completed none of the cells asked for", hint="benchbox leaderboard says why"
        )
    again, warnings = _as_now(replace(record, cells=replayed), registry)
    images = reload_images(record, registry)
    with tempfile.TemporaryDirectory(prefix="benchbox-") as folder:
        made = RunStore.create(Path(folder), again, store.images())
        on_event(RunStarted(made.record, 0))
        shards = make_shards(images.shapes, record.protocol.repeats)
        QualityPass(made, make_conditions(again, registry), shards, limits, on_event).run(context)
        ended = made.outcomes()
        metrics = [one.spec for one in record.metrics]
        cells = tuple(
            _compare(record, one, store.scores(one.key), made.scores(one.key), ended[one.key], metrics)
            if one in replayed
            else _not_replayed(record, one, outcomes.get(one.key))
            for one in chosen
        )
    identical = all(one.status in ("identical", "not replayed") for one in cells)
    return Replay(record.run_id, identical, warnings, cells)


def _choose(record: RunRecord, text: str, registry: Registry) -> tuple[Cell, ...]:
    """Cells that were asked for: as they stand in the run, or in any other words that mean the same."""
    if not text:
        return record.cells
    names = [f"{cell.denoiser}@{cell.noise}" for cell in record.cells]
    if text not in names:
        denoiser, at, noise = text.rpartition("@")
        if not at:
            raise BenchboxError(f"'{text}' names no cell", hint=f"write DENOISER@NOISE: {names[0]}")
        (planned,) = plan_denoisers([denoiser.strip()], registry)
        text = f"{planned.spec}@{plan_noise(noise.strip(), registry).spec}"
    if text not in names:
        raise BenchboxError(f"run {record.run_id} has no cell '{text}'", hint=did_you_mean(text, names))
    return tuple(cell for cell, name in zip(record.cells, names, strict=True) if name == text)


def _as_now(record: RunRecord, registry: Registry) -> tuple[RunRecord, tuple[str, ...]]:
    """Make the record with the plugins of today, and say what has changed of those that its cells use."""
    used = {cell.denoiser for cell in record.cells}, {cell.noise for cell in record.cells}
    record = replace(
        record,
        denoisers=tuple(one for one in record.denoisers if one.spec in used[0]),
        noises=tuple(one for one in record.noises if one.spec in used[1]),
        options=replace(record.options, jobs=min(record.options.workers, threads()), timing=False, previews=0),
    )
    found: dict[PluginSpec, Provider] = {}
    warnings = []
    for plugin, now in providers_now(record, registry).items():
        words = describe_change(record, plugin, now)
        if now is None:
            raise BenchboxError(words, hint="install it again; a replay needs it")
        if now != plugin.provider:
            warnings.append(words)
        found[plugin] = now
    changed = changed_files(record, registry)
    warnings += changed.values()
    return replace(
        record,
        denoisers=tuple(
            replace(
                one,
                plugin=replace(
                    one.plugin,
                    provider=found[one.plugin],
                    content="" if one.spec in changed else one.plugin.content,
                ),
            )
            for one in record.denoisers
        ),
        noises=tuple(
            replace(one, parts=tuple(replace(part, provider=found[part]) for part in one.parts))
            for one in record.noises
        ),
        metrics=tuple(replace(one, plugin=replace(one.plugin, provider=found[one.plugin])) for one in record.metrics),
    ), tuple(dict.fromkeys(warnings))


def _replayed(record: RunRecord, cell: Cell, status: str, reason: str) -> CellReplayed:
    labels = record.denoiser_label(cell.denoiser), record.noise_label(cell.noise)
    return CellReplayed(*labels, cell.sigma_factor, status, reason)


def _not_replayed(record: RunRecord, cell: Cell, outcome: Outcome | None) -> CellReplayed:
    reason = f"{outcome.status}: {outcome.reason}" if outcome else cell.skipped or "the run ended before it was done"
    return _replayed(record, cell, "not replayed", reason)


def _compare(
    record: RunRecord, cell: Cell, before: Columns, after: Columns, outcome: Outcome, metrics: Sequence[str]
) -> CellReplayed:
    made = _replayed(record, cell, outcome.status, outcome.reason)
    if outcome.status != "ok":
        return made
    labels = [label for label in (NOISE, *metrics) if label in before]
    if not labels or not np.array_equal(before[IMAGE], after[IMAGE]):
        return replace(made, status="different", reason="the run does not hold the scores of the same images")
    scores = {label: compare_scores(before[IMAGE], before[label], after[label]) for label in labels}
    same = all(one.different == 0 for one in scores.values())
    return replace(made, status="identical" if same else "different", scores=scores)


def compare_scores(images: NDArray[Any], before: NDArray[Any], after: NDArray[Any]) -> ScoresReplayed:
    """Hold scores to those that were stored."""
    bits = [np.ascontiguousarray(one, dtype=np.float64).view(np.uint64) for one in (before, after)]
    changed = bits[0] != bits[1]
    apart = np.zeros(len(before))
    with np.errstate(invalid="ignore"):
        apart[changed] = np.abs(after[changed].astype(np.float64) - before[changed])
    apart[np.isnan(apart)] = np.inf
    return ScoresReplayed(
        images=len(np.unique(images)),
        different=len(np.unique(images[changed])),
        largest=float(apart.max(initial=0.0)),
        mean=float(apart.mean()),
    )
