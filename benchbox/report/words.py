"""Column titles, notes and number formats of a leaderboard, the same in every output format."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from benchbox.report.board import Block, Leaderboard, MetricColumn, Mismatch, Row, Summary, SummaryRow
from benchbox.stats.separation import FEWEST_IMAGES
from benchbox.stats.summaries import PERFECT_DB

NONE = "-"


def three_digits(value: float) -> str:
    """Round to three significant digits, without an exponent from 0.0001 up; millions as ``400M``."""
    if not math.isfinite(value):
        return "inf" if value > 0 else NONE
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(float(f"{value:.2e}"))))
    if magnitude > 5:
        return f"{three_digits(value / 1e6)}M"
    if magnitude < -4:
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - magnitude)}f}"


def score(value: float | None, metric: MetricColumn, *, signed: bool = False) -> str:
    """Write a value of a metric with its own decimals, or else to three significant digits."""
    if value is None or math.isnan(value):
        return NONE
    plus = "+" if signed and value > 0 else ""
    if math.isinf(value):
        return f"{plus}inf" if value > 0 else "-inf"
    if metric.digits is not None:
        return f"{plus}{value:.{metric.digits}f}"
    return plus + three_digits(value)


def count(number: int, noun: str) -> str:
    """``1 image``, ``3,589 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


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
        Column("rank", "#", "", rank_range),
        Column("denoiser", "denoiser", "", lambda row: row.denoiser, text=True),
    ]
    shown = [metric.label for metric in board.metrics if metric.shown]
    for metric in board.metrics:
        keep = 0 if metric.label == board.sort else min(1 + shown.index(metric.label), 3) if metric.shown else 20
        columns.append(Column(metric.label, metric_title(metric), metric.unit, _score_cell(metric), keep))
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
        columns.append(Column("trained_on", "trained on", "", lambda row: row.trained_on or NONE, 6, text=True))
    if any(row.tuned_on for row in rows):
        columns.append(Column("tuned_on", "tuned on", "", lambda row: row.tuned_on or NONE, 11, text=True))
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
        return f"{behind} {row.worst_noise}" if row.worst_noise else behind

    return (
        Column("rank", "#", "", rank_range),
        Column("denoiser", "denoiser", "", lambda row: row.denoiser, text=True),
        Column("mean", f"mean {metric_title(metric)}", metric.unit, lambda row: score(row.mean, metric)),
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
        Column("denoiser", "denoiser", "", lambda curve: curve.denoiser, text=True),
        *(
            Column(f"told {factor:g}", f"told {factor:g} sigma", metric.unit, mean(factor))
            for factor in sorted({factor for curve in curves for factor in curve.factors})
        ),
        Column("loss", "mean loss", metric.unit, lambda curve: score(curve.loss, metric)),
    )


def rank_range(row: Row | SummaryRow) -> str:
    """``3``, or ``4-7`` for the ranks that a row may have."""
    if row.rank is None:
        return NONE
    return str(row.rank) if row.rank_to in (None, row.rank) else f"{row.rank}-{row.rank_to}"


def ranks_note(block: Block | Summary) -> str:
    """Explain the ranks of a block in one sentence."""
    images = count(block.compared, "image")
    if all(row.rank_to is None for row in block.rows):
        return f"# is the order of the means and no more: {images} cannot show a difference, {FEWEST_IMAGES} may"
    return (
        f"# is the range of ranks that {images} leave open: rows that are significantly better come before it, rows "
        "that are significantly worse after it, at a risk of 5 % of any error in this table"
    )


def metric_title(metric: MetricColumn) -> str:
    """Name of a metric as the field writes it."""
    return metric.title


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
        if row.to_best is None or row.to_best.low == row.to_best.high == 0:
            return NONE
        if math.isnan(row.to_best.low):
            return score(row.to_best.difference, metric, signed=True)
        low, high = (score(value, metric, signed=True) for value in (row.to_best.low, row.to_best.high))
        return f"{score(row.to_best.difference, metric, signed=True)} ({low} to {high})"

    columns = [Column("to_best", "less the best", metric.unit, to_best, 8)]
    if any(not math.isnan(row.scores[metric.label].low) for row in rows if row.scores):
        columns.insert(0, Column("interval", "95 % interval", metric.unit, interval, 30))
    return columns


def _speed_column(key: str, title: str, unit: str, keep: int) -> Column[Row]:
    def cell(row: Row) -> str:
        return three_digits(float(getattr(row.speed, key))) if row.speed else NONE

    return Column(key, title, unit, cell, keep)


MISMATCH_TITLE = "Told a wrong noise level"
"""Title of the table of `mismatch_columns`."""


def title_of(board: Leaderboard, block: Block) -> str:
    """Title of a block: noise, what it does to the images, and the rule that ranks."""
    noisy = ""
    if block.noisy_psnr is not None:
        noisy = f", noisy images {block.noisy_psnr.mean:.2f} dB"
    within = f" within {board.within_ms:g} ms" if board.within_ms is not None else ""
    return f"{block.noise}{noisy}, ranked by {metric_title(board.sort_metric)}{within}"


def summary_title(board: Leaderboard, summary: Summary) -> str:
    """Title of the table over all noises, with the rule that ranks."""
    return f"{len(summary.noises)} noises, ranked by mean {metric_title(board.sort_metric)} over them"


def facts_of(board: Leaderboard) -> tuple[tuple[str, str], ...]:
    """What holds for all rows, as pairs of a word and its value."""
    header = board.header
    data = " ".join(part for part in (header.dataset, header.split) if part)
    facts = [
        ("data", f"{data}, {count(header.images, 'image')}, {header.sizes}"),
        ("protocol", f"{header.protocol}; seed {header.seed}"),
        ("timing", header.timing),
        ("machine", header.machine),
        ("run", f"{header.run_id}, {header.created}, format {header.format}"),
    ]
    facts += [("note", note) for note in header.notes]
    return tuple((word, value) for word, value in facts if value)


