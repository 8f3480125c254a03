"""Builds a leaderboard from the stored scores and samples of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.records.run import Cell, MetricRecord, Outcome, RunRecord, Timing
from benchbox.report.advice import advise
from benchbox.report.board import Block, Leaderboard, Mismatch, Row, Summary, SummaryRow
from benchbox.report.ranked import Unranked, rank_blocks
from benchbox.report.recognition import recognitions
from benchbox.report.rows import (
    advise_on_contamination,
    image_scores,
    make_header,
    make_row,
    normalised_latency,
    scenes_of,
    speed_of,
)
from benchbox.stats.ranking import rank_rows
from benchbox.stats.scenes import Scenes, by_scene
from benchbox.stats.summaries import Mean, average_repeats, counted, mean_of
from benchbox.store import IMAGE, RunStore, class_columns

Columns = Mapping[str, NDArray[Any]]


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
        sign = 1.0 if metric.higher_is_better else -1.0
        lost = sign * (means[factors.index(1.0)] - means)
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
    sign = 1.0 if sort.higher_is_better else -1.0
    completed: dict[str, list[tuple[Block, Row]]] = {}
    for block in blocks:
        for row in block.rows:
            completed.setdefault(row.denoiser, [])
            if row.status == "ok" and not np.isnan(row.scores[sort.spec].mean):
                completed[row.denoiser].append((block, row))
    rows = {denoiser: _row(denoiser, cells, sort.spec, sign) for denoiser, cells in completed.items()}
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
        ranked = [replace(row, best=_best(row, ranked, sign)) for row in ranked]
    rest = [row for denoiser, row in rows.items() if denoiser not in names]
    return Summary(
        tuple(block.noise for block in blocks), (*ranked, *rest), len(table), 0 if own is None else len(np.unique(own))
    )


def _row(denoiser: str, cells: Sequence[tuple[Block, Row]], sort: str, sign: float) -> SummaryRow:
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


def _best(row: SummaryRow, rows: Sequence[SummaryRow], sign: float) -> tuple[str, ...]:
    marks = {
        "mean": row.mean == max((other.mean for other in rows), key=lambda mean: sign * mean),
        "wins": row.wins == max(other.wins for other in rows),
        "worst": sign * row.worst_difference == max(sign * other.worst_difference for other in rows),
    }
    return tuple(key for key, is_best in marks.items() if is_best) if len(rows) > 1 else ()


def build_leaderboard(
    store: RunStore, *, sort: str = "", within_ms: float | None = None, columns: Sequence[str] = ()
) -> Leaderboard:
    """Rank the rows of a run.

    `sort` is the metric that ranks (canonical or by name; empty means PSNR, else the first metric). `within_ms`
    limits the p50 latency of ranked rows, `columns` are the keys of those to show. A run that keeps duplicates also
    ranks rows that overlap their training data. Raises `BenchboxError` for an unknown metric, a latency limit without
    timing, or a damaged run.
    """
    record = store.record
    keep = record.options.keep_duplicates
    metrics = {metric.spec: metric for metric in record.metrics}
    sort = sort_metric(sort, record)
    outcomes, timings = store.outcomes(), store.timings()
    all_timings = store.timings(include_unlike_machines=True)
    if within_ms is not None and not timings:
        raise BenchboxError(
            f"run {record.run_id} has no timing, so it cannot be limited to {within_ms:g} ms",
            hint="run again without --no-timing",
        )
    denoisers = {denoiser.spec: denoiser for denoiser in record.denoisers}
    scenes = scenes_of(store)
    blocks, curves = [], []
    for noise in record.noises:
        cells = [cell for cell in record.cells if cell.noise == noise.spec and cell.sigma_factor == 1]
        scores = {denoisers[cell.denoiser].label: _checked_scores(store, cell, outcomes) for cell in cells}
        rows = [
            replace(
                make_row(
                    record,
                    denoisers[cell.denoiser],
                    cell,
                    outcomes.get(cell.key),
                    scores[denoisers[cell.denoiser].label],
                    timings,
                    scenes,
                ),
                latency_normalised=normalised_latency(all_timings.get(cell.denoiser)),
            )
            for cell in cells
        ]
        wrong = [cell for cell in record.cells if cell.noise == noise.spec and cell.sigma_factor != 1]
        wrong_scores = [
            (denoisers[cell.denoiser].label, cell.sigma_factor, _checked_scores(store, cell, outcomes))
            for cell in wrong
        ]
        curves.append(mismatch_curves(scores, wrong_scores, metrics[sort]))
        blocks.append(Unranked(noise.label, noise.spec, _noisy_psnr(scores), tuple(rows), scores, scenes))
    asked = {class_columns(metric)[1] for metric in metrics}
    judged = any(asked & columns.keys() for block in blocks for columns in block.scores.values())
    images = store.images() if judged else {}
    ranked = tuple(
        replace(
            block,
            mismatch=mismatch,
            oracle_wiener=_oracle_wiener(store, block.spec, sort),
            level_title=noise.level_title,
            recognition=recognitions(record, scored.scores, images, scenes) if judged else (),
        )
        for block, scored, mismatch, noise in zip(
            rank_blocks(blocks, metrics, sort, within_ms, keep), blocks, curves, record.noises, strict=True
        )
    )
    return Leaderboard(
        header=make_header(record, timings, store.machines()),
        metrics=tuple(metrics.values()),
        sort=sort,
        timing=record.options.timing and bool(timings),
        blocks=ranked,
        summary=summarise(ranked, {block.noise: block.scores for block in blocks}, metrics[sort], scenes),
        within_ms=within_ms,
        advice=(
            *(() if keep else advise_on_contamination(record, outcomes)),
            *advise(record, blocks, timings),
        ),
        columns=tuple(columns),
    )


def with_timing(board: Leaderboard, spec: str, timing: Timing) -> Leaderboard:
    """A leaderboard with the latencies of one more denoiser; marks of columns and the notes stay as they were."""
    speed = speed_of(timing) if timing.status == "ok" else None

    def timed(row: Row) -> Row:
        if row.spec != spec:
            return row
        return replace(row, speed=speed, speed_status=timing.status, speed_reason=timing.reason)

    blocks = tuple(replace(block, rows=tuple(map(timed, block.rows))) for block in board.blocks)
    return replace(board, timing=True, blocks=blocks)


def sort_metric(sort: str, record: RunRecord) -> str:
    """Canonical specification of the metric to rank by; raises `BenchboxError` if the run does not compute it."""
    if not sort:
        return record.main_metric.spec
    exact = [metric.spec for metric in record.metrics if sort in (metric.spec, metric.label)]
    named = exact or [metric.spec for metric in record.metrics if metric.spec.partition(":")[0] == sort]
    if len(named) == 1:
        return named[0]
    known = [metric.label for metric in record.metrics]
    raise BenchboxError(f"--sort {sort}: the run does not compute metric '{sort}'", hint=did_you_mean(sort, known))


def _checked_scores(store: RunStore, cell: Cell, outcomes: Mapping[str, Outcome]) -> dict[str, NDArray[Any]]:
    """Scores of a cell, one per image; empty unless it is complete."""
    outcome = outcomes.get(cell.key)
    if outcome is None or outcome.status != "ok":
        return {}
    scores = store.scores(cell.key)
    images = np.repeat(np.arange(store.record.data.images), store.record.protocol.repeats)
    complete = scores and np.array_equal(scores[IMAGE], images)
    if not complete or any(metric.spec not in scores for metric in store.record.metrics):
        return {}
    return image_scores(store, cell)


def _oracle_wiener(store: RunStore, noise: str, sort: str) -> float | None:
    """Mean of the oracle Wiener filter over all images; None if it is undefined or was not computed."""
    columns = store.ceiling(noise)
    repeats = store.record.protocol.repeats
    if len(columns.get(sort, ())) != store.record.data.images * repeats:
        return None
    unit = next(metric.unit for metric in store.record.metrics if metric.spec == sort)
    scores = counted(columns[sort], unit)
    return mean_of(average_repeats({sort: scores}, repeats)[sort]).mean


def _noisy_psnr(scores: Mapping[str, Mapping[str, NDArray[Any]]]) -> Mean | None:
    """PSNR of the noisy images, from any row, because all rows share them."""
    for columns in scores.values():
        if "noisy_mse" in columns:
            with np.errstate(divide="ignore"):
                noisy = mean_of(-10 * np.log10(columns["noisy_mse"].astype(np.float64)), "dB")
            return None if np.isnan(noisy.mean) else noisy
    return None
