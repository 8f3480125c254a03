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
from benchbox.engine.construction import changed_files
from benchbox.engine.engines import LocalEngine
from benchbox.engine.events import Event, RunStarted
from benchbox.engine.plan import Limits, make_shards, plan_denoisers, plan_noises
from benchbox.engine.reuse import describe_change, providers_now, reload_images, reload_registry
from benchbox.engine.run import make_conditions
from benchbox.engine.scoring import QualityPass
from benchbox.engine.workers import worker_context
from benchbox.records.run import Cell, Outcome, PluginSpec, Provider, RunRecord
from benchbox.registry import Registry
from benchbox.store import IMAGE, RunStore

NOISE = "noisy_mse"
Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class ScoresReplayed:
    """A replayed column of scores."""

    images: int  # images scored
    different: int  # images with a score that is not bit-identical
    # of the absolute differences over all scores; infinite if only one of the two has a value
    largest: float
    mean: float


@dataclass(frozen=True)
class CellReplayed:
    """A replayed cell."""

    # as typed for the run
    denoiser: str
    noise: str
    sigma_factor: float  # factor on the given noise level
    # ``identical``, ``different``, ``not replayed`` if the run has no scores for it, or how the replay failed
    status: str
    reason: str = ""
    # by metric; the first is ``noisy_mse``, which shows whether the noise is the same
    scores: dict[str, ScoresReplayed] = field(default_factory=dict)


@dataclass(frozen=True)
class Replay:
    """Replayed cells of a run."""

    run_id: str
    identical: bool  # whether every replayed score is bit-identical
    warnings: tuple[str, ...]  # changes since the run was made
    cells: tuple[CellReplayed, ...]


def replay_run(
    store: RunStore,
    cell: str,
    on_event: Callable[[Event], None],
    plugin_files: Sequence[Path] = (),
) -> Replay:
    """Compute cells again in a temporary folder and compare; the run is only read.

    `cell` is ``DENOISER@NOISE``, which includes all its sigma factors; empty for all cells. `plugin_files` are those
    that the user trusts, besides the ones already run on this machine. Raises `BenchboxError` if there is no such cell
    or no scores to compare with, the images have changed, or a plugin is missing.
    """
    worker_context()  # its server imports while this process reads the plugins
    record = store.record
    limits = Limits.of(record.options.timeout_s, record.options.memory_gb)
    registry = reload_registry(record, limits, on_event, plugin_files)
    chosen = _choose(record, cell, registry)
    outcomes = store.outcomes()
    replayed = tuple(
        candidate for candidate in chosen if (outcome := outcomes.get(candidate.key)) and outcome.status == "ok"
    )
    if not replayed:
        raise BenchboxError(
            f"run {record.run_id} has no scores to replay", hint="see why its cells failed: benchbox leaderboard"
        )
    again, warnings = as_now(replace(record, cells=replayed), registry)
    images = reload_images(record, registry)
    with tempfile.TemporaryDirectory(prefix="benchbox-") as folder:
        made = RunStore.create(Path(folder), again, store.images())
        on_event(RunStarted(made.record, 0))
        shards = make_shards(images.shapes, record.protocol.repeats, images.channels)
        QualityPass(made, make_conditions(again, registry), shards, limits, on_event).run(LocalEngine())
        ended = made.outcomes()
        metrics = [metric.spec for metric in record.metrics]
        cells = tuple(
            _compare(record, planned, store.scores(planned.key), made.scores(planned.key), ended[planned.key], metrics)
            if planned in replayed
            else _not_replayed(record, planned, outcomes.get(planned.key))
            for planned in chosen
        )
    identical = all(result.status in ("identical", "not replayed") for result in cells)
    return Replay(record.run_id, identical, warnings, cells)