def notes_of(board: Leaderboard, block: Block, shown: Iterable[str]) -> tuple[str, ...]:
    """What must be said below a block: failures, perfect images, shared ranks, training where no column says it.

    Parameters
    ----------
    board : Leaderboard
    block : Block
    shown : iterable of str
        Keys of the columns that the table shows.

    Returns
    -------
    tuple of str
    """
    shown = set(shown)
    said = [
        (row.denoiser, f"{'not ranked' if row.status == 'ok' else row.status}: {row.reason}")
        for row in block.rows
        if row.rank is None
    ]
    said += [
        (row.denoiser, f"no timing: {row.speed_status}: {row.speed_reason}")
        for row in block.rows
        if board.timing and row.speed is None and row.status == "ok"
    ]
    said += [(row.denoiser, f"ranked although {row.leak}") for row in block.rows if row.leak and row.rank]
    said += [(row.denoiser, caution) for row in block.rows for caution in row.cautions]
    notes = [f"{names}: {words}" for words, names in _grouped((words, name) for name, words in said)]
    worse = [row.denoiser for row in block.rows if row.worse_than_nothing]
    if worse:
        notes.append(f"worse than doing nothing: {', '.join(worse)}")
    for metric in board.metrics:
        perfect = {row.denoiser: row.scores[metric.label] for row in block.rows if row.scores}
        exact = [f"{name} {one.perfect:,}" for name, one in perfect.items() if one.perfect]
        title = metric_title(metric)
        if exact:
            notes.append(f"images restored exactly, counted as {title} {PERFECT_DB:g} dB: {', '.join(exact)}")
        undefined = [f"{name} {one.undefined:,}" for name, one in perfect.items() if one.undefined]
        if undefined:
            notes.append(f"images without a {title}, not in its mean: {', '.join(undefined)}")
    if sum(row.rank is not None for row in block.rows) > 1:
        notes.append(ranks_note(block))
    if "trained_on" not in shown:
        trained = _grouped((row.trained_on, row.denoiser) for row in block.rows)
        notes += [f"trained on {words}: {names}" for words, names in trained]
    if "tuned_on" not in shown:
        tuned = _grouped((row.tuned_on, row.denoiser) for row in block.rows)
        notes += [f"tuned on {words}: {names}" for words, names in tuned]
    return tuple(notes)


def insights_of(board: Leaderboard, block: Block, *, full: bool = True) -> tuple[str, ...]:
    """What the scores say beyond the table: power, floor and ceiling, pairs that complement each other, the front."""
    metric = board.sort_metric
    unit = f" {metric.unit}" if metric.unit else ""
    notes = []
    if block.steps:
        seen = statistics.median(step.detectable for step in block.steps)
        notes.append(
            f"{count(block.compared, 'image')} tell neighbours apart that differ by {seen:.2g}{unit} "
            "(median, four times in five)"
        )
    needs = (
        f"{step.better} and {step.worse} {_about(step.further_images)}" for step in block.steps if step.further_images
    )
    if words := ", ".join(needs):
        notes.append(f"further images to tell apart, about: {words}")
    if block.oracle is not None:
        notes.append(f"best row for each image: {score(block.oracle, metric)}{unit}")
    if full and block.oracle_wiener is not None:
        notes.append(
            f"best linear filter: {score(block.oracle_wiener, metric)}{unit} (Wiener filter that knows each clean "
            "spectrum; denoisers that adapt to the place in the image can be better)"
        )
    for pair in block.complements[:1]:
        gain = score(pair.gain, metric)
        if gain != score(0.0, metric):
            notes.append(
                f"better of {pair.first} and {pair.second} for each image: "
                f"{score(pair.together, metric)}{unit}, {gain}{unit} better than the first alone"
            )
    front = [row.denoiser for row in block.rows if row.on_front]
    if front:
        notes.append(f"none is both better and faster than: {', '.join(front)}")
    return tuple(notes)


def advice_of(board: Leaderboard) -> tuple[str, ...]:
    """What the run looks suspicious for, a sentence each."""
    return tuple(f"{one.saw}. It may be that {one.why}. What to do: {one.do}." for one in board.advice)


def legend_of(board: Leaderboard) -> str:
    """How to read the table: marks, directions, what the columns of speed are."""
    lower = [metric_title(metric) for metric in board.metrics if not metric.higher_is_better]
    parts = ["* best ranked row of its column"]
    if lower:
        parts.append(f"{', '.join(lower)}: less is better")
    if board.timing:
        batches = sorted({row.speed.batch for block in board.blocks for row in block.rows if row.speed})
        batch = f" at {batches[0]} a call" if len(batches) == 1 else ""
        parts.append(f"p50, p90, p99: latency of one image; images/s{batch}")
    if has_normalised(board):
        parts.append("p50 normalised: p50 over the time of the calibration kernel")
    parts.append("sigma: noise level told, estimated from the noisy images, or blind")
    return "; ".join(parts)


def _about(number: int) -> str:
    """A number of which no more than two digits are meant."""
    return f"{int(float(f'{number:.2g}')):,}"


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is said and of which denoisers, each thing once; what is empty is left out."""
    groups: dict[str, list[str]] = {}
    for words, denoiser in pairs:
        if words:
            groups.setdefault(words, []).append(denoiser)
    return [(words, ", ".join(names)) for words, names in groups.items()]
