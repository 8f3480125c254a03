"""Ranks the rows of all noises and marks the best values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.records.run import MetricRecord
from benchbox.report.board import Block, Complement, Row, Step
from benchbox.stats.ranking import Comparison, rank_rows
from benchbox.stats.scenes import Scenes, by_scene
from benchbox.stats.summaries import Mean, complements, oracle, pareto_front

Values = NDArray[np.float64]

SPEED_COLUMNS = {
    "latency_p50_ms": False,
    "latency_p90_ms": False,
    "latency_p99_ms": False,
    "throughput": True,
    "cold_start_s": False,
    "peak_mb": False,
}
"""Columns of `Speed` that have a best value, and whether higher is better."""


@dataclass(frozen=True)
class Unranked:
    """A block before it is ranked.

    Attributes
    ----------
    scores : dict of str to dict of str to ndarray, each of shape (N,)
        Scores by denoiser and metric, as `counted`; empty for a row that was not completed.
    scenes : ndarray of int, shape (N,), or None
        Scene of each image; None if every image is a scene of its own.
    """

    noise: str
    spec: str
    noisy_psnr: Mean | None
    rows: tuple[Row, ...]
    scores: Mapping[str, Mapping[str, NDArray[Any]]]
    scenes: Scenes | None = None


def rank_blocks(
    blocks: Sequence[Unranked],
    metrics: Mapping[str, MetricRecord],
    sort: str,
    within_ms: float | None,
    rank_contaminated: bool,
) -> tuple[Block, ...]:
    """Rank the rows of every block."""
    plans = (_plan(block, metrics[sort], within_ms, rank_contaminated) for block in blocks)
    return tuple(_ranked(plan, metrics) for plan in plans)


@dataclass(frozen=True)
class _Plan:
    """Which rows of a block are ranked, and by which scores.

    `signed` holds the scores of the `compared` rows, higher is better, on the images on which any row has a value;
    `scenes` are theirs.
    """

    block: Unranked
    sort: MetricRecord
    compared: tuple[Row, ...]
    unranked: tuple[Row, ...]
    signed: Values
    scenes: Scenes | None


def _plan(block: Unranked, sort: MetricRecord, within_ms: float | None, rank_contaminated: bool) -> _Plan:
    completed = tuple(row for row in block.rows if row.status == "ok")
    scored = {row.denoiser: block.scores[row.denoiser][sort.spec] for row in completed}
    valued = np.any([np.isfinite(scores) for scores in scored.values()], axis=0) if scored else np.zeros(0, bool)
    reasons = {
        row.denoiser: _why_not(row, scored.get(row.denoiser), valued, sort, within_ms, rank_contaminated)
        for row in block.rows
    }
    unranked = tuple(row if row.reason else replace(row, reason=reasons[row.denoiser]) for row in block.rows)
    compared = tuple(row for row in completed if not reasons[row.denoiser])
    sign = 1.0 if sort.higher_is_better else -1.0
    columns = [sign * scored[row.denoiser][valued] for row in compared]
    signed = np.column_stack(columns) if columns else np.empty((0, 0))
    ordered = sorted(
        (row for row in unranked if reasons[row.denoiser]), key=lambda row: _unranked_order(row, sort.spec, sign)
    )
    scenes = None if block.scenes is None or not columns else block.scenes[valued]
    return _Plan(block, sort, compared, tuple(ordered), signed, scenes)


def _unranked_order(row: Row, sort: str, sign: float) -> tuple[bool, float]:
    """Completed rows by mean, then those without a result in the order of the run."""
    mean = row.scores[sort].mean if row.status == "ok" else math.nan
    return (math.isnan(mean), 0.0 if math.isnan(mean) else -sign * mean)


def _why_not(
    row: Row,
    scores: Values | None,
    valued: NDArray[np.bool_],
    sort: MetricRecord,
    within_ms: float | None,
    rank_contaminated: bool,
) -> str:
    if row.status != "ok" or scores is None:
        return row.reason or row.status
    if not valued.any():
        return f"it has no image with a finite {sort.spec}"
    # All rows are compared on the same images: a row that lacks some is unranked, so that it does not shrink the set.
    missing = int((valued & ~np.isfinite(scores)).sum())
    if missing:
        images = "1 image" if missing == 1 else f"{missing:,} images"
        return f"it has no finite {sort.spec} on {images} where other rows have one"
    if row.contamination and not rank_contaminated:
        return row.contamination
    if within_ms is None or (row.speed is not None and row.speed.latency_p50_ms <= within_ms):
        return ""
    if row.speed is None:
        return f"latency limit {within_ms:g} ms, but it was not timed"
    return f"p50 {row.speed.latency_p50_ms:.3g} ms exceeds the limit of {within_ms:g} ms"


def _ranked(plan: _Plan, metrics: Mapping[str, MetricRecord]) -> Block:
    sign = 1.0 if plan.sort.higher_is_better else -1.0
    names = [row.denoiser for row in plan.compared]
    scenes = 0 if plan.scenes is None else len(np.unique(plan.scenes))
    block = Block(plan.block.noise, plan.block.spec, plan.block.noisy_psnr, (), len(plan.signed), scenes)
    ordered = []
    if names:
        ranking = rank_rows(by_scene(plan.signed, plan.scenes))
        means = plan.signed.mean(axis=0)
        floor = next((float(means[place]) for place, row in enumerate(plan.compared) if row.is_floor), None)
        for place, (column, (best, worst), comparison) in enumerate(
            zip(ranking.order, ranking.ranks, ranking.to_best, strict=True), start=1
        ):
            ordered.append(
                replace(
                    plan.compared[column],
                    rank=best if ranking.tested else place,
                    rank_to=worst if ranking.tested else None,
                    to_best=_oriented(comparison, sign),
                    worse_than_nothing=floor is not None and float(means[column]) < floor,
                )
            )
        block = replace(
            block,
            oracle=sign * oracle(plan.signed),
            steps=tuple(
                Step(names[pair.better], names[pair.worse], pair.difference, pair.detectable, pair.further_images)
                for pair in ranking.neighbours
            ),
            complements=tuple(
                Complement(names[pair.first], names[pair.second], sign * pair.together, pair.gain)
                for pair in complements(plan.signed)
                if pair.together > float(means.max())
            )[:3],
        )
    marked = _marked(ordered, metrics, plan.sort)
    return replace(block, rows=(*marked, *plan.unranked))


def _oriented(comparison: Comparison, sign: float) -> Comparison:
    """Convert from higher-is-better to the direction of the metric."""
    low, high = sorted((sign * comparison.low, sign * comparison.high))
    return replace(comparison, difference=sign * comparison.difference, low=low, high=high)


def _marked(rows: Sequence[Row], metrics: Mapping[str, MetricRecord], sort: MetricRecord) -> list[Row]:
    """Mark the best values; the floor is excluded from speed because doing nothing always wins."""
    fewest = {label: min((row.scores[label].undefined for row in rows), default=0) for label in metrics}
    values = {
        label: {
            row.denoiser: (1 if metric.higher_is_better else -1) * row.scores[label].mean
            for row in rows
            # Means over different numbers of images are not comparable.
            if row.scores[label].undefined == fewest[label] and not math.isnan(row.scores[label].mean)
        }
        for label, metric in metrics.items()
    }
    timed = [row for row in rows if row.speed is not None and not row.is_floor]
    for column, higher in SPEED_COLUMNS.items():
        values[column] = {row.denoiser: (1 if higher else -1) * float(getattr(row.speed, column)) for row in timed}
    values["latency_normalised"] = {
        row.denoiser: -row.latency_normalised for row in rows if row.latency_normalised is not None and not row.is_floor
    }
    best = {
        column: max((value for value in by_row.values() if not math.isnan(value)), default=math.nan)
        for column, by_row in values.items()
    }
    sign = 1 if sort.higher_is_better else -1
    front = pareto_front(
        [sign * row.scores[sort.spec].mean for row in timed],
        [row.speed.latency_p50_ms for row in timed if row.speed is not None],
    )
    on_front = {row.denoiser for row, is_on in zip(timed, front, strict=True) if is_on}
    return [
        replace(
            row,
            best=tuple(
                column for column in values if len(rows) > 1 and values[column].get(row.denoiser) == best[column]
            ),
            on_front=row.denoiser in on_front,
        )
        for row in rows
    ]