def _choose(record: RunRecord, text: str, registry: Registry) -> tuple[Cell, ...]:
    """Cells selected by their canonical name, or by any specification with the same meaning."""
    if not text:
        return record.cells
    names = [f"{cell.denoiser}@{cell.noise}" for cell in record.cells]
    if text not in names:
        denoiser, at, noise = text.rpartition("@")
        if not at:
            raise BenchboxError(f"'{text}' is not a cell", hint=f"write DENOISER@NOISE, such as {names[0]}")
        (row,) = plan_denoisers([denoiser.strip()], registry, record.options.timeout_s)
        (drawn,) = plan_noises([noise.strip()], registry, record.options.timeout_s)
        text = f"{row.spec}@{drawn.spec}"
    if text not in names:
        raise BenchboxError(f"run {record.run_id} has no cell '{text}'", hint=did_you_mean(text, names))
    return tuple(cell for cell, name in zip(record.cells, names, strict=True) if name == text)


def as_now(record: RunRecord, registry: Registry) -> tuple[RunRecord, tuple[str, ...]]:
    """The record with the current plugins of its cells, and a warning for each that has changed.

    Raises `BenchboxError` if one is missing.
    """
    denoisers, noises = {cell.denoiser for cell in record.cells}, {cell.noise for cell in record.cells}
    record = replace(
        record,
        denoisers=tuple(denoiser for denoiser in record.denoisers if denoiser.spec in denoisers),
        noises=tuple(noise for noise in record.noises if noise.spec in noises),
        options=replace(
            record.options, jobs=min(record.options.workers, threads()), timing=False, previews=0, save_images=False
        ),
    )
    current: dict[PluginSpec, Provider] = {}
    warnings = []
    for plugin, now in providers_now(record, registry).items():
        change = describe_change(record, plugin, now)
        if now is None:
            raise BenchboxError(change, hint="install it again, because a replay needs it")
        if now != plugin.provider:
            warnings.append(change)
        current[plugin] = now
    changed = changed_files(record, registry)
    warnings += changed.values()
    return replace(
        record,
        denoisers=tuple(
            replace(
                denoiser,
                plugin=replace(
                    denoiser.plugin,
                    provider=current[denoiser.plugin],
                    content="" if denoiser.spec in changed else denoiser.plugin.content,
                ),
            )
            for denoiser in record.denoisers
        ),
        noises=tuple(
            replace(noise, parts=tuple(replace(part, provider=current[part]) for part in noise.parts))
            for noise in record.noises
        ),
        metrics=tuple(
            replace(metric, plugin=replace(metric.plugin, provider=current[metric.plugin])) for metric in record.metrics
        ),
    ), tuple(dict.fromkeys(warnings))


def _replayed(record: RunRecord, cell: Cell, status: str, reason: str) -> CellReplayed:
    labels = record.denoiser_label(cell.denoiser), record.noise_label(cell.noise)
    return CellReplayed(*labels, cell.sigma_factor, status, reason)


def _not_replayed(record: RunRecord, cell: Cell, outcome: Outcome | None) -> CellReplayed:
    unfinished = cell.skipped or "the run ended before this cell was finished"
    reason = f"{outcome.status}: {outcome.reason}" if outcome else unfinished
    return _replayed(record, cell, "not replayed", reason)


def _compare(
    record: RunRecord, cell: Cell, before: Columns, after: Columns, outcome: Outcome, metrics: Sequence[str]
) -> CellReplayed:
    made = _replayed(record, cell, outcome.status, outcome.reason)
    if outcome.status != "ok":
        return made
    labels = [label for label in (NOISE, *metrics) if label in before]
    if not labels or not np.array_equal(before[IMAGE], after[IMAGE]):
        return replace(made, status="different", reason="the run has scores of other images")
    scores = {label: compare_scores(before[IMAGE], before[label], after[label]) for label in labels}
    same = all(score.different == 0 for score in scores.values())
    return replace(made, status="identical" if same else "different", scores=scores)


def compare_scores(images: NDArray[Any], before: NDArray[Any], after: NDArray[Any]) -> ScoresReplayed:
    """Compare new scores with stored ones, all of shape (M,); `images` has the image of each score."""
    bits = [np.ascontiguousarray(scores, dtype=np.float64).view(np.uint64) for scores in (before, after)]
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
