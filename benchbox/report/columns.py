"""The columns of a leaderboard and of the tables beside it: one choice of words for terminal, markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from benchbox.report.findings import Mismatch, Summary, SummaryRow
from benchbox.report.model import Leaderboard, MetricColumn, Row
from benchbox.report.text import NONE, plain, score, three_digits


class Marked(Protocol):
    """What every row of a table has."""

    @property
    def best(self) -> tuple[str, ...]:
        """Keys of the columns in which it is marked."""


R = TypeVar("R", bound=Marked)


@dataclass(frozen=True)
class Column(Generic[R]):
    """A column of a table.

    Attributes
    ----------
    key : str
        The name that `best` of a row uses.
    title, unit : str
    cell : callable
        From a row to its text, in which nothing is escaped yet.
    keep : int
        Columns of a higher number leave a narrow table first; 0 never leaves.
    text : bool
        Whether it is set flush left.
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
        Column("rank", "#", "", lambda row: NONE if row.rank is None else str(row.rank)),
        Column("denoiser", "denoiser", "", lambda row: plain(row.denoiser), text=True),
    ]
    main = ("psnr", "ssim", "mse")
    for metric in board.metrics:
        name = metric.label.partition(":")[0]
        keep = 0 if metric.label == board.sort else 1 + main.index(name) if name in main else 20
        columns.append(Column(metric.label, metric_title(metric.label), metric.unit, _score_cell(metric), keep))
        if metric.label == board.sort:
            columns += _significance_columns(board, metric)
    normalised: list[Column[Row]] = []
    if has_normalised(board):
        normalised.append(Column("latency_normalised", "p50 normalised", "", _normalised_cell, 26))
    if board.timing:
        columns += [
            _speed_column("latency_p50_ms", "p50", "ms", 4),
            *normalised,
            _speed_column("latency_p90_ms", "p90", "ms", 21),
            _speed_column("latency_p99_ms", "p99", "ms", 22),
            _speed_column("throughput", "images/s", "", 5),
            _speed_column("cold_start_s", "cold start", "s", 23),
            _speed_column("peak_mb", "memory", "MiB", 24),
            Column("threads", "threads", "", lambda row: str(row.speed.threads) if row.speed else NONE, 25),
        ]
    else:
        columns += normalised
    columns.append(Column("knew", "sigma", "", lambda row: row.knew or NONE, 3, text=True))
    rows = [row for block in board.blocks for row in block.rows]
    if any(row.trained_on for row in rows):
        columns.append(Column("trained_on", "trained on", "", lambda row: plain(row.trained_on) or NONE, 6, text=True))
    if any(row.tuned_on for row in rows):
        columns.append(Column("tuned_on", "tuned on", "", lambda row: plain(row.tuned_on) or NONE, 11, text=True))
    return tuple(columns)


def has_normalised(board: Leaderboard) -> bool:
    """Whether a row has a latency that compares over machines."""
    return any(row.latency_normalised is not None for block in board.blocks for row in block.rows)


def summary_columns(board: Leaderboard, summary: Summary) -> tuple[Column[SummaryRow], ...]:
    """The columns of the table over all noises."""
    metric = board.sort_metric
    total = len(summary.noises)

    def worst(row: SummaryRow) -> str:
        behind = score(row.worst_difference, metric, signed=True)
        return f"{behind} {plain(row.worst_noise)}" if row.worst_noise else behind

    return (
        Column("rank", "#", "", lambda row: NONE if row.rank is None else str(row.rank)),
        Column("denoiser", "denoiser", "", lambda row: plain(row.denoiser), text=True),
        Column("mean_rank", "mean rank", "", lambda row: NONE if math.isnan(row.mean_rank) else f"{row.mean_rank:.2f}"),
        Column("mean", f"mean {metric_title(metric.label)}", metric.unit, lambda row: score(row.mean, metric)),
        Column("wins", "wins", "", lambda row: str(row.wins), 1),
        Column("completed", "done", "", lambda row: f"{row.completed}/{total}", 2),
        Column("worst", "furthest behind", metric.unit, worst, 3, text=True),
    )


def mismatch_columns(board: Leaderboard, curves: Sequence[Mismatch]) -> tuple[Column[Mismatch], ...]:
    """The columns of the table of what a wrong noise level costs, one for each factor that it was told by."""
    metric = board.sort_metric

    def mean(factor: float) -> Callable[[Mismatch], str]:
        return lambda curve: score(dict(zip(curve.factors, curve.means, strict=True)).get(factor), metric)

    return (
        Column("denoiser", "denoiser", "", lambda curve: plain(curve.denoiser), text=True),
        *(
            Column(f"told {factor:g}", f"told {factor:g} sigma", metric.unit, mean(factor))
            for factor in sorted({factor for curve in curves for factor in curve.factors})
        ),
        Column("loss", "mean loss", metric.unit, lambda curve: score(curve.loss, metric)),
    )


def metric_title(label: str) -> str:
    """Name of a metric as the field writes it."""
    name = label.partition(":")[0]
    return (
        plain(label).replace(name, name.upper(), 1) if name in ("psnr", "ssim", "mse", "mae", "gmsd") else plain(label)
    )


def _normalised_cell(row: Row) -> str:
    return NONE if row.latency_normalised is None else three_digits(row.latency_normalised)


def _score_cell(metric: MetricColumn) -> Callable[[Row], str]:
    return lambda row: score(row.scores[metric.label].mean, metric) if row.scores else NONE


def _significance_columns(board: Leaderboard, metric: MetricColumn) -> list[Column[Row]]:
    rows = [row for block in board.blocks for row in block.rows]

    def interval(row: Row) -> str:
        mean = row.scores.get(metric.label)
        if mean is None or math.isnan(mean.low):
            return NONE
        return f"{score(mean.low, metric)} to {score(mean.high, metric)}"

    def to_best(row: Row) -> str:
        if row.to_best is None or math.isnan(row.to_best.low) or row.to_best.low == row.to_best.high:
            return NONE
        low, high = (score(value, metric, signed=True) for value in (row.to_best.low, row.to_best.high))
        return f"{score(row.to_best.difference, metric, signed=True)} ({low} to {high})"

    def gap(row: Row) -> str:
        return NONE if row.gap_closed is None else f"{100 * row.gap_closed:.0f}"

    columns = [
        Column("interval", "95 % interval", metric.unit, interval, 30),
        Column("to_best", "less the best", metric.unit, to_best, 8),
    ]
    if any(row.gap_closed is not None for row in rows):
        columns.append(Column("gap_closed", "gap closed", "%", gap, 10))
    return columns


def _speed_column(key: str, title: str, unit: str, keep: int) -> Column[Row]:
    def cell(row: Row) -> str:
        return three_digits(float(getattr(row.speed, key))) if row.speed else NONE

    return Column(key, title, unit, cell, keep)
