"""Compares two runs by paired differences on shared images, and rejects runs that are not comparable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.records.run import Cell, MetricRecord, RunRecord, Timing
from benchbox.report.board import Speed
from benchbox.report.build import image_scores, scenes_of, speed_of
from benchbox.stats.ranking import separate
from benchbox.stats.summaries import Scenes, by_scene
from benchbox.store import IMAGE, RunStore


@dataclass(frozen=True)
class Change:
    """Change of a metric between two runs, on the images scored in both by every compared row.

    Attributes
    ----------
    before, after : float
        Means.
    difference : float
        Mean paired difference, after minus before.
    low, high : float
        Simultaneous 95 % interval of the difference, see `benchbox.stats.ranking.separate`; NaN for fewer than six
        images.
    p : float
        Adjusted for the number of rows in the comparison.
    apart : bool
        Whether the change is significant: the interval excludes zero.
    images : int
        Images compared.
    lost : int
        Images scored before but not after.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float
    apart: bool
    images: int
    lost: int = 0


@dataclass(frozen=True)
class ComparedRow:
    """A denoiser on one noise in two runs.

    Attributes
    ----------
    noise, denoiser : str
        Labels from the first run, or from the second if only that has them.
    reason : str
        Why it cannot be compared; empty if it can.
    lost : bool
        Whether only the first run completed it.
    changes : dict of str to Change
        By metric.
    calibration_before, calibration_after : float or None
        Time of the calibration kernel on the machine of each run, in milliseconds.
    """

    noise: str
    denoiser: str
    reason: str
    lost: bool
    changes: dict[str, Change]
    speed_before: Speed | None
    speed_after: Speed | None
    calibration_before: float | None = None
    calibration_after: float | None = None

    @property
    def best(self) -> tuple[str, ...]:
        """Metrics with a significant change, which tables mark."""
        return tuple(label for label, change in self.changes.items() if change.apart)


@dataclass(frozen=True)
class RunComparison:
    """Two runs side by side.

    Attributes
    ----------
    first, second : str
        Run ids: before and after.
    data, protocol : str
        Labels of what both runs share.
    images : int
        Number of shared images.
    scenes : int
        Number of their scenes, which the tests count; 0 if every image is a scene of its own.
    metrics : tuple of MetricRecord
        Shared metrics.
    metric : str
        The metric that the table shows.
    rows : tuple of ComparedRow
        In the order of the first run, followed by rows that only the second has.
    speed_caveat : str
        Why latencies in milliseconds are not comparable; empty if they are.
    refitted : tuple of str
        Labels of denoisers with different files, such as weights, in the second run.
    normalised : bool
        Whether latencies are comparable after dividing by the time of the calibration kernel on each machine.
    """

    first: str
    second: str
    data: str
    protocol: str
    images: int
    metrics: tuple[MetricRecord, ...]
    metric: str
    rows: tuple[ComparedRow, ...]
    speed_caveat: str
    refitted: tuple[str, ...] = ()
    normalised: bool = False
    scenes: int = 0


def relative(before: float, after: float) -> float:
    """Relative change; NaN if `before` is zero."""
    return after / before - 1 if before else math.nan


Values = NDArray[np.float64]

SAME_NOISE = 1e-9
"""Relative tolerance on `noisy_mse` for the same image and noise; a different image rounds differently."""


