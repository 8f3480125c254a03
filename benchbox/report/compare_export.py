"""A comparison of two runs for the terminal, as markdown and as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from benchbox.report.board import Speed
from benchbox.report.columns import Column
from benchbox.report.compare import ComparedRow, RunComparison, relative
from benchbox.report.export import escape, json_of, table_of
from benchbox.report.gates import Breach
from benchbox.report.terminal import FACT_INDENT, fitting, hanging, lay_out, widths_of
from benchbox.report.words import NONE, count, grouped, score, three_digits
from benchbox.stats.summaries import FEWEST_IMAGES


@dataclass(frozen=True)
class TerminalComparison:
    """A comparison that rich can print; print it with ``crop=False``."""

    comparison: RunComparison
    breaches: tuple[Breach, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the tables out for the available width."""
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
        for line in map(str, self.breaches):
            yield hanging("gate failed: ", line, text_width, style="bold red")


def render_comparison(comparison: RunComparison, breaches: Sequence[Breach], format: str) -> str:
    """Render a comparison as ``markdown`` or ``json``."""
    if format == "json":
        values = dataclasses.asdict(comparison) | {"breaches": [dataclasses.asdict(breach) for breach in breaches]}
        return json_of(values)
    lines = ["# Comparison", "", *(f"- {word}: {escape(value)}" for word, value in _facts(comparison))]
    rows = [row for row in comparison.rows if not row.reason]
    for noise in dict.fromkeys(row.noise for row in rows):
        lines += ["", f"## {escape(noise)}", ""]
        lines += table_of(_columns(comparison), [row for row in rows if row.noise == noise])
    lines += ["", *(f"- {escape(note)}" for note in _notes(comparison))]
    lines += [f"- **gate failed: {escape(line)}**" for line in map(str, breaches)]
    return "\n".join([*lines, ""])


def _facts(comparison: RunComparison) -> tuple[tuple[str, str], ...]:
    return (
        ("before", comparison.first),
        ("after", comparison.second),
        ("data", f"{comparison.data}, {count(comparison.images, 'shared image')}"),
        ("protocol", comparison.protocol),
    )


def _columns(comparison: RunComparison) -> tuple[Column[ComparedRow], ...]:
    metric = next(column for column in comparison.metrics if column.spec == comparison.metric)
    label, title = metric.spec, metric.title

    def difference(row: ComparedRow) -> str:
        change = row.changes.get(label)
        if change is None:
            return NONE
        words = score(change.difference, metric, signed=True)
        if math.isnan(change.low):
            return words
        return f"{words} ({score(change.low, metric, signed=True)} to {score(change.high, metric, signed=True)})"

    def mean(row: ComparedRow, side: str) -> str:
        return score(getattr(row.changes[label], side), metric) if label in row.changes else NONE

    def p_value(row: ComparedRow) -> str:
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
        Column[ComparedRow](label, "change", metric.unit, difference),
        Column[ComparedRow]("p", "p", "", p_value, 4),
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
    notes += [f"{reason}: {names}" for reason, names in grouped(_missing(comparison))]
    for row in comparison.rows:
        change = row.changes.get(comparison.metric)
        if change is not None and change.images < comparison.images:
            left = count(comparison.images - change.images, "image")
            notes.append(f"{row.denoiser} on {row.noise}: {left} left out, because a run has no score for them")
    if comparison.refitted:
        names = ", ".join(comparison.refitted)
        notes.append(f"files such as weights changed between the runs: {names}")
    if comparison.normalised:
        notes.append(
            f"{comparison.speed_caveat}, so p50 changes and speed gates are normalised by the time of the calibration "
            "kernel. That removes the overall speed of a machine, but not how well it suits a denoiser"
        )
    elif comparison.speed_caveat:
        notes.append(f"latencies are not compared: {comparison.speed_caveat}")
    return notes


def _missing(comparison: RunComparison) -> Iterator[tuple[str, str]]:
    """Why rows are not compared, with their names: all on a noise in one, or one by one."""
    for noise in dict.fromkeys(row.noise for row in comparison.rows):
        rows = [row for row in comparison.rows if row.noise == noise]
        if len(rows) > 1 and rows[0].reason and all(row.reason == rows[0].reason for row in rows):
            yield rows[0].reason, f"all {len(rows)} rows on {noise}"
        else:
            yield from ((row.reason, f"{row.denoiser} on {noise}") for row in rows)


def _marks(comparison: RunComparison) -> str:
    tested = [change for row in comparison.rows for change in row.changes.values()]
    if tested and all(math.isnan(change.low) for change in tested):
        images = count(comparison.scenes or comparison.images, "scene" if comparison.scenes else "image")
        are = "is" if images.startswith("1 ") else "are"
        return f"no change is marked, because {images} {are} too few to test (minimum {FEWEST_IMAGES})"
    return "marked changes are significant: their 95 % interval, adjusted for the number of rows, excludes zero"
