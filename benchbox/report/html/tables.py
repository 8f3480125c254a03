"""The tables of the HTML page: each cell has its text and the value it is sorted by."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchbox.report.board import Block, Leaderboard, Row, Summary
from benchbox.report.figures.error_analysis import REGIONS, Causes
from benchbox.report.words import (
    MISMATCH_TITLE,
    NONE,
    Column,
    count,
    score,
    summary_columns,
    summary_title,
    three_digits,
)
from benchbox.store import RunStore

MOST_GROUPS = 20


@dataclass(frozen=True)
class Groups:
    """A way to divide the images.

    Attributes
    ----------
    title : str
    names : tuple of str
    counts : tuple of int
        Images of each group.
    means : dict of str to tuple of float
        By denoiser: mean of the finite scores of each group, NaN where there are none.
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
    """Divide the images by each label, and into quarters by their brightness.

    Parameters
    ----------
    labels : mapping of str to ndarray, each of shape (N,)
    brightness : ndarray of float64, shape (N,), optional
        Mean of each clean image.
    scores : mapping of str to ndarray, each of shape (N,)
        By denoiser.

    Returns
    -------
    list of Groups
        Without divisions into one group or into more than `MOST_GROUPS`.
    """
    found = []
    for title, values in labels.items():
        words = np.array([str(value) for value in values.tolist()])
        names = sorted(set(words.tolist()))
        if 1 < len(names) <= MOST_GROUPS:
            found.append(_groups(f"By {title}", names, [words == name for name in names], scores))
    if brightness is not None and len(brightness) >= 8 and np.ptp(brightness) > 0:
        edges = np.quantile(brightness, (0.0, 0.25, 0.5, 0.75, 1.0))
        quarter = np.searchsorted(edges[1:-1], brightness, side="right")
        names = [f"{low:.2f} to {high:.2f}" for low, high in itertools.pairwise(edges)]
        masks = [quarter == place for place in range(4)]
        if all(mask.any() for mask in masks):
            found.append(_groups("By brightness (mean of the clean image, in quarters)", names, masks, scores))
    return found


def named(values: NDArray[np.generic], names: Sequence[str]) -> NDArray[np.generic]:
    """Put names for the numbers of a label, where each has one.

    Parameters
    ----------
    values : ndarray, shape (N,)
    names : sequence of str
        The name of 0, 1, ...

    Returns
    -------
    ndarray, shape (N,)
    """
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
    """A cell of a table: its text, the value it is sorted by, and whether it is the best of its column."""

    text: str
    value: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table of text, its first column naming the rows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    note: str = ""


def leaderboard_cell(column: Column[Row], row: Row, sort: str) -> TableCell:
    """A cell of a leaderboard; `sort` is the metric that ranks."""
    return TableCell(column.cell(row), _sort_value(column.key, row, sort), column.key in row.best)


def _sort_value(key: str, row: Row, sort: str) -> str:
    """What a column is sorted by, at full precision; empty where there is nothing."""
    value: float | None = None
    if key in row.scores:
        value = row.scores[key].mean
    elif key in ("rank", "latency_normalised"):
        value = getattr(row, key)
    elif key == "interval":
        value = row.scores[sort].low if row.scores else None
    elif key == "to_best":
        value = row.to_best.difference if row.to_best else None
    elif hasattr(row.speed, key):
        value = float(getattr(row.speed, key))
    elif key in ("denoiser", "knew", "trained_on", "tuned_on"):
        return str(getattr(row, key))
    return _number(value)


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def _row(name: str, values: Iterable[float], texts: Iterable[str]) -> tuple[TableCell, ...]:
    cells = (TableCell(text, _number(value)) for value, text in zip(values, texts, strict=True))
    return TableCell(name, name), *cells


