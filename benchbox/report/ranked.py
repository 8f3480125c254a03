"""Computes ranks, intervals and marks of all rows from the raw scores of all noises at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.report.board import Block, Complement, MetricColumn, Row, Step
from benchbox.report.rows import is_floor
from benchbox.stats.bootstrap import intervals, resampled_means
from benchbox.stats.ranking import Comparison, rank_rows
from benchbox.stats.summaries import Mean
from benchbox.stats.tradeoffs import complements, gap_closed, oracle, pareto_front

Values = NDArray[np.float64]

SPEED_COLUMNS = {
    "latency_p50_ms": False,
    "latency_p90_ms": False,
    "latency_p99_ms": False,
    "throughput": True,
    "cold_start_s": False,
    "peak_mb": False,
}
"""Columns of `Speed` that have a best value, and whether more is better."""


@dataclass(frozen=True)
class Unranked:
    """A block before it is ranked.

    Attributes
    ----------
    noise : str
    noisy_psnr : Mean or None
    rows : tuple of Row
    scores : dict of str to dict of str to ndarray, each of shape (N,)
        Raw scores by denoiser and metric; empty for a row that was not completed.
    """

    noise: str
    spec: str
    noisy_psnr: Mean | None
    rows: tuple[Row, ...]
    scores: Mapping[str, Mapping[str, NDArray[Any]]]


def rank_blocks(
    blocks: Sequence[Unranked],
    metrics: Mapping[str, MetricColumn],
    sort: str,
    within_ms: float | None,
    rank_leaky: bool,
) -> tuple[Block, ...]:
    """Rank the rows of every block.

    All columns of all blocks are resampled together: one draw of images serves them all.
    """
    plans = [_plan(block, metrics[sort], within_ms, rank_leaky) for block in blocks]
    columns = [
        np.asarray(plan.block.scores[row.denoiser][label], dtype=np.float64)
        for plan in plans
        for row in plan.completed
        for label in metrics
    ]
    start = len(columns)
    columns += [column for plan in plans for column in plan.signed.T]
    if not columns or len(columns[0]) < 2:
        resampled = np.empty((0, len(columns)))
        low = high = np.full(len(columns), np.nan)
    else:
        resampled = resampled_means(np.column_stack(columns))
        low, high = intervals(resampled[:, :start], np.array([np.isfinite(one).sum() for one in columns[:start]]))
    place, ranked = 0, []
    for plan in plans:
        rows = {}
        for row in plan.completed:
            scores = {}
            for label in metrics:
                scores[label] = replace(row.scores[label], low=float(low[place]), high=float(high[place]))
                place += 1
            rows[row.denoiser] = replace(row, scores=scores)
        stop = start + plan.signed.shape[1]
        ranked.append(_ranked(plan, rows, resampled[:, start:stop], metrics))
        start = stop
    return tuple(ranked)


@dataclass(frozen=True)
class _Plan:
    """Which rows of a block take part, and what of them is compared.

    `perfect` rows restored every image exactly and stand above all; `signed` holds the scores of the `compared` rows,
    higher is better, NaN in the images that have no finite score in every one of them.
    """

    block: Unranked
    sort: MetricColumn
    completed: tuple[Row, ...]
    perfect: tuple[Row, ...]
    compared: tuple[Row, ...]
    unranked: tuple[Row, ...]
    signed: Values


def _plan(block: Unranked, sort: MetricColumn, within_ms: float | None, rank_leaky: bool) -> _Plan:
    completed = tuple(row for row in block.rows if row.status == "ok")
    reasons = {row.denoiser: _why_not(row, sort.label, within_ms, rank_leaky) for row in block.rows}
    unranked = tuple(row if row.reason else replace(row, reason=reasons[row.denoiser]) for row in block.rows)
    fit = [row for row in completed if not reasons[row.denoiser]]
    perfect = tuple(row for row in fit if math.isinf(row.scores[sort.label].mean))
    compared = tuple(row for row in fit if row not in perfect)
    sign = 1.0 if sort.higher_is_better else -1.0
    columns = [sign * np.asarray(block.scores[row.denoiser][sort.label], dtype=np.float64) for row in compared]
    signed = np.column_stack(columns) if columns else np.empty((0, 0))
    signed[~np.isfinite(signed).all(axis=1)] = np.nan
    left = sorted(
        (row for row in unranked if reasons[row.denoiser]), key=lambda row: _place_of_unranked(row, sort.label, sign)
    )
    return _Plan(block, sort, completed, perfect, compared, tuple(left), signed)


def _place_of_unranked(row: Row, sort: str, sign: float) -> tuple[bool, float]:
    """Completed rows by their mean, then those without a result as they were asked for."""
    mean = row.scores[sort].mean if row.status == "ok" else math.nan
    return (math.isnan(mean), 0.0 if math.isnan(mean) else -sign * mean)


def _why_not(row: Row, sort: str, within_ms: float | None, rank_leaky: bool) -> str:
    if row.status != "ok":
        return row.reason or row.status
    if math.isnan(row.scores[sort].mean):
        return f"no image has a finite {sort}"
    if row.leak and not rank_leaky:
        return row.leak
    if within_ms is None or (row.speed is not None and row.speed.latency_p50_ms <= within_ms):
        return ""
    return f"not within {within_ms:g} ms: " + (
        "it was not timed" if row.speed is None else f"p50 is {row.speed.latency_p50_ms:.3g} ms"
    )


def _ranked(plan: _Plan, rows: dict[str, Row], resampled: Values, metrics: Mapping[str, MetricColumn]) -> Block:
    sign = 1.0 if plan.sort.higher_is_better else -1.0
    scores = plan.signed[np.isfinite(plan.signed).all(axis=1)] if plan.compared else plan.signed
    if 1 < len(scores) < len(plan.signed):
        # A draw of all images may hold none of those that are compared.
        resampled = resampled_means(scores)
    names = [row.denoiser for row in plan.compared]
    block = Block(plan.block.noise, plan.block.spec, plan.block.noisy_psnr, (), compared=len(scores))
    ordered = [replace(rows[row.denoiser], rank=1) for row in plan.perfect]
    if len(scores):
        ranking = rank_rows(scores, resampled)
        floor = next((float(scores[:, place].mean()) for place, name in enumerate(names) if is_floor(name)), None)
        exact_floor = any(is_floor(row.denoiser) for row in plan.perfect)
        ceiling = oracle(scores)
        for column, rank, comparison in zip(ranking.order, ranking.ranks, ranking.to_best, strict=True):
            mean = float(scores[:, column].mean())
            ordered.append(
                replace(
                    rows[names[column]],
                    rank=rank + len(plan.perfect),
                    to_best=_oriented(comparison, sign),
                    gap_closed=None if floor is None or plan.perfect else _or_none(gap_closed(mean, floor, ceiling)),
                    worse_than_nothing=exact_floor or (floor is not None and mean < floor),
                )
            )
        block = replace(
            block,
            oracle=None if plan.perfect else sign * ceiling,
            steps=tuple(
                Step(names[one.better], names[one.worse], one.difference, one.detectable, one.further_images)
                for one in ranking.neighbours
            ),
            complements=tuple(
                Complement(names[pair.first], names[pair.second], sign * pair.together, pair.gain)
                for pair in complements(scores)[:3]
            ),
        )
    else:
        # No image has a finite score in every row: nothing is comparable, so nothing is told apart.
        by_mean = sorted(plan.compared, key=lambda row: -sign * row.scores[plan.sort.label].mean)
        ordered += [replace(rows[row.denoiser], rank=1 + len(plan.perfect)) for row in by_mean]
    marked = _marked(ordered, metrics, plan.sort)
    return replace(block, rows=(*marked, *(_with_scores(row, rows) for row in plan.unranked)))


def _with_scores(row: Row, rows: Mapping[str, Row]) -> Row:
    """Keep the intervals of a row that was completed but is not ranked."""
    return replace(row, scores=rows[row.denoiser].scores) if row.denoiser in rows else row


def _oriented(comparison: Comparison, sign: float) -> Comparison:
    """From higher is better to the unit of the metric."""
    low, high = sorted((sign * comparison.low, sign * comparison.high))
    return replace(comparison, difference=sign * comparison.difference, low=low, high=high)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _marked(rows: Sequence[Row], metrics: Mapping[str, MetricColumn], sort: MetricColumn) -> list[Row]:
    """Mark what no other row beats. The floor takes no part in speed: nothing is faster than nothing."""
    values = {
        label: {
            row.denoiser: (1 if metric.higher_is_better else -1) * row.scores[label].mean
            for row in rows
            if not math.isnan(row.scores[label].mean)
        }
        for label, metric in metrics.items()
    }
    timed = [row for row in rows if row.speed is not None and not is_floor(row.denoiser)]
    for column, higher in SPEED_COLUMNS.items():
        values[column] = {row.denoiser: (1 if higher else -1) * float(getattr(row.speed, column)) for row in timed}
    values["latency_normalised"] = {
        row.denoiser: -row.latency_normalised
        for row in rows
        if row.latency_normalised is not None and not is_floor(row.denoiser)
    }
    best = {column: max(found.values(), default=math.nan) for column, found in values.items()}
    sign = 1 if sort.higher_is_better else -1
    front = pareto_front(
        [sign * row.scores[sort.label].mean for row in timed],
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
