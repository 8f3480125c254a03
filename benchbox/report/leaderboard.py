"""From the stored scores and samples of a run to its leaderboard; measures nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.api.records import Cell, DenoiserRecord, Outcome, RunRecord, Timing
from benchbox.report.model import Block, Header, Leaderboard, MetricColumn, Row, Speed
from benchbox.stats.summaries import Mean, latency_of, mean_of
from benchbox.store import RunStore

FLOOR = "identity"
SPEED_COLUMNS = {
    "latency_p50_ms": False,
    "latency_p90_ms": False,
    "latency_p99_ms": False,
    "throughput": True,
    "cold_start_s": False,
    "peak_mb": False,
}


def build_leaderboard(store: RunStore, *, sort: str = "psnr") -> Leaderboard:
    """Rank the rows of a run.

    Parameters
    ----------
    store : RunStore
    sort : str
        Metric that ranks, by its canonical specification or, where only one of the run has it, by its name.

    Returns
    -------
    Leaderboard

    Raises
    ------
    BenchboxError
        The run has no such metric, or a file of it is damaged.
    """
    record = store.record
    metrics = tuple(
        MetricColumn(label, one.unit, one.higher_is_better, one.summary) for label, one in record.metrics.items()
    )
    sort = _sort_metric(sort, record)
    outcomes, timings = store.outcomes(), store.timings()
    denoisers = {one.label: one for one in record.denoisers}
    blocks = []
    for noise in record.noises:
        cells = [cell for cell in record.cells if cell.noise == noise]
        scores = {cell.denoiser: _checked_scores(store, cell, outcomes) for cell in cells}
        rows = [
            _row(record, denoisers[cell.denoiser], cell, outcomes.get(cell.key), scores[cell.denoiser], timings)
            for cell in cells
        ]
        blocks.append(Block(noise, _noisy_psnr(scores), _ranked(rows, metrics, sort)))
    return Leaderboard(_header(record, timings), metrics, sort, record.timing and bool(timings), tuple(blocks))


def is_floor(denoiser: str) -> bool:
    """Whether a row is the one that does nothing."""
    return denoiser.partition(":")[0] == FLOOR


def _sort_metric(sort: str, record: RunRecord) -> str:
    if sort in record.metrics:
        return sort
    named = [label for label in record.metrics if label.partition(":")[0] == sort]
    if len(named) == 1:
        return named[0]
    raise BenchboxError(f"run {record.run_id} has no metric '{sort}'", hint=did_you_mean(sort, record.metrics))


def _checked_scores(store: RunStore, cell: Cell, outcomes: Mapping[str, Outcome]) -> dict[str, NDArray[Any]]:
    """Scores of a cell that ended well and has one row for every image; nothing otherwise."""
    outcome = outcomes.get(cell.key)
    if outcome is None or outcome.status != "ok":
        return {}
    scores = store.scores(cell.key)
    complete = scores and np.array_equal(scores["image"], np.arange(store.record.data.images))
    return scores if complete and all(label in scores for label in store.record.metrics) else {}


def _row(
    record: RunRecord,
    denoiser: DenoiserRecord,
    cell: Cell,
    outcome: Outcome | None,
    scores: Mapping[str, NDArray[Any]],
    timings: Mapping[str, Timing],
) -> Row:
    status: str
    if outcome is None and cell.skipped:
        status, reason = "skipped", cell.skipped
    elif outcome is None:
        status, reason = "unfinished", "the run ended before this row was done"
    elif outcome.status == "ok" and not scores:
        status, reason = "incomplete", f"there are not {record.data.images} scored images on disk"
    else:
        status, reason = outcome.status, outcome.reason
    timing = timings.get(denoiser.label)
    speed = _speed(timing) if timing is not None and timing.status == "ok" else None
    return Row(
        rank=None,
        denoiser=denoiser.label,
        status=status,
        reason=reason,
        scores={label: mean_of(scores[label]) for label in record.metrics} if scores else {},
        speed=speed,
        speed_status=timing.status if timing else "",
        speed_reason=timing.reason if timing else "",
        knew=outcome.knew if outcome else "",
        trained_on=outcome.trained_on if outcome else "",
        tuned_on=denoiser.tuned_on,
    )


def _speed(timing: Timing) -> Speed | None:
    single, batch = timing.samples_ms.get(1), timing.samples_ms.get(timing.batch)
    if not single or not batch:
        return None
    latency = latency_of(single)
    return Speed(
        latency_p50_ms=latency.p50,
        latency_p90_ms=latency.p90,
        latency_p99_ms=latency.p99,
        samples=latency.samples,
        throughput=1000 * timing.batch / latency_of(batch).p50,
        batch=timing.batch,
        cold_start_s=timing.cold_start_s,
        peak_mb=timing.peak_mb,
        threads=timing.threads_used,
    )


def _noisy_psnr(scores: Mapping[str, Mapping[str, NDArray[Any]]]) -> Mean | None:
    """PSNR of the noisy images themselves: any row knows it, for all rows got the same images."""
    for columns in scores.values():
        if "noisy_mse" in columns:
            with np.errstate(divide="ignore"):
                return mean_of(-10 * np.log10(columns["noisy_mse"].astype(np.float64)))
    return None


def _ranked(rows: list[Row], metrics: tuple[MetricColumn, ...], sort: str) -> tuple[Row, ...]:
    """Rank by the mean, best first; rows without one keep their order behind."""
    sign = {metric.label: 1.0 if metric.higher_is_better else -1.0 for metric in metrics}
    fit = [row for row in rows if row.status == "ok" and not math.isnan(row.scores[sort].mean)]
    fit.sort(key=lambda row: (-sign[sort] * row.scores[sort].mean, row.denoiser))
    best = _best(fit, sign)
    ranked = [
        replace(row, rank=position, best=tuple(key for key, labels in best.items() if row.denoiser in labels))
        for position, row in enumerate(fit, start=1)
    ]
    return (*ranked, *(row for row in rows if row not in fit))


def _best(rows: list[Row], sign: Mapping[str, float]) -> dict[str, set[str]]:
    """Denoisers that no other beats, by column. The floor takes no part in speed: nothing is faster than nothing."""
    values: dict[str, dict[str, float]] = {
        label: {row.denoiser: sign[label] * row.scores[label].mean for row in rows} for label in sign
    }
    for column, higher in SPEED_COLUMNS.items():
        values[column] = {
            row.denoiser: (1 if higher else -1) * float(getattr(row.speed, column))
            for row in rows
            if row.speed is not None and not is_floor(row.denoiser)
        }
    best = {}
    for column, by_denoiser in values.items():
        top = max((value for value in by_denoiser.values() if not math.isnan(value)), default=math.nan)
        best[column] = {denoiser for denoiser, value in by_denoiser.items() if value == top} if len(rows) > 1 else set()
    return best


def _header(record: RunRecord, timings: Mapping[str, Timing]) -> Header:
    environment = record.environment
    parts = (
        str(environment.get("cpu", "")),
        f"{environment['cores']} cores" if "cores" in environment else "",
        f"{environment['memory_gb']} GiB" if "memory_gb" in environment else "",
        str(environment.get("system", "")),
    )
    versions = {"python": str(environment["python"])} if "python" in environment else {}
    versions |= {str(name): str(version) for name, version in environment.get("versions", {}).items()}
    load = environment.get("load")
    return Header(
        run_id=record.run_id,
        created=record.created,
        command=record.command,
        format=record.format,
        dataset=record.data.dataset,
        split=record.data.split,
        sizes=record.data.sizes,
        fingerprint=record.data.fingerprint,
        images=record.data.images,
        notes=record.data.notes,
        protocol=record.protocol.label,
        seed=record.protocol.seed,
        machine=", ".join(part for part in parts if part),
        versions=versions,
        load=float(load) if isinstance(load, int | float) else None,
        timing=_timing_words(timings),
    )


def _timing_words(timings: Mapping[str, Timing]) -> str:
    for timing in timings.values():
        if timing.status == "ok":
            threads = f"{timing.threads} thread{'s' if timing.threads != 1 else ''}"
            size = f"{timing.shape[0]}x{timing.shape[1]}"
            return f"each alone in a fresh process, {threads}, {size} images of {timing.noise}, batch {timing.batch}"
    return ""