def summary_table(board: Leaderboard, summary: Summary) -> Table:
    """All denoisers over all noises."""
    columns = summary_columns(board, summary)
    numbers = {"rank", "mean", "wins", "completed"}
    rows = []
    for row in summary.rows:
        values = {"worst": _number(row.worst_difference), "denoiser": row.denoiser}
        rows.append(
            tuple(
                TableCell(
                    column.cell(row),
                    _number(getattr(row, column.key)) if column.key in numbers else values[column.key],
                    column.key in row.best,
                )
                for column in columns
            )
        )
    heads = tuple(f"{column.title} ({column.unit})" if column.unit else column.title for column in columns)
    return Table(summary_title(board, summary), heads, tuple(rows))


def speed_table(store: RunStore) -> Table | None:
    """What the timing pass measured; None where nothing was timed."""
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
        values = [
            *np.percentile(timing.samples_ms[1], (50, 90, 99)).tolist(),
            *(1000 * batch / float(np.median(timing.samples_ms.get(batch, math.nan))) for batch in batches),
            timing.import_s,
            timing.setup_s,
            timing.first_s,
            timing.peak_mb,
            float(timing.threads_used),
        ]
        rows.append(_row(record.label, values, map(three_digits, values)))
    latencies = ("p50 (ms)", "p90 (ms)", "p99 (ms)", *(f"images/s, {batch} a call" for batch in batches))
    heads = ("denoiser", *latencies, "import (s)", "setup (s)", "first call (s)", "memory (MiB)", "threads")
    return Table("Speed", heads, tuple(rows)) if rows else None


def failures_of(store: RunStore, board: Leaderboard) -> list[tuple[str, str, str, str]]:
    """Where, status, reason and log of everything that has no result."""
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


def causes_table(found: Mapping[str, Causes], images: int, *, cut: bool) -> Table:
    """Why denoisers lose, by the pictures of so many images; `cut` where one is only the middle of its image."""
    repeated = any(not math.isnan(one.bias) for one in found.values())
    heads = ("denoiser", *(f"{name} (dB)" for name in REGIONS), "residual correlation")
    heads += ("bias", "spread") if repeated else ()
    rows = []
    for name, one in found.items():
        values = [*(one.region_psnr[region] for region in REGIONS), one.correlation]
        texts = [*(NONE if math.isnan(value) else f"{value:.2f}" for value in values[:-1]), three_digits(values[-1])]
        if repeated:
            values += [one.bias, one.spread]
            texts += [three_digits(one.bias), three_digits(one.spread)]
        rows.append(_row(name, values, texts))
    note = (
        f"From the pictures of {count(images, 'image')} only, so differences of some tenths of a dB may be chance. "
        "PSNR over regions of the clean image: flat is the half of the pixels with the least gradient energy; the rest "
        "are edges where one direction holds most of it, and texture elsewhere. Where the noise is white, what a "
        "perfect denoiser removes is without correlation: the nearer to 0, the less of the image went with it."
    )
    if cut:
        note += " Large images take part by their middle; the leaderboard scores the whole."
    if repeated:
        note += " Bias is the error that stays over the repeats, spread the one that changes with the noise (both RMS)."
    return Table("Regions and residual", heads, tuple(rows), note)


def mismatch_table(board: Leaderboard, block: Block) -> Table:
    """What a wrong noise level costs."""
    factors = sorted({factor for curve in block.mismatch for factor in curve.factors})
    rows = []
    for curve in block.mismatch:
        means = dict(zip(curve.factors, curve.means, strict=True))
        values = [*(means.get(factor, math.nan) for factor in factors), curve.loss]
        rows.append(_row(curve.denoiser, values, (score(value, board.sort_metric) for value in values)))
    heads = ("denoiser", *(f"told {factor:g} sigma" for factor in factors), "mean loss")
    return Table(MISMATCH_TITLE, heads, tuple(rows))


def group_table(board: Leaderboard, block: Block, groups: Groups) -> Table:
    """Means of each group of images, with the number of its images; marks the best ranked row, where any is ranked."""
    sign = 1 if board.sort_metric.higher_is_better else -1
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
