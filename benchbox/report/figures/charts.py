"""The charts of one noise as matplotlib figures (for the page, and as SVG or PDF), and the stored data behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchbox.report.board import Block, Leaderboard, Row
from benchbox.report.build import image_scores
from benchbox.report.figures.axes import (
    HEIGHT,
    INK,
    RULE,
    Look,
    charts_style,
    label_points,
    latencies_along,
    legend_below,
    lower_is_up,
    metric_label,
    new_axes,
    short,
    unit_of,
)
from benchbox.report.figures.error_analysis import ErrorAnalysis, analyse_errors, frequencies
from benchbox.report.figures.gallery import StoredPictures, read_pictures
from benchbox.report.words import rank_range, score, three_digits
from benchbox.stats.summaries import pareto_front
from benchbox.store import RunStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 60
MOST_SPECTRA = 6
"""Lines of a spectrum: more cannot be told apart."""
Looks = Mapping[str, Look]


@dataclass(frozen=True)
class Chart:
    """A figure with its caption, alternative text and tooltips.

    Attributes
    ----------
    name : str
        Kind of chart; starts its ids and file name.
    title, alt : str
        Caption, and alternative text with the main result.
    titles : dict of str to str
        Tooltips by `gid`.
    """

    name: str
    title: str
    alt: str
    figure: Figure
    titles: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Price:
    """What quality is compared with in a chart of a Pareto front."""

    chart: str
    words: str
    figure: str
    axis: str
    unit: str
    of: Callable[[Row], float]
    """NaN if it is unknown."""


LATENCY = Price(
    "front",
    "latency",
    "p50",
    "p50 latency of one image in ms (lower is better)",
    "ms",
    lambda row: row.speed.latency_p50_ms if row.speed else math.nan,
)
WORK = Price(
    "work",
    "multiply-adds",
    "multiply-adds",
    "GMAC per megapixel (lower is better)",
    "GMAC per megapixel",
    lambda row: row.gmac_per_megapixel,
)


def front_chart(board: Leaderboard, block: Block, looks: Looks, price: Price = LATENCY) -> Chart | None:
    """Quality against a price with the Pareto front; None if fewer than two rows have one."""
    metric = board.sort_metric
    rows = [row for row in block.rows if row.rank is not None and has_score(row, board.sort)]
    timed = [(row, price.of(row)) for row in rows if not row.is_floor and not math.isnan(price.of(row))]
    if len(timed) < 2:
        return None
    on_front = dict(
        zip(
            (row.denoiser for row, _ in timed),
            pareto_front([metric.sign * row.scores[board.sort].mean for row, _ in timed], [cost for _, cost in timed]),
            strict=True,
        )
    )
    figure, axes = new_axes()
    titles, points = {}, []
    for number, (row, latency) in enumerate(timed):
        mean, look = row.scores[board.sort], looks[row.denoiser]
        if not math.isnan(mean.low):
            axes.plot([latency, latency], [mean.low, mean.high], color=look.colour, alpha=0.5, linewidth=1.5)
        (point,) = axes.plot(
            latency,
            mean.mean,
            marker=look.marker,
            color=look.colour,
            markersize=8 if on_front[row.denoiser] else 6,
            markeredgecolor=INK if on_front[row.denoiser] else look.colour,
            linestyle="none",
        )
        point.set_gid(f"point{number}")
        titles[f"point{number}"] = (
            f"{row.denoiser}: {board.sort_metric.title} {score(mean.mean, metric)} {metric.unit}, "
            f"{price.figure} {three_digits(latency)} {price.unit}, rank {rank_range(row)}, sigma {row.noise_level}"
        )
        points.append((latency, mean.mean, row.denoiser))
    front = sorted((latency, row.scores[board.sort].mean) for row, latency in timed if on_front[row.denoiser])
    # Steps, not a line: at a price between two rows, nothing better than the cheaper one is known.
    axes.plot(*zip(*front, strict=True), color=INK, linewidth=1, linestyle=":", drawstyle="steps-post", zorder=1)
    latencies_along(axes)
    axes.margins(x=0.12, y=0.12)
    for floor in (row for row in rows if row.is_floor and (row.speed or price is WORK)):
        level, name = floor.scores[board.sort].mean, short(floor.denoiser)
        low, high = axes.get_ylim()
        place: tuple[float, str] = (level, "data")
        if low < level < high:
            axes.axhline(level, color=RULE, linewidth=1, linestyle="--")
        else:  # far below: its line would squeeze the rows into a part of the chart
            place, name = (0, "axes fraction"), f"{name}: {score(level, metric)}, not shown"
        axes.annotate(
            name, (1, place[0]), xycoords=("axes fraction", place[1]),
            xytext=(0, 2), textcoords="offset points", ha="right", fontsize=8,
        )  # fmt: skip
    axes.set_xlabel(price.axis)
    axes.set_ylabel(metric_label(board))
    lower_is_up(board, axes)
    label_points(figure, axes, points)
    names = ", ".join(row.denoiser for row, _ in sorted(timed, key=lambda pair: pair[1]) if on_front[row.denoiser])
    return Chart(
        price.chart,
        f"{metric.title} against {price.words}; dotted: the Pareto front",
        f"Scatter chart of {metric.title} against {price.words} for {block.noise}. Pareto front: {names}.",
        figure,
        titles,
    )


def differences_chart(
    board: Leaderboard, block: Block, scores: Mapping[str, NDArray[Any]], looks: Looks
) -> Chart | None:
    """Distributions of per-image differences to the best row; None if there is nothing to compare."""
    ranked = [row for row in block.rows if row.rank is not None and row.to_best is not None]
    if len(ranked) < 2 or block.compared < 2:
        return None
    best, *others = ranked
    finite = np.isfinite(np.column_stack([scores[row.denoiser] for row in ranked])).all(axis=1)
    base = scores[best.denoiser][finite]
    differences = {row.denoiser: scores[row.denoiser][finite] - base for row in others}
    everything = np.concatenate(list(differences.values()))
    # A few far images would squeeze all others into one bin; they count in the outermost.
    low, high = np.percentile(everything, (0.5, 99.5))
    if not high > low:
        return None
    edges = np.linspace(low, high, BINS + 1)
    figure, axes = new_axes(height=0.9 + 0.34 * len(others))
    titles = {}
    for number, row in enumerate(others):
        values, look = differences[row.denoiser], looks[row.denoiser]
        place = -number
        counts, _ = np.histogram(np.clip(values, low, high), edges)
        axes.stairs(place + 0.8 * counts / counts.max(), edges, baseline=place, fill=True, color=look.colour, alpha=0.5)
        p5, p50, p95 = np.percentile(values, (5, 50, 95))
        axes.plot([p5, p95], [place, place], color=look.colour, linewidth=2)
        (median,) = axes.plot(p50, place, marker="|", color=INK, markersize=9, markeredgewidth=2)
        median.set_gid(f"median{number}")
        unit = f" {board.sort_metric.unit}".rstrip()
        titles[f"median{number}"] = (
            f"{row.denoiser}: median {score(float(p50), board.sort_metric, signed=True)}{unit}, "
            f"90 % of the images from {score(float(p5), board.sort_metric, signed=True)} to "
            f"{score(float(p95), board.sort_metric, signed=True)}{unit}"
        )
    in_unit = f" in {board.sort_metric.unit}" if board.sort_metric.unit else ""
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks([-number + 0.2 for number in range(len(others))], [short(row.denoiser) for row in others])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"Δ {board.sort_metric.title} to {short(best.denoiser)}{in_unit}, one value per image")
    return Chart(
        "differences",
        f"Per-image differences to {best.denoiser}; bar: 90 % of the images, tick: median",
        f"Distributions of per-image differences to {best.denoiser} for {block.noise}. "
        + " ".join(f"{title}." for title in titles.values()),
        figure,
        titles,
    )


def mismatch_chart(board: Leaderboard, block: Block, looks: Looks) -> Chart | None:
    """Scores with a wrong noise level; None if it was not tried."""
    if not block.mismatch:
        return None
    figure, axes = new_axes()
    titles = {}
    for number, curve in enumerate(block.mismatch):
        label = short(curve.denoiser)
        (line,) = axes.plot(curve.factors, curve.means, label=label, **looks[curve.denoiser].line)
        line.set_gid(f"line{number}")
        loss = score(curve.loss, board.sort_metric)
        titles[f"line{number}"] = f"{curve.denoiser}: mean loss {loss}{unit_of(board)}"
    axes.set_xscale("log", base=2)
    factors = sorted({factor for curve in block.mismatch for factor in curve.factors})
    axes.set_xticks(factors, [f"{factor:g}" for factor in factors])
    axes.minorticks_off()
    axes.set_xlabel("given noise level / true noise level")
    axes.set_ylabel(metric_label(board))
    lower_is_up(board, axes)
    legend_below(figure, axes)
    return Chart(
        "mismatch",
        "Effect of a wrong noise level",
        f"Line chart of {board.sort_metric.title} over the ratio of the given to the true noise level. "
        + " ".join(f"{title}." for title in titles.values()),
        figure,
        titles,
    )


def spectrum_chart(
    block: Block, frequencies: NDArray[np.float64], remaining: Mapping[str, NDArray[np.float64]], looks: Looks
) -> Chart:
    """Power of the error relative to the noise, in dB, over radial frequency; `remaining` has the best row first."""
    figure, axes = new_axes(height=HEIGHT + 0.8)
    titles = {}
    for number, (denoiser, decibels) in enumerate(list(remaining.items())[:MOST_SPECTRA]):
        (line,) = axes.plot(frequencies, decibels, label=short(denoiser), **(looks[denoiser].line | {"markersize": 3}))
        line.set_gid(f"line{number}")
        lowest, highest = float(decibels[0]), float(decibels[-1])
        titles[f"line{number}"] = (
            f"{denoiser}: {lowest:+.1f} dB at the lowest, {highest:+.1f} dB at the highest frequencies"
        )
    axes.axhline(0, color=INK, linewidth=1, linestyle=":")
    axes.set_xlabel("radial frequency in cycles per pixel")
    axes.set_ylabel("error / noise in dB (lower is better)")
    legend_below(figure, axes)
    return Chart(
        "spectrum",
        "Remaining error by frequency, relative to the noise (0 dB)"
        + (f"; the best {MOST_SPECTRA} of {len(remaining)} rows" if len(remaining) > MOST_SPECTRA else ""),
        f"Line chart of the error over radial frequency for {block.noise}. "
        + " ".join(f"{title}." for title in titles.values()),
        figure,
        titles,
    )


def has_score(row: Row, label: str) -> bool:
    """Whether a row has a finite mean in a metric."""
    return label in row.scores and math.isfinite(row.scores[label].mean)


@dataclass(frozen=True)
class NoiseData:
    """Stored data of one noise.

    Attributes
    ----------
    columns : dict of str to dict of str to ndarray, each of shape (N,)
        Scores of completed rows by denoiser, one per image.
    stored : StoredPictures or None
        Pictures, if the run kept any.
    errors : dict of str to ErrorAnalysis
        By denoiser.
    """

    block: Block
    columns: dict[str, dict[str, NDArray[Any]]]
    stored: StoredPictures | None
    errors: dict[str, ErrorAnalysis]

    def scores(self, metric: str) -> dict[str, NDArray[np.float64]]:
        """Per-image scores in one metric, by denoiser."""
        return {name: columns[metric].astype(np.float64) for name, columns in self.columns.items()}


def read_noise(store: RunStore, block: Block) -> NoiseData:
    """Read the stored data of a noise."""
    cells = store.record.cells_on(block.spec)
    columns = {row.denoiser: image_scores(store, cells[row.spec]) for row in block.rows if row.scores}
    stored = read_pictures(store, block)
    made = stored.denoised if stored else {}
    errors = {
        name: analyse_errors(stored.clean, stored.noisy, pictures, stored.images)
        for name, pictures in made.items()
        if stored
    }
    return NoiseData(block, columns, stored, errors)


def noise_charts(board: Leaderboard, noise: NoiseData, looks: Mapping[str, Look]) -> list[Chart]:
    """The charts of one noise that have something to show."""
    block = noise.block
    remaining = {name: analysis.remaining_db for name, analysis in noise.errors.items()}
    with charts_style():
        made = (
            front_chart(board, block, looks),
            front_chart(board, block, looks, WORK),
            differences_chart(board, block, noise.scores(board.sort), looks),
            mismatch_chart(board, block, looks),
            spectrum_chart(block, frequencies(), remaining, looks) if remaining else None,
        )
    return [chart for chart in made if chart is not None]
