"""Columns of the tables about a run, and the text of their cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.records.run import MetricRecord
from benchbox.report.board import Leaderboard, Mismatch, Row, Summary, SummaryRow
from benchbox.report.recognition import Recognised, Recognition, percent, shares_of
from benchbox.report.words import (
    CONTAMINATED,
    NONE,
    device_of,
    has_normalised,
    rank_range,
    score,
    three_digits,
    timing_machines,
)


class Marked(Protocol):
    """A table row that knows the columns in which it is best."""

    @property
    def best(self) -> tuple[str, ...]:
        """Keys of the columns to mark."""


R = TypeVar("R", bound=Marked)


@dataclass(frozen=True)
class Column(Generic[R]):
    """A column of a table.

    Attributes
    ----------
    key : str
        Used in `best` of a row.
    cell : callable
        Returns the text of a row, unescaped.
    keep : int
        Narrow tables drop columns with higher numbers first; 0 is never dropped.
    text : bool
        Whether to align it left.
    """

    key: str
    title: str
    unit: str
    cell: Callable[[R], str]
    keep: int = 0
    text: bool = False


def columns_of(board: Leaderboard) -> tuple[Column[Row], ...]:
    """All columns of a block, in the order of the table."""
    columns: list[Column[Row]] = [
        Column("rank", "#", "", lambda row: rank_range(row) + (CONTAMINATED if row.contamination and row.rank else "")),
        Column("denoiser", "denoiser", "", lambda row: row.denoiser, text=True),
    ]
    # The metric that ranks always stays; narrow tables drop a third one before speed, and the second one last.
    shown = [metric.spec for metric in board.metrics if metric.shown and metric.spec != board.sort]
    for metric in board.metrics:
        keep = 0 if metric.spec == board.sort else min(1 + 4 * shown.index(metric.spec), 9) if metric.shown else 20
        columns.append(Column(metric.spec, metric.title, metric.unit, _score_cell(metric), keep))
        if metric.spec == board.sort:
            columns += _significance_columns(board, metric)
    normalised: list[Column[Row]] = []
    if has_normalised(board):
        normalised.append(Column("latency_normalised", "p50 normalised", "", _normalised_cell, 26))
    if board.timing:
        columns += [
            _speed_column("latency_p50_ms", "latency", "ms", 2),
            *normalised,
            _speed_column("latency_p90_ms", "p90", "ms", 21),
            _speed_column("latency_p99_ms", "p99", "ms", 22),
            Column("latency_p50_within", "p50 ±", "%", _within_cell, 25),
            _speed_column("throughput", "images/s", "", 3),
            _speed_column("cold_start_s", "cold start", "s", 23),
            _speed_column("peak_mb", "memory", "MiB", 24),
            Column("threads", "threads", "", lambda row: str(row.speed.threads) if row.speed else NONE, 25),
        ]
        if len(timing_machines(row for block in board.blocks for row in block.rows)) > 1:
            columns.append(Column("machine", "timed on", "", _machine_cell, 27, text=True))
    else:
        columns += normalised
    columns.append(Column("noise_level", "sigma", "", lambda row: row.noise_level or NONE, 2, text=True))
    if board.header.colour:
        columns.append(Column("channels", "colour", "", lambda row: row.channels, 2, text=True))
    rows = [row for block in board.blocks for row in block.rows]
    columns += _network_columns(rows)
    if any(row.trained_on for row in rows):
        columns.append(Column("trained_on", "trained on", "", lambda row: row.trained_on or NONE, 6, text=True))
    if any(row.tuned_on for row in rows):
        columns.append(Column("tuned_on", "tuned on", "", lambda row: row.tuned_on or NONE, 11, text=True))
    if not board.columns:
        return tuple(columns)
    known = {column.key: column for column in columns}
    if unknown := next((key for key in board.columns if key not in known), ""):
        raise BenchboxError(f"there is no column '{unknown}' in this leaderboard", hint=did_you_mean(unknown, known))
    keys = dict.fromkeys(("rank", "denoiser", *board.columns))
    return tuple(replace(known[key], keep=0) for key in keys)


NETWORK_COLUMNS = "parameters", "macs_per_pixel", "activations_per_pixel", "device"


def _network_columns(rows: Sequence[Row]) -> list[Column[Row]]:
    """What networks cost besides time, where any row says so; and the device, where any is not the processor."""

    def number(key: str) -> Callable[[Row], str]:
        def cell(row: Row) -> str:
            value = getattr(row.details, key, 0)
            return NONE if not value else f"{value:,}" if isinstance(value, int) else three_digits(value)

        return cell

    titles = "parameters", "MAC/pixel", "activations/pixel"
    columns: list[Column[Row]] = [
        Column(key, title, "", number(key), place)
        for place, (key, title) in enumerate(zip(NETWORK_COLUMNS[:3], titles, strict=True), 27)
        if any(getattr(row.details, key, 0) for row in rows)
    ]
    if any(row.details and row.details.device for row in rows):
        columns.append(Column("device", "device", "", device_of, 2, text=True))
        columns.append(Column("device_peak_mb", "device memory", "MiB", number("device_peak_mb"), 24))
    return columns


def main_columns(columns: Sequence[Column[R]], most: int = 8) -> tuple[Column[R], ...]:
    """The most important columns, in the order of the table."""
    kept = sorted(columns, key=lambda column: column.keep)[:most]
    return tuple(column for column in columns if column in kept)


def summary_columns(board: Leaderboard, summary: Summary) -> tuple[Column[SummaryRow], ...]:
    """Columns of the summary over all noises."""
    metric = board.sort_metric
    total = len(summary.noises)

    def worst(row: SummaryRow) -> str:
        behind = score(row.worst_difference, metric, signed=True)
        return f"{behind} {row.worst_noise}" if row.worst_noise else behind

    return (
        Column("rank", "#", "", rank_range),
        Column("denoiser", "denoiser", "", lambda row: row.denoiser, text=True),
        Column("mean", f"mean {metric.title}", metric.unit, lambda row: score(row.mean, metric)),
        Column("wins", "wins", "", lambda row: str(row.wins), 1),
        Column("completed", "completed", "", lambda row: f"{row.completed}/{total}", 2),
        Column("worst", "worst Δ to best", metric.unit, worst, 3, text=True),
    )


def mismatch_columns(board: Leaderboard, curves: Sequence[Mismatch]) -> tuple[Column[Mismatch], ...]:
    """Columns of the wrong-level table: one for each factor applied to the given noise level."""
    metric = board.sort_metric

    def mean(factor: float) -> Callable[[Mismatch], str]:
        return lambda curve: score(dict(zip(curve.factors, curve.means, strict=True)).get(factor), metric)

    return (
        Column("denoiser", "denoiser", "", lambda curve: curve.denoiser, text=True),
        *(
            Column(f"given {factor:g}", f"{factor:g} sigma", metric.unit, mean(factor))
            for factor in sorted({factor for curve in curves for factor in curve.factors})
        ),
        Column("loss", "mean loss", metric.unit, lambda curve: score(curve.loss, metric)),
    )


def _normalised_cell(row: Row) -> str:
    return NONE if row.latency_normalised is None else three_digits(row.latency_normalised)


def _score_cell(metric: MetricRecord) -> Callable[[Row], str]:
    return lambda row: score(row.scores[metric.spec].mean, metric) if row.scores else NONE


def _significance_columns(board: Leaderboard, metric: MetricRecord) -> list[Column[Row]]:
    rows = [row for block in board.blocks for row in block.rows]

    def interval(row: Row) -> str:
        mean = row.scores.get(metric.spec)
        if mean is None or math.isnan(mean.low):
            return NONE
        # The longer half: the interval of skewed scores is not symmetric.
        return f"±{score(max(mean.mean - mean.low, mean.high - mean.mean), metric)}"

    def to_best(row: Row) -> str:
        if row.to_best is None or row.to_best.low == row.to_best.high == 0:
            return NONE
        if math.isnan(row.to_best.low):
            return score(row.to_best.difference, metric, signed=True)
        low, high = (score(value, metric, signed=True) for value in (row.to_best.low, row.to_best.high))
        return f"{score(row.to_best.difference, metric, signed=True)} ({low} to {high})"

    columns = [Column("to_best", "Δ to best", metric.unit, to_best, 4)]
    if any(not math.isnan(row.scores[metric.spec].low) for row in rows if row.scores):
        columns.insert(0, Column("interval", "95 %", metric.unit, interval, 1))
    return columns


def _machine_cell(row: Row) -> str:
    return row.speed.machine if row.speed else NONE


def _within_cell(row: Row) -> str:
    known = row.speed is not None and not math.isnan(row.speed.latency_p50_within)
    return f"{100 * row.speed.latency_p50_within:.2g}" if row.speed and known else NONE


def _speed_column(key: str, title: str, unit: str, keep: int) -> Column[Row]:
    def cell(row: Row) -> str:
        return three_digits(float(getattr(row.speed, key))) if row.speed else NONE

    return Column(key, title, unit, cell, keep)


def recognition_columns(recognition: Recognition) -> tuple[Column[Recognised], ...]:
    """Columns of what a classifier recognises: classes kept, classes right, and one column for each class."""

    def cell(key: str) -> Callable[[Recognised], str]:
        return lambda row: percent(shares_of(row)[key])

    right = [Column("right", "right", "", cell("right"), 1)] if recognition.label else []
    counted = zip(recognition.classes, recognition.images, strict=True)
    return (
        Column("denoiser", "denoiser", "", lambda row: row.denoiser + _ROLES.get(row.role, ""), text=True),
        Column("kept", "kept", "", cell("kept")),
        *right,
        *(
            Column(f"class_{place}", f"{name} ({n:,})", "", cell(f"class_{place}"), 2)
            for place, (name, n) in enumerate(counted)
        ),
    )


_ROLES = {"ceiling": " (ceiling)", "floor": " (noisy, floor)"}


MISMATCH_TITLE = "Given a wrong noise level"
"""Title of the table of `mismatch_columns`."""