def compare_runs(first: RunStore, second: RunStore, *, metric: str = "") -> RunComparison:
    """Compare the images, rows and metrics that two runs share; `metric` defaults to the one that ranks the first run.

    Raises `BenchboxError`, naming the cause, if protocol, data or a metric differ or nothing is shared.
    """
    _refuse(first.record, second.record)
    metrics = _common_metrics(first.record, second.record)
    specs = {metric.label: metric.spec for metric in first.record.metrics}
    metric = specs.get(metric, metric) or first.record.main_metric.spec
    if metric not in metrics:
        raise BenchboxError(f"metric '{metric}' is not in both runs", hint=did_you_mean(metric, metrics))
    places = _common_images(first, second)
    rows_of = [{row.spec: row.across_runs for row in store.record.denoisers} for store in (first, second)]
    cells = [
        {(cell.noise, rows_of[side][cell.denoiser]): cell for cell in store.record.cells if cell.sigma_factor == 1}
        for side, store in enumerate((first, second))
    ]
    names = [*cells[0], *(name for name in cells[1] if name not in cells[0])]
    reasons = {name: _why_not(first, second, cells[0].get(name), cells[1].get(name)) for name in names}
    paired = {}
    for name in names:
        if not reasons[name]:
            scores = [image_scores(store, cells[side][name]) for side, store in enumerate((first, second))]
            paired[name] = _paired(scores[0], scores[1], places, name[0])
    if not paired:
        labels = _labels(first.record, second.record)
        listed = "; ".join(
            f"{labels[denoiser]} on {labels[noise]}: {reasons[noise, denoiser]}" for noise, denoiser in names[:3]
        )
        raise BenchboxError(
            f"runs {first.record.run_id} and {second.record.run_id} have no row in common ({listed})",
            hint="compare runs of the same denoisers and noises",
        )
    scenes = scenes_of(first)
    changes = _changes(paired, metrics, None if scenes is None else scenes[places[0]])
    timings = [
        {rows_of[side][spec]: timing for spec, timing in _timings(store).items()}
        for side, store in enumerate((first, second))
    ]
    speeds = [
        {label: speed_of(timing, store.record.environment) for label, timing in side.items()}
        for store, side in zip((first, second), timings, strict=True)
    ]
    kernels = [
        {label: timing.calibration.time_ms for label, timing in side.items() if timing.calibration is not None}
        for side in timings
    ]
    machines, task = _machines_caveat(first, second), _task_caveat(first, second)
    outcomes = first.outcomes()
    labels = _labels(first.record, second.record)
    rows = [
        ComparedRow(
            noise=labels[noise],
            denoiser=labels[denoiser],
            reason=reasons[noise, denoiser],
            lost=(noise, denoiser) in cells[0]
            and (noise, denoiser) not in paired
            and _completed(outcomes, cells[0][noise, denoiser]),
            changes=changes.get((noise, denoiser), {}),
            speed_before=speeds[0].get(denoiser),
            speed_after=speeds[1].get(denoiser),
            calibration_before=kernels[0].get(denoiser),
            calibration_after=kernels[1].get(denoiser),
        )
        for noise, denoiser in names
    ]
    data = first.record.data
    return RunComparison(
        first=first.record.run_id,
        second=second.record.run_id,
        data=f"{data.label} {data.split}".strip(),
        protocol=f"{first.record.protocol_label}; seed {first.record.protocol.seed}",
        images=len(places[0]),
        scenes=0 if scenes is None else len(np.unique(scenes[places[0]])),
        metrics=tuple(metrics.values()),
        metric=metric,
        rows=tuple(rows),
        speed_caveat=task or machines,
        refitted=_refitted(first.record, second.record),
        normalised=bool(machines and not task) and [*map(len, kernels)] == [*map(len, timings)],
    )


def _refuse(first: RunRecord, second: RunRecord) -> None:
    """Raise if protocol or data differ."""
    pairs = [
        ("protocol", first.protocol_label, second.protocol_label),
        ("seed", str(first.protocol.seed), str(second.protocol.seed)),
        ("data set", first.data.dataset, second.data.dataset),
        ("split", first.data.split, second.data.split),
        ("--color", *("rgb" if run.data.is_colour else "grey" for run in (first, second))),
    ]
    if not (first.data.has_clean and second.data.has_clean):  # no noise whose error would tell other images
        pairs.append(("images", first.data.fingerprint, second.data.fingerprint))
    for word, before, after in pairs:
        if before != after:
            raise BenchboxError(
                f"runs {first.run_id} and {second.run_id} are not comparable: {word} is '{before}' and '{after}'",
                hint=f"run one of them again with the same {word}",
            )


def _labels(first: RunRecord, second: RunRecord) -> dict[str, str]:
    """Label of each denoiser and noise, by canonical specification."""
    labels: dict[str, str] = {}
    for run in (second, first):
        labels |= {denoiser.across_runs: denoiser.label for denoiser in run.denoisers}
        labels |= {noise.spec: noise.label for noise in run.noises}
    return labels


def _common_metrics(first: RunRecord, second: RunRecord) -> dict[str, MetricRecord]:
    metrics = {}
    metrics_after = {metric.spec: metric for metric in second.metrics}
    for before in first.metrics:
        after = metrics_after.get(before.spec)
        if after is None:
            continue
        if (before.plugin.provider.target, before.unit, before.higher_is_better) != (
            after.plugin.provider.target,
            after.unit,
            after.higher_is_better,
        ):
            raise BenchboxError(
                f"runs {first.run_id} and {second.run_id} are not comparable: metric '{before.label}' is from "
                f"{before.plugin.provider.label} and from {after.plugin.provider.label}",
                hint="run one of them again with the same metric",
            )
        metrics[before.spec] = before
    return metrics


