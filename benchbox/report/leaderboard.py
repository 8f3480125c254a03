"""From the stored scores and samples of a run to its leaderboard; measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.api.records import Cell, Outcome, RunRecord
from benchbox.report.advice import advise
from benchbox.report.leaks import advise_on_leaks
from benchbox.report.mismatch import mismatch_curves
from benchbox.report.model import Leaderboard, MetricColumn
from benchbox.report.ranked import Unranked, rank_blocks
from benchbox.report.rows import make_header, make_row, normalised_latency
from benchbox.report.summary import summarise
from benchbox.stats.summaries import Mean, average_repeats, mean_of
from benchbox.store import IMAGE, RunStore


def build_leaderboard(
    store: RunStore, *, sort: str = "", within_ms: float | None = None, rank_leaky: bool = False
) -> Leaderboard:
    """Rank the rows of a run.

    Parameters
    ----------
    store : RunStore
    sort : str
        Metric that ranks, by its canonical specification or, where only one of the run has it, by its name; empty for
        PSNR or, in a run without it, the first metric.
    within_ms : float, optional
        Largest p50 latency of one image, in milliseconds, that is ranked; None for any.
    rank_leaky : bool
        Whether a row is ranked although it has seen some of the images that it is scored on.

    Returns
    -------
    Leaderboard

    Raises
    ------
    BenchboxError
        The run has no such metric, `within_ms` is given but nothing was timed, or a file of the run is damaged.
    """
    record = store.record
    metrics = {
        label: MetricColumn(label, one.unit, one.higher_is_better, one.summary) for label, one in record.metrics.items()
    }
    sort = _sort_metric(sort, record)
    outcomes, timings = store.outcomes(), store.timings()
    all_timings = store.timings(of_unlike_machines=True)
    if within_ms is not None and not timings:
        raise BenchboxError(
            f"run {record.run_id} has no timing to hold to {within_ms:g} ms", hint="run again without --no-timing"
        )
    denoisers = {one.label: one for one in record.denoisers}
    blocks, curves = [], []
    for noise in record.noises:
        cells = [cell for cell in record.cells if cell.noise == noise and cell.sigma_factor == 1]
        scores = {cell.denoiser: _checked_scores(store, cell, outcomes) for cell in cells}
        rows = [
            replace(
                make_row(
                    record, denoisers[cell.denoiser], cell, outcomes.get(cell.key), scores[cell.denoiser], timings
                ),
                latency_normalised=normalised_latency(all_timings.get(cell.denoiser)),
            )
            for cell in cells
        ]
        wrong = [cell for cell in record.cells if cell.noise == noise and cell.sigma_factor != 1]
        told = {cell: _checked_scores(store, cell, outcomes) for cell in wrong}
        curves.append(mismatch_curves(scores, told, metrics[sort]))
        blocks.append(Unranked(noise, _noisy_psnr(scores), tuple(rows), scores))
    ranked = tuple(
        replace(block, mismatch=mismatch, oracle_wiener=_oracle_wiener(store, block.noise, sort))
        for block, mismatch in zip(rank_blocks(blocks, metrics, sort, within_ms, rank_leaky), curves, strict=True)
    )
    return Leaderboard(
        header=make_header(record, timings),
        metrics=tuple(metrics.values()),
        sort=sort,
        timing=record.timing and bool(timings),
        blocks=ranked,
        summary=summarise(ranked, metrics[sort]),
        within_ms=within_ms,
        advice=(*(() if rank_leaky else advise_on_leaks(record, outcomes)), *advise(record, blocks, timings)),
    )


def _sort_metric(sort: str, record: RunRecord) -> str:
    if sort in record.metrics:
        return sort
    if not sort:
        return "psnr" if "psnr" in record.metrics else next(iter(record.metrics))
    named = [label for label in record.metrics if label.partition(":")[0] == sort]
    if len(named) == 1:
        return named[0]
    raise BenchboxError(f"run {record.run_id} has no metric '{sort}'", hint=did_you_mean(sort, record.metrics))


def _checked_scores(store: RunStore, cell: Cell, outcomes: Mapping[str, Outcome]) -> dict[str, NDArray[Any]]:
    """One row an image for a cell that ended well and has all of them; nothing otherwise."""
    outcome = outcomes.get(cell.key)
    if outcome is None or outcome.status != "ok":
        return {}
    scores = store.scores(cell.key)
    repeats = store.record.protocol.repeats
    complete = scores and np.array_equal(scores[IMAGE], np.repeat(np.arange(store.record.data.images), repeats))
    if not complete or any(label not in scores for label in store.record.metrics):
        return {}
    return average_repeats(scores, repeats)


def _oracle_wiener(store: RunStore, noise: str, sort: str) -> float | None:
    """Mean of the oracle Wiener filter over all images; None where it is not defined or was not computed."""
    columns = store.ceiling(noise)
    repeats = store.record.protocol.repeats
    if len(columns.get(sort, ())) != store.record.data.images * repeats:
        return None
    return mean_of(average_repeats(columns, repeats)[sort].astype(np.float64)).mean


def _noisy_psnr(scores: Mapping[str, Mapping[str, NDArray[Any]]]) -> Mean | None:
    """PSNR of the noisy images themselves: any row knows it, for all rows got the same images."""
    for columns in scores.values():
        if "noisy_mse" in columns:
            with np.errstate(divide="ignore"):
                return mean_of(-10 * np.log10(columns["noisy_mse"].astype(np.float64)))
    return None
