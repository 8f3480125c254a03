"""The tables of the HTML page; each cell has a text and a value to sort by."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchbox.report.board import Block, Leaderboard, Row, Summary, SummaryRow
from benchbox.report.columns import MISMATCH_TITLE, NETWORK_COLUMNS, Column, recognition_columns, summary_columns
from benchbox.report.figures.error_analysis import REGIONS, ErrorAnalysis
from benchbox.report.recognition import Recognised, Recognition, percent, recognition_title, shares_of
from benchbox.report.words import NONE, count, score, summary_title, three_digits
from benchbox.stats.summaries import latency_of
from benchbox.store import RunStore

MOST_GROUPS = 20


@dataclass(frozen=True)
class Groups:
    """A grouping of the images.

    Attributes
    ----------
    counts : tuple of int
        Images per group.
    means : dict of str to tuple of float
        Mean finite score of each group by denoiser; NaN if there is none.
    """

    title: str
    names: tuple[str, ...]
    counts: tuple[int, ...]
    means: dict[str, tuple[float, ...]]


def groups_of(
    labels: Mapping[str, NDArray[np.generic]],
    brightness: NDArray[np.float64] | None,
    scores: Mapping[str, NDArray[np.float64]],
) -> list[Groups]:
    """Group the images by each label, and into quartiles of brightness.

    `brightness` has shape (N,): the mean of each clean image. Groupings with one group or more than `MOST_GROUPS` are
    omitted.
    """
    groupings = []
    for title, values in labels.items():
        words = np.array([str(value) for value in values.tolist()])
        names = sorted(set(words.tolist()))
        if 1 < len(names) <= MOST_GROUPS:
            groupings.append(_groups(f"By {title}", names, [words == name for name in names], scores))
    if brightness is not None and len(brightness) >= 8 and np.ptp(brightness) > 0:
        edges = np.quantile(brightness, (0.0, 0.25, 0.5, 0.75, 1.0))
        quarter = np.searchsorted(edges[1:-1], brightness, side="right")
        names = [f"{low:.2f} to {high:.2f}" for low, high in itertools.pairwise(edges)]
        masks = [quarter == place for place in range(4)]
        if all(mask.any() for mask in masks):
            groupings.append(_groups("By brightness (quartiles of the mean of the clean image)", names, masks, scores))
    return groupings


def with_label_names(values: NDArray[np.generic], names: Sequence[str]) -> NDArray[np.generic]:
    """Replace label numbers with their names if every number has one; `names[i]` is the name of label i."""
    if not np.issubdtype(values.dtype, np.integer) or not len(values):
        return values
    numbers = values.astype(np.int64)
    return np.array(names)[numbers] if numbers.min() >= 0 and numbers.max() < len(names) else values


def _groups(
    title: str, names: Sequence[str], masks: Sequence[NDArray[np.bool_]], scores: Mapping[str, NDArray[np.float64]]
) -> Groups:
    means = {denoiser: tuple(_mean(values[mask]) for mask in masks) for denoiser, values in scores.items()}
    return Groups(title, tuple(names), tuple(int(mask.sum()) for mask in masks), means)


def _mean(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


@dataclass(frozen=True)
class TableCell:
    """A cell: its text, the value to sort by, whether it is the best in its column, and its colour from 0 to 1."""

    text: str
    value: str
    best: bool = False
    heat: float = 0.0


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    optional : int
        Number of columns at the end that are only shown on request.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    note: str = ""
    optional: int = 0


def leaderboard_cell(column: Column[Row], row: Row, sort: str) -> TableCell:
    """A cell of a leaderboard; `sort` is the metric that ranks."""
    return TableCell(column.cell(row), _sort_value(column.key, row, sort), column.key in row.best)


def _sort_value(key: str, row: Row, sort: str) -> str:
    """The value to sort by, at full precision; may be empty."""
    value: float | None = None
    if key in row.scores:
        value = row.scores[key].mean
    elif key in ("rank", "latency_normalised"):
        value = getattr(row, key)
    elif key == "interval":
        value = row.scores[sort].low if row.scores else None
    elif key == "to_best":
        value = row.to_best.difference if row.to_best else None
    elif key in NETWORK_COLUMNS[:3]:
        value = float(getattr(row.details, key, 0)) or None
    elif hasattr(row.speed, key):
        value = float(getattr(row.speed, key))
    elif key in ("denoiser", "noise_level", "trained_on", "tuned_on", "channels"):
        return str(getattr(row, key))
    return _number(value)


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def _row(name: str, values: Iterable[float], texts: Iterable[str]) -> tuple[TableCell, ...]:
    cells = (TableCell(text, _number(value)) for value, text in zip(values, texts, strict=True))
    return TableCell(name, name), *cells


def summary_table(board: Leaderboard, summary: Summary) -> Table:
    """All denoisers by all noises: the score on each noise, coloured by how far it is from the best row there."""
    columns = summary_columns(board, summary)
    place = [column.key for column in columns].index("mean") + 1
    blocks = [block for block in board.blocks if block.noise in summary.noises]
    cells = [_noise_cells(board, block) for block in blocks]
    rows = []
    for row in summary.rows:
        own = tuple(_summary_cell(column, row) for column in columns)
        missing = TableCell(NONE, "")
        rows.append((*own[:place], *(by_row.get(row.denoiser, missing) for by_row in cells), *own[place:]))
    heads = tuple(f"{column.title} ({column.unit})" if column.unit else column.title for column in columns)
    noises = tuple(block.noise for block in blocks)
    note = (
        f"colour of {board.sort_metric.title} by noise: strongest for the best ranked row, fading to none at twice the "
        "median difference from it"
    )
    return Table(
        summary_title(board, summary),
        (*heads[:place], *noises, *heads[place:]),
        tuple(rows),
        note,
        optional=len(columns) - place,
    )


def _summary_cell(column: Column[SummaryRow], row: SummaryRow) -> TableCell:
    values = {"worst": _number(row.worst_difference), "denoiser": row.denoiser}
    value = values.get(column.key)
    return TableCell(
        column.cell(row), _number(getattr(row, column.key)) if value is None else value, column.key in row.best
    )


def _noise_cells(board: Leaderboard, block: Block) -> dict[str, TableCell]:
    """Cells of the completed rows of a noise, by denoiser."""
    behind = {row.denoiser: abs(row.to_best.difference) for row in block.rows if row.to_best is not None}
    # The median, so that one row far behind does not give all others the full colour.
    typical = float(np.median(list(behind.values()))) if behind else 0.0
    return {
        row.denoiser: TableCell(
            score(row.scores[board.sort].mean, board.sort_metric),
            _number(row.scores[board.sort].mean),
            board.sort in row.best,
            max(0.0, 1 - behind[row.denoiser] / (2 * typical)) if typical and row.denoiser in behind else 0.0,
        )
        for row in block.rows
        if row.scores
    }


def speed_table(store: RunStore) -> Table | None:
    """Results of the timing pass; None if nothing was timed."""
    timings = store.timings()
    if not timings:
        return None
    rows = []
    timed = {label: timing for label, timing in timings.items() if timing.status == "ok"}
    batches = sorted({batch for timing in timed.values() for batch in timing.samples_ms})
    for record in store.record.denoisers:
        timing = timed.get(record.spec)
        if timing is None:
            continue
        latency = latency_of(timing.samples_ms[1])
        values = [
            *(latency.p50, latency.p90, latency.p99),
            *(1000 * batch / float(np.median(timing.samples_ms.get(batch, math.nan))) for batch in batches),
            timing.import_s,
            timing.setup_s,
            timing.first_s,
            timing.peak_mb,
            float(timing.threads_used),
        ]
        rows.append(_row(record.label, values, map(three_digits, values)))
    latencies = ("p50 (ms)", "p90 (ms)", "p99 (ms)", *(f"images/s, {batch} per call" for batch in batches))
    heads = ("denoiser", *latencies, "import (s)", "setup (s)", "first call (s)", "memory (MiB)", "threads")
    return Table("Speed", heads, tuple(rows)) if rows else None


def failures_of(store: RunStore, board: Leaderboard) -> list[tuple[str, str, str, str]]:
    """Row, status, reason and stage of everything without a result."""
    scored = [
        (f"{row.denoiser} on {block.noise}", row.status, row.reason, "scores")
        for block in board.blocks
        for row in block.rows
        if row.status != "ok"
    ]
    timed = [
        (name, timing.status, timing.reason, "timing")
        for name, timing in store.timings().items()
        if timing.status != "ok"
    ]
    return scored + timed


def error_table(by_denoiser: Mapping[str, ErrorAnalysis], images: int, *, cropped: bool) -> Table:
    """Error analysis of the pictures of `images` images; `cropped` if some show only a part."""
    repeated = any(not math.isnan(analysis.bias) for analysis in by_denoiser.values())
    heads = ("denoiser", *(f"{name} (dB)" for name in REGIONS), "residual correlation")
    heads += ("bias", "spread") if repeated else ()
    rows = []
    for name, analysis in by_denoiser.items():
        values = [*(analysis.region_psnr[region] for region in REGIONS), analysis.correlation]
        texts = [*(NONE if math.isnan(value) else f"{value:.2f}" for value in values[:-1]), three_digits(values[-1])]
        if repeated:
            values += [analysis.bias, analysis.spread]
            texts += [three_digits(analysis.bias), three_digits(analysis.spread)]
        rows.append(_row(name, values, texts))
    note = (
        f"Based on the stored pictures of only {count(images, 'image')}, so differences of a few tenths of a dB may be "
        "chance. PSNR by region of the clean image: flat is the half of the pixels with the lowest gradient energy; "
        "the rest are edges if one direction dominates, else texture. A perfect denoiser of white noise removes an "
        "uncorrelated residual: the closer the residual correlation is to 0, the less image content was removed."
    )
    if cropped:
        note += " Large images are cropped to where they have most detail; the leaderboard scores the whole image."
    if repeated:
        note += " Bias is the error common to all repeats, spread the part that varies with the noise (both RMS)."
    return Table("Regions and residual", heads, tuple(rows), note)


def mismatch_table(board: Leaderboard, block: Block) -> Table:
    """Scores with a wrong noise level."""
    factors = sorted({factor for curve in block.mismatch for factor in curve.factors})
    rows = []
    for curve in block.mismatch:
        means = dict(zip(curve.factors, curve.means, strict=True))
        values = [*(means.get(factor, math.nan) for factor in factors), curve.loss]
        rows.append(_row(curve.denoiser, values, (score(value, board.sort_metric) for value in values)))
    heads = ("denoiser", *(f"{factor:g} sigma" for factor in factors), "mean loss")
    return Table(MISMATCH_TITLE, heads, tuple(rows))


def recognition_tables(recognition: Recognition) -> tuple[Table, ...]:
    """What a classifier recognises, by class; then which class it takes for which, in three rows.

    These are the noisy images, the row that keeps most classes and the one that keeps fewest.
    """
    columns = recognition_columns(recognition)
    rows = [
        tuple(
            TableCell(column.cell(row), _number(shares_of(row).get(column.key)) or row.denoiser, column.key in row.best)
            for column in columns
        )
        for row in recognition.rows
    ]
    first = Table(recognition_title(recognition), tuple(column.title for column in columns), tuple(rows))
    denoisers = recognition.denoisers
    shown = dict.fromkeys(row for row in (recognition.floor, *denoisers[:1], *denoisers[-1:]) if row)
    return (first, *(_confusion_table(recognition, row) for row in shown))


def _confusion_table(recognition: Recognition, row: Recognised) -> Table:
    lines = []
    for name, counts in zip(recognition.classes, row.confusion, strict=True):
        shares = [number / total if (total := sum(counts)) else math.nan for number in counts]
        cells = (TableCell(percent(share), _number(share), heat=share if total else 0.0) for share in shares)
        lines.append((TableCell(f"{name} ({total:,})", name), *cells))
    which = "noisy images" if row.role == "floor" else row.denoiser
    title = f"{recognition.title}: class of the clean image (rows) taken for (columns), {which} (%)"
    return Table(title, ("class", *recognition.classes), tuple(lines))


def group_table(board: Leaderboard, block: Block, groups: Groups) -> Table:
    """Mean score by group of images; marks the best ranked row, or the best row if none is ranked."""
    sign = board.sort_metric.sign
    ranked = {row.denoiser for row in block.rows if row.rank is not None} or groups.means.keys()
    best = [
        max((sign * value for name in ranked if not math.isnan(value := groups.means[name][place])), default=math.nan)
        for place in range(len(groups.names))
    ]
    rows = []
    for name, means in groups.means.items():
        marks = (name in ranked and sign * mean == most for mean, most in zip(means, best, strict=True))
        cells = (
            TableCell(score(mean, board.sort_metric), _number(mean), marked)
            for mean, marked in zip(means, marks, strict=True)
        )
        rows.append((TableCell(name, name), *cells))
    heads = tuple(f"{name} (n = {count})" for name, count in zip(groups.names, groups.counts, strict=True))
    return Table(groups.title, ("denoiser", *heads), tuple(rows))