def _common_images(first: RunStore, second: RunStore) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions of the shared images, by id, in each run."""
    ids = [np.asarray(store.images()["id"]).astype(str) for store in (first, second)]
    common, before, after = np.intersect1d(ids[0], ids[1], assume_unique=True, return_indices=True)
    if len(common) == 0:
        names = [f"{store.record.run_id} on {store.record.data.label}" for store in (first, second)]
        raise BenchboxError(
            f"runs {names[0]} and {names[1]} are not comparable: they have no image in common",
            hint="compare two runs of the same --data, --limit and --seed ('benchbox list runs' shows all)",
        )
    return before, after


def _why_not(first: RunStore, second: RunStore, before: Cell | None, after: Cell | None) -> str:
    for store, cell in ((first, before), (second, after)):
        if cell is None:
            return f"not in run {store.record.run_id}"
        outcome = store.outcomes().get(cell.key)
        if outcome is None:
            return f"{'skipped: ' + cell.skipped if cell.skipped else 'unfinished'} in run {store.record.run_id}"
        if outcome.status != "ok":
            return f"{outcome.status} in run {store.record.run_id}: {outcome.reason}"
        if len(store.scores(cell.key).get(IMAGE, ())) != store.record.data.images * store.record.protocol.repeats:
            return f"incomplete in run {store.record.run_id}"
    return ""


def _completed(outcomes: Mapping[str, Any], cell: Cell) -> bool:
    return cell.key in outcomes and outcomes[cell.key].status == "ok"


def _paired(
    before: Mapping[str, NDArray[Any]],
    after: Mapping[str, NDArray[Any]],
    places: tuple[NDArray[np.intp], NDArray[np.intp]],
    noise: str,
) -> tuple[dict[str, Values], dict[str, Values]]:
    """Scores of both runs on the shared images, in the same order; raises if equal ids have different images."""
    sides = [
        {name: np.asarray(values, dtype=np.float64)[place] for name, values in scores.items() if name != IMAGE}
        for scores, place in zip((before, after), places, strict=True)
    ]
    if not np.allclose(sides[0]["noisy_mse"], sides[1]["noisy_mse"], rtol=SAME_NOISE, atol=0, equal_nan=True):
        raise BenchboxError(
            f"the runs are not comparable: images with equal names have different content or different {noise} noise",
            hint="compare runs of the same files, made with versions that draw the same noise",
        )
    return sides[0], sides[1]


def _changes(
    paired: Mapping[tuple[str, str], tuple[Mapping[str, Values], Mapping[str, Values]]],
    metrics: Mapping[str, MetricRecord],
    scenes: Scenes | None,
) -> dict[tuple[str, str], dict[str, Change]]:
    """Paired differences of all rows; the rows of a metric are tested together, on the same images."""
    changes: dict[tuple[str, str], dict[str, Change]] = {name: {} for name in paired}
    for label in metrics:
        sides = {name: (before[label], after[label]) for name, (before, after) in paired.items()}
        both = {name: np.isfinite(before) & np.isfinite(after) for name, (before, after) in sides.items()}
        names = [name for name in paired if both[name].any()]
        kept = np.all([both[name] for name in names], axis=0) if names else np.zeros(0, bool)
        if not kept.any():
            continue
        differences = [sides[name][1][kept] - sides[name][0][kept] for name in names]
        # `separate` compares columns: a column of zeros makes each pair a test of one difference against none.
        table = np.column_stack([*differences, np.zeros(kept.sum())])
        tests = separate(
            by_scene(table, None if scenes is None else scenes[kept]),
            np.arange(len(names)),
            np.full(len(names), len(names)),
        )
        for row, name in enumerate(names):
            before, after = sides[name]
            difference, half = float(tests.difference[row]), float(tests.half_width[row])
            changes[name][label] = Change(
                before=float(before[kept].mean()),
                after=float(after[kept].mean()),
                difference=difference,
                low=difference - half,
                high=difference + half,
                p=float(tests.p[row]),
                apart=bool(tests.apart[row]),
                images=int(kept.sum()),
                lost=int((np.isfinite(before) & ~np.isfinite(after)).sum()),
            )
    return changes


def _refitted(first: RunRecord, second: RunRecord) -> tuple[str, ...]:
    before = {denoiser.across_runs: denoiser for denoiser in first.denoisers}
    return tuple(
        after.label
        for after in second.denoisers
        if (same := before.get(after.across_runs)) and same.plugin.content != after.plugin.content
    )


def _timings(store: RunStore) -> dict[str, Timing]:
    """Successful timings by denoiser, on any machine."""
    timings = store.timings(include_unlike_machines=True)
    return {label: timing for label, timing in timings.items() if timing.status == "ok"}


def _machines_caveat(first: RunStore, second: RunStore) -> str:
    """Why latencies come from different machines; empty if they do not."""
    machines = []
    for store in (first, second):
        here = store.record.environment.machine_label
        machines.append({timing.machine or here for timing in _timings(store).values()} or {here})
        if not store.record.options.timing or len(machines[-1]) > 1:
            return f"run {store.record.run_id} has latencies from different machines"
    return "" if machines[0] == machines[1] else "the machines differ: " + " and ".join(name for (name,) in machines)


def _task_caveat(first: RunStore, second: RunStore) -> str:
    """Why latencies are not comparable even on one machine; empty if they are."""
    tasks = [
        {(timing.shape, timing.threads, store.record.options.batch) for timing in _timings(store).values()}
        for store in (first, second)
    ]
    for store, task in zip((first, second), tasks, strict=True):
        if not task:
            return f"run {store.record.run_id} has no timing"
    return "" if tasks[0] == tasks[1] else "they were timed with different image sizes, threads or batches"
