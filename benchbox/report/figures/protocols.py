"""How far other protocols shift each row: one small chart a protocol, with the rows of all of them in one order."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchbox.report.figures.axes import INK, Look, charts_style, short
from benchbox.report.figures.charts import Chart
from benchbox.report.whatif import Outlook, WhatIf
from benchbox.report.whatif_export import shift_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, MOST_ACROSS = 11.0, 4
_FAR = 3
"""A protocol whose largest shift is this many times the usual one has a scale of its own, or others would vanish."""


def protocol_charts(whatif: WhatIf, looks: Mapping[str, Look]) -> list[Chart]:
    """Draw the shifts of all rows under the other protocols of one noise, one chart a metric."""
    by_metric: dict[str, list[Outlook]] = {}
    for each in whatif.outlooks:
        if each.shifts:
            by_metric.setdefault(each.metric.spec, []).append(each)
    return [_chart(shifted, looks, f"protocols{number}") for number, shifted in enumerate(by_metric.values(), start=1)]


def _chart(shifted: Sequence[Outlook], looks: Mapping[str, Look], key: str) -> Chart:
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


def _draw(axes: Axes, each: Outlook, names: Sequence[str], looks: Mapping[str, Look], number: int) -> dict[str, str]:
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
