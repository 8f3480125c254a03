"""Ranks the rows of each noise and of all noises together, and marks the best values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.records.run import MetricRecord
from benchbox.report.board import Block, Complement, Mismatch, Row, Step, Summary, SummaryRow
from benchbox.stats.ranking import Comparison, Ranking, rank_rows, rank_tables
from benchbox.stats.summaries import Mean, Scenes, by_scene, complements, mean_of, oracle, pareto_front

Values = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]

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
    plans = [_plan(block, metrics[sort], within_ms, rank_contaminated) for block in blocks]
    # Scenes are what is tested; means are those of the images, as the table shows them.
    rankings = iter(rank_tables([by_scene(plan.signed, plan.scenes) for plan in plans if plan.compared]))
    return tuple(_ranked(plan, next(rankings) if plan.compared else None, metrics) for plan in plans)


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
    # An image counts if any row has a score on it; a row that lacks one there is not ranked, see `_why_not`.
    valued = np.any([np.isfinite(scores) for scores in scored.values()], axis=0) if scored else np.zeros(0, bool)
    reasons = {
        row.denoiser: _why_not(row, scored.get(row.denoiser), valued, sort, within_ms, rank_contaminated)
        for row in block.rows
    }
    unranked = tuple(row if row.reason else replace(row, reason=reasons[row.denoiser]) for row in block.rows)
    compared = tuple(row for row in completed if not reasons[row.denoiser])
    columns = [sort.sign * scored[row.denoiser][valued] for row in compared]
    signed = np.column_stack(columns) if columns else np.empty((0, 0))
    ordered = sorted(
        (row for row in unranked if reasons[row.denoiser]), key=lambda row: _unranked_order(row, sort.spec, sort.sign)
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


def _ranked(plan: _Plan, ranking: Ranking | None, metrics: Mapping[str, MetricRecord]) -> Block:
    sign = plan.sort.sign
    names = [row.denoiser for row in plan.compared]
    scenes = 0 if plan.scenes is None else len(np.unique(plan.scenes))
    block = Block(plan.block.noise, plan.block.spec, plan.block.noisy_psnr, (), len(plan.signed), scenes)
    ordered = []
    if ranking is not None:
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
    """Mark the best values; the floor is excluded from speed because doing nothing always wins.

    If rows were timed on different machines, their speeds are not comparable, and none of them is best.
    """
    fewest = {label: min((row.scores[label].undefined for row in rows), default=0) for label in metrics}
    values = {
        label: {
            row.denoiser: metric.sign * row.scores[label].mean
            for row in rows
            # Means over different numbers of images are not comparable.
            if row.scores[label].undefined == fewest[label] and not math.isnan(row.scores[label].mean)
        }
        for label, metric in metrics.items()
    }
    timed = [row for row in rows if row.speed is not None and not row.is_floor]
    if len({row.speed.machine for row in timed if row.speed is not None}) > 1:
        timed = []
    for column, higher in SPEED_COLUMNS.items():
        values[column] = {row.denoiser: (1 if higher else -1) * float(getattr(row.speed, column)) for row in timed}
    values["latency_normalised"] = {
        row.denoiser: -row.latency_normalised for row in rows if row.latency_normalised is not None and not row.is_floor
    }
    best = {
        column: max((value for value in by_row.values() if not math.isnan(value)), default=math.nan)
        for column, by_row in values.items()
    }
    front = pareto_front(
        [sort.sign * row.scores[sort.spec].mean for row in timed],
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


def mismatch_curves(
    true: Mapping[str, Columns], wrong: Sequence[tuple[str, float, Columns]], metric: MetricRecord
) -> tuple[Mismatch, ...]:
    """Mean score at each wrong noise level, and the average loss.

    `true` has the scores by denoiser at the true level, `wrong` has (denoiser, factor, scores), with empty scores for
    incomplete cells. Only denoisers that completed every factor are returned, the most robust first.
    """
    curves = []
    for denoiser, columns in true.items():
        by_factor = {factor: scores for name, factor, scores in wrong if name == denoiser}
        by_factor[1.0] = columns
        levels = columns.get("sigma_true", np.zeros(1))
        if len(by_factor) == 1 or not all(by_factor.values()) or np.isnan(levels).all():
            continue
        factors = sorted(by_factor)
        means = np.array([mean_of(by_factor[factor][metric.spec]).mean for factor in factors])
        lost = metric.sign * (means[factors.index(1.0)] - means)
        # Over octaves, a level that is half the true one weighs as much as one that is twice as high.
        octaves = np.log2(factors)
        loss = float(np.trapezoid(lost, octaves) / (octaves[-1] - octaves[0]))
        curves.append(Mismatch(denoiser, tuple(factors), tuple(float(mean) for mean in means), loss))
    return tuple(sorted(curves, key=lambda curve: curve.loss))


def summarise(
    blocks: Sequence[Block],
    scores: Mapping[str, Mapping[str, Columns]],
    sort: MetricRecord,
    scenes: Scenes | None = None,
) -> Summary | None:
    """Rank denoisers by their mean over several noises; None if fewer than two noises have a ranked row.

    An image is scored by its mean over the noises, so images remain the unit of every test, and neither the order nor
    the mean of two rows depends on the other rows. `scores` is keyed by noise and denoiser; `scenes` are those of the
    images.
    """
    blocks = [block for block in blocks if any(row.rank is not None for row in block.rows)]
    if len(blocks) < 2:
        return None
    sign = sort.sign
    completed: dict[str, list[tuple[Block, Row]]] = {}
    for block in blocks:
        for row in block.rows:
            completed.setdefault(row.denoiser, [])
            if row.status == "ok" and not np.isnan(row.scores[sort.spec].mean):
                completed[row.denoiser].append((block, row))
    rows = {denoiser: _summary_row(denoiser, cells, sort.spec, sort.sign) for denoiser, cells in completed.items()}
    names = [name for name, cells in completed.items() if sum(row.rank is not None for _, row in cells) == len(blocks)]
    columns = [np.mean([scores[block.noise][name][sort.spec] for block in blocks], axis=0) for name in names]
    # If a ranked row has no value on an image, no row of that noise has one.
    table = np.column_stack(columns) if columns else np.empty((0, 0))
    valued = np.isfinite(table).all(axis=1)
    table = table[valued]
    own = scenes[valued] if scenes is not None and names else None
    ranked = []
    if names:
        ranking = rank_rows(by_scene(sign * table, own))
        for place, (column, (best, worst)) in enumerate(zip(ranking.order, ranking.ranks, strict=True), start=1):
            ranks = (best, worst) if ranking.tested else (place, None)
            mean = float(table[:, column].mean())
            ranked.append(replace(rows[names[column]], rank=ranks[0], rank_to=ranks[1], mean=mean))
        ranked = [replace(row, best=_best_of(row, ranked, sign)) for row in ranked]
    rest = [row for denoiser, row in rows.items() if denoiser not in names]
    return Summary(
        tuple(block.noise for block in blocks), (*ranked, *rest), len(table), 0 if own is None else len(np.unique(own))
    )


def _summary_row(denoiser: str, cells: Sequence[tuple[Block, Row]], sort: str, sign: float) -> SummaryRow:
    """Summarise the noises that a denoiser completed."""
    mean = float(np.mean([row.scores[sort].mean for _, row in cells])) if cells else np.nan
    ranked = [(block, row) for block, row in cells if row.rank is not None]
    behind = [(sign * row.to_best.difference if row.to_best else 0.0, block.noise) for block, row in ranked]
    worst, noise = min(behind, default=(np.nan, ""))
    return SummaryRow(
        rank=None,
        rank_to=None,
        denoiser=denoiser,
        mean=mean,
        wins=sum(row.rank == 1 for _, row in ranked),
        worst_noise=noise if worst < 0 else "",
        worst_difference=sign * worst,
        completed=len(cells),
    )


def _best_of(row: SummaryRow, rows: Sequence[SummaryRow], sign: float) -> tuple[str, ...]:
    marks = {
        "mean": row.mean == max((other.mean for other in rows), key=lambda mean: sign * mean),
        "wins": row.wins == max(other.wins for other in rows),
        "worst": sign * row.worst_difference == max(sign * other.worst_difference for other in rows),
    }
    return tuple(key for key, is_best in marks.items() if is_best) if len(rows) > 1 else ()
