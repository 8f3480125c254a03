"""A comparison of two runs for the terminal, as markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from benchbox.report.board import Speed
from benchbox.report.compare import ComparedRow, RunComparison, relative
from benchbox.report.export import escape, jsonable, table_of
from benchbox.report.gates import Breach
from benchbox.report.terminal import FACT_INDENT, fitting, hanging, lay_out, widths_of
from benchbox.report.words import NONE, Column, count, metric_title, score, three_digits
from benchbox.stats.separation import FEWEST_IMAGES


@dataclass(frozen=True)
class TerminalComparison:
    """What rich prints of a comparison; print it with ``crop=False``.

    Attributes
    ----------
    comparison : RunComparison
    breaches : tuple of Breach
    """

    comparison: RunComparison
    breaches: tuple[Breach, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the tables out for the width at hand."""
        width, text_width = widths_of(console, options)
        for word, value in _facts(self.comparison):
            yield hanging(f"{word:<{FACT_INDENT}}", value, text_width)
        rows = [row for row in self.comparison.rows if not row.reason]
        columns = fitting(_columns(self.comparison), rows, width)
        for noise in dict.fromkeys(row.noise for row in rows):
            yield Text()
            yield hanging("", noise, text_width, style="bold")
            yield from lay_out(columns, [row for row in rows if row.noise == noise], rows, console, options, width)
        yield Text()
        for note in _notes(self.comparison):
            yield hanging("- ", note, text_width)
        for line in _verdicts(self.breaches):
            yield hanging("gate failed: ", line, text_width, style="bold red")


def render_comparison(comparison: RunComparison, breaches: Sequence[Breach], format: str) -> str:
    """Write a comparison as text.

    Parameters
    ----------
    comparison : RunComparison
    breaches : sequence of Breach
    format : {'markdown', 'json'}

    Returns
    -------
    str
    """
    if format == "json":
        values = dataclasses.asdict(comparison) | {"breaches": [dataclasses.asdict(one) for one in breaches]}
        return json.dumps(jsonable(values), indent=2, allow_nan=False) + "\n"
    lines = ["# Comparison", "", *(f"- {word}: {escape(value)}" for word, value in _facts(comparison))]
    rows = [row for row in comparison.rows if not row.reason]
    for noise in dict.fromkeys(row.noise for row in rows):
        lines += ["", f"## {escape(noise)}", ""]
        lines += table_of(_columns(comparison), [row for row in rows if row.noise == noise])
    lines += ["", *(f"- {escape(note)}" for note in _notes(comparison))]
    lines += [f"- **gate failed: {escape(line)}**" for line in _verdicts(breaches)]
    return "\n".join([*lines, ""])


def _facts(comparison: RunComparison) -> tuple[tuple[str, str], ...]:
    return (
        ("before", comparison.first),
        ("after", comparison.second),
        ("data", f"{comparison.data}, {count(comparison.images, 'image')} of both"),
        ("protocol", comparison.protocol),
    )


def _columns(comparison: RunComparison) -> tuple[Column[ComparedRow], ...]:
    metric = next(one for one in comparison.metrics if one.label == comparison.metric)
    label, title = metric.label, metric_title(metric)

    def change(row: ComparedRow) -> str:
        one = row.changes.get(label)
        if one is None:
            return NONE
        words = score(one.difference, metric, signed=True)
        if math.isnan(one.low):
            return words
        return f"{words} ({score(one.low, metric, signed=True)} to {score(one.high, metric, signed=True)})"

    def mean(row: ComparedRow, side: str) -> str:
        return score(getattr(row.changes[label], side), metric) if label in row.changes else NONE

    def chance(row: ComparedRow) -> str:
        return three_digits(row.changes[label].p) if label in row.changes else NONE

    def latency(row: ComparedRow) -> str:
        if row.speed_before is None or row.speed_after is None:
            return NONE
        before, after = row.speed_before.latency_p50_ms, row.speed_after.latency_p50_ms
        if comparison.normalised:
            if row.calibration_before is None or row.calibration_after is None:
                return NONE
            before, after = before / row.calibration_before, after / row.calibration_after
        share = relative(before, after)
        return NONE if math.isnan(share) else f"{100 * share:+.1f}"

    def raw(speed: Speed | None) -> str:
        return NONE if speed is None else three_digits(speed.latency_p50_ms)

    columns = [
        Column[ComparedRow]("denoiser", "denoiser", "", lambda row: row.denoiser, text=True),
        Column[ComparedRow]("before", f"{title} before", metric.unit, lambda row: mean(row, "before"), 2),
        Column[ComparedRow]("after", "after", metric.unit, lambda row: mean(row, "after"), 1),
        Column[ComparedRow](label, "change", metric.unit, change),
        Column[ComparedRow]("p", "p", "", chance, 4),
    ]
    if not comparison.speed_caveat:
        columns.append(Column[ComparedRow]("latency", "p50", "%", latency, 3))
    elif comparison.normalised:
        columns += [
            Column[ComparedRow]("latency_before", "p50 before", "ms", lambda row: raw(row.speed_before), 6),
            Column[ComparedRow]("latency_after", "after", "ms", lambda row: raw(row.speed_after), 5),
            Column[ComparedRow]("latency", "p50 normalised", "%", latency, 3),
        ]
    return tuple(columns)


def _notes(comparison: RunComparison) -> list[str]:
    notes = [_marks(comparison)]
    reasons: dict[str, list[str]] = {}
    for row in comparison.rows:
        if row.reason:
            reasons.setdefault(row.reason, []).append(f"{row.denoiser} on {row.noise}")
    notes += [f"{reason}: {', '.join(names)}" for reason, names in reasons.items()]
    for row in comparison.rows:
        change = row.changes.get(comparison.metric)
        if change is not None and change.images < comparison.images:
            left = count(comparison.images - change.images, "image")
            notes.append(f"{row.denoiser} on {row.noise}: {left} without a score in both runs left out")
    if comparison.refitted:
        names = ", ".join(comparison.refitted)
        notes.append(f"weights changed since the first run: the files of {names} are others in the second")
    if comparison.normalised:
        notes.append(
            f"{comparison.speed_caveat}; so the change of p50, and every gate on speed, is normalised: each is "
            "taken over the time of the calibration kernel on its machine. That takes out how fast a machine is as a "
            "whole, not that it may suit a denoiser better"
        )
    elif comparison.speed_caveat:
        notes.append(f"latencies are not compared: {comparison.speed_caveat}")
    return notes


def _marks(comparison: RunComparison) -> str:
    tested = [change for row in comparison.rows for change in row.changes.values()]
    if tested and all(math.isnan(change.low) for change in tested):
        return f"nothing is marked: {count(comparison.images, 'image')} cannot show a change, {FEWEST_IMAGES} may"
    return "marked: significant changes (their 95 % interval leaves out zero; it allows for the number of rows)"


def _verdicts(breaches: Sequence[Breach]) -> list[str]:
    return [f"{one.gate}: {one.denoiser} on {one.noise}: {one.found}" for one in breaches]
