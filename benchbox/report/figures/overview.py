"""Charts across noises and protocols: levels of a noise, latencies, the mean over all, and shifts by protocol."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from benchbox.report.board import Block, Leaderboard, Summary
from benchbox.report.figures.axes import (
    HEIGHT,
    INK,
    charts_style,
    latencies_along,
    legend_below,
    lower_is_up,
    metric_label,
    new_axes,
    short,
)
from benchbox.report.figures.charts import Chart, Looks, front_chart, has_score
from benchbox.report.whatif import Outlook, WhatIf
from benchbox.report.whatif_export import shift_words
from benchbox.report.words import noise_family, score, three_digits
from benchbox.stats.summaries import Mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, MOST_ACROSS = 11.0, 4
_FAR = 3
"""A protocol whose largest shift is this many times the usual one has a scale of its own, or others would vanish."""


def run_charts(board: Leaderboard, looks: Looks) -> list[Chart]:
    """The charts over all noises that have something to show."""
    with charts_style():
        made = (
            front_chart(board, _mean_block(board, board.summary), looks) if board.summary is not None else None,
            *(levels_chart(board, family, blocks, looks) for family, blocks in noise_families(board)),
            latency_chart(board, looks),
        )
    return [chart for chart in made if chart is not None]


def _mean_block(board: Leaderboard, summary: Summary) -> Block:
    """The ranked rows of the summary as if all noises were one; a mean over noises has no interval."""
    known = {row.denoiser: row for row in board.blocks[0].rows}
    rows = [
        replace(
            known[row.denoiser],
            rank=row.rank,
            rank_to=row.rank_to,
            scores={board.sort: Mean(row.mean, summary.compared)},
        )
        for row in summary.rows
        if row.rank is not None
    ]
    return Block(f"the mean over {len(summary.noises)} noises", "", None, tuple(rows))


def levels_chart(board: Leaderboard, family: str, blocks: Sequence[Block], looks: Looks) -> Chart:
    """Quality over noise level for one family of noise, with confidence bands; `blocks` by ascending level."""
    figure, axes = new_axes(height=HEIGHT + 0.8)
    titles: dict[str, str] = {}
    for number, denoiser in enumerate(looks):
        points = [
            (rms_of(block), row.scores[board.sort])
            for block in blocks
            for row in block.rows
            if row.denoiser == denoiser and has_score(row, board.sort)
        ]
        if not points:
            continue
        levels, means = zip(*points, strict=True)
        look = looks[denoiser]
        axes.fill_between(levels, [m.low for m in means], [m.high for m in means], color=look.colour, alpha=0.18, lw=0)
        (line,) = axes.plot(levels, [m.mean for m in means], label=short(denoiser), **look.line)
        line.set_gid(f"line{number}")
        titles[f"line{number}"] = f"{denoiser}: " + ", ".join(
            f"{score(mean.mean, board.sort_metric)} at {level:.3g}" for level, mean in points
        )
    axes.set_xlabel("noise level: root mean square error of the noisy images, [0, 1] scale")
    axes.set_ylabel(metric_label(board))
    lower_is_up(board, axes)
    legend_below(figure, axes)
    level = f"the level of {family} noise" + (f" ({blocks[0].level_title})" if blocks[0].level_title else "")
    return Chart(
        "levels",
        f"{board.sort_metric.title} over {level}; bands: 95 % intervals of the mean",
        f"Line chart of {board.sort_metric.title} over {level}. " + " ".join(f"{title}." for title in titles.values()),
        figure,
        titles,
    )


def latency_chart(board: Leaderboard, looks: Looks) -> Chart | None:
    """Latency of every timed denoiser: p50, p90 and p99; None if nothing was timed."""
    by_denoiser = {row.denoiser: row.speed for block in board.blocks for row in block.rows if row.speed}
    if not by_denoiser:
        return None
    speeds = sorted(by_denoiser.items(), key=lambda pair: pair[1].latency_p50_ms)
    figure, axes = new_axes(height=1.0 + 0.27 * len(speeds))
    titles = {}
    for number, (denoiser, speed) in enumerate(speeds):
        look = looks[denoiser]
        last = speed.latency_p90_ms if math.isnan(speed.latency_p99_ms) else speed.latency_p99_ms
        ends = (speed.latency_p50_ms, last)
        axes.plot(ends, [-number, -number], color=look.colour, linewidth=1.5)
        axes.plot(speed.latency_p90_ms, -number, marker="|", color=look.colour, markersize=8, markeredgewidth=1.5)
        axes.plot(speed.latency_p99_ms, -number, marker="|", color=look.colour, markersize=5, markeredgewidth=1.5)
        (point,) = axes.plot(speed.latency_p50_ms, -number, marker=look.marker, color=look.colour, linestyle="none")
        point.set_gid(f"point{number}")
        p50, p90, p99 = map(three_digits, (speed.latency_p50_ms, speed.latency_p90_ms, speed.latency_p99_ms))
        titles[f"point{number}"] = f"{denoiser}: p50 {p50} ms, p90 {p90} ms, p99 {p99} ms"
    latencies_along(axes)
    axes.set_yticks([-number for number in range(len(speeds))], [short(name) for name, _ in speeds])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("latency of one image in ms: p50 (marker), p90 and p99 (ticks)")
    return Chart(
        "latency",
        "Latency of one image: p50 (marker), p90 and p99 (ticks)",
        "Chart of latencies. " + " ".join(f"{title}." for title in titles.values()),
        figure,
        titles,
    )


def noise_families(board: Leaderboard) -> Iterator[tuple[str, list[Block]]]:
    """Families of noise with several levels in a run, each with its blocks by ascending level."""
    families: dict[str, list[Block]] = {}
    for block in board.blocks:
        if block.noisy_psnr is not None and math.isfinite(block.noisy_psnr.mean):
            families.setdefault(noise_family(block.spec), []).append(block)
    for family, blocks in families.items():
        if len(blocks) > 1:
            yield family, sorted(blocks, key=rms_of)


def rms_of(block: Block) -> float:
    """Root mean square error of the noisy images, from their PSNR."""
    return 10 ** (-block.noisy_psnr.mean / 20) if block.noisy_psnr is not None else math.nan


def protocol_charts(whatif: WhatIf, looks: Looks) -> list[Chart]:
    """Draw the shifts of all rows under the other protocols of one noise, one chart a metric."""
    by_metric: dict[str, list[Outlook]] = {}
    for each in whatif.outlooks:
        if each.shifts:
            by_metric.setdefault(each.metric.spec, []).append(each)
    return [_chart(shifted, looks, f"protocols{number}") for number, shifted in enumerate(by_metric.values(), start=1)]


def _chart(shifted: Sequence[Outlook], looks: Looks, key: str) -> Chart:
    from matplotlib.figure import Figure

    metric, noise = shifted[0].metric, shifted[0].noise
    names = [row.denoiser for row in max(shifted, key=lambda each: len(each.rows)).rows]
    reach = {each.protocol: max(abs(row.shift) for row in each.rows) for each in shifted}
    usual = statistics.median(reach.values())
    near = [each for each in shifted if reach[each.protocol] <= _FAR * usual]
    down = math.ceil(len(shifted) / MOST_ACROSS)
    across = math.ceil(len(shifted) / down)
    titles: dict[str, str] = {}
    with charts_style():
        # As wide for one protocol as for many, so that the text of all charts has one size.
        figure = Figure(figsize=(WIDTH, down * (0.75 + 0.19 * len(names))), layout="constrained")
        grid = figure.subplots(down, MOST_ACROSS, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for number, each in enumerate(shifted):
            axes = grid[number // across, number % across]
            axes.set_axis_on()
            titles |= _draw(axes, each, names, looks, number)
            # Protocols of one scale can be compared by eye; a far one says so in its title.
            peers = near if each in near else [each]
            low = min(0.0, *(peer.shifts[0] for peer in peers if peer.shifts))
            high = max(0.0, *(peer.shifts[1] for peer in peers if peer.shifts))
            room = 0.06 * (high - low) or 1.0
            axes.set_xlim(low - room, high + room)
            axes.set_title(_title(each) + ("" if each in near else ", own scale"), fontsize=9, loc="left")
            axes.set_yticks(range(len(names)), [short(name) for name in names] if number % across == 0 else [])
        unit = f" in {metric.unit}" if metric.unit else ""
        figure.supxlabel(f"shift of {metric.title}{unit}", fontsize=9)
    moved = sum(row.moved for each in shifted for row in each.rows)
    return Chart(
        key,
        f"Shift of {metric.title} under other protocols, rows in the order of the run; filled, with the new range "
        "of ranks: a rank that moves",
        f"Charts of the shifts of {metric.title} for {noise} under {', '.join(reach)}; {moved} ranks move. "
        + " ".join(f"{title}." for title in titles.values()),
        figure,
        titles,
    )


def _title(each: Outlook) -> str:
    return each.protocol if math.isnan(each.tau) else f"{each.protocol}, tau {each.tau:.2f}"


def _draw(axes: Axes, each: Outlook, names: Sequence[str], looks: Looks, number: int) -> dict[str, str]:
    titles = {}
    for row in each.rows:
        place, look = names.index(row.denoiser), looks[row.denoiser]
        axes.plot([0, row.shift], [place, place], color=look.colour, linewidth=2)
        face = look.colour if row.moved else "none"
        (point,) = axes.plot(
            row.shift,
            place,
            marker=look.marker,
            color=look.colour,
            markerfacecolor=face,
            markersize=5,
            linestyle="none",
        )
        gid = f"shift{number}-{place}"
        point.set_gid(gid)
        ranks = f", rank {row.before.words}" + (f" becomes {row.after.words}" if row.moved else "")
        amount = f"{shift_words(row.shift, each.metric)} {each.metric.unit}".rstrip()
        titles[gid] = f"{each.protocol}, {row.denoiser}: {amount}{ranks}"
        if row.moved:
            axes.annotate(
                f"#{row.after.words}", (1, place), xycoords=("axes fraction", "data"), xytext=(3, -3),
                textcoords="offset points", fontsize=7,
            )  # fmt: skip
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.locator_params(axis="x", nbins=4)
    return titles
