"""A run under other protocols for the terminal, as markdown, csv and JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from benchbox.records.run import MetricRecord
from benchbox.report.columns import Column
from benchbox.report.export import csv_of, escape, json_of, table_of
from benchbox.report.terminal import FACT_INDENT, fitting, hanging, in_parts, lay_out, widths_of
from benchbox.report.whatif import Outlook, ShiftedRow, WhatIf
from benchbox.report.words import NONE, count, grouped, score

_MOST_SWAPS = 4


@dataclass(frozen=True)
class _Line:
    """A row of a noise under all protocols."""

    denoiser: str
    under: dict[str, ShiftedRow]

    @property
    def best(self) -> tuple[str, ...]:
        """Keys of the columns to mark: none."""
        return ()


@dataclass(frozen=True)
class TerminalWhatIf:
    """A run under other protocols that rich can print; print it with ``crop=False``."""

    whatif: WhatIf

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the tables out for the available width; protocols that do not fit beside others go below them."""
        width, text_width = widths_of(console, options)
        for word, value in facts_of(self.whatif):
            yield hanging(f"{word:<{FACT_INDENT}}", value, text_width)
        unexplained: dict[str, str] = {}
        for title, outlooks in _sections(self.whatif):
            yield Text()
            yield hanging("", title, text_width, style="bold")
            columns = fitting(protocol_columns(outlooks), outlooks, width)
            yield from lay_out(columns, outlooks, outlooks, console, options, width)
            lines = _lines(outlooks)
            fixed, others = _line_columns(outlooks)
            for part in in_parts(fixed, others, lines, width):
                yield Text()
                yield from lay_out(part, lines, lines, console, options, width)
            if columns[-1].key != "words":
                unexplained |= {each.protocol: each.words for each in outlooks}
        yield Text()
        for name, words in unexplained.items():
            yield hanging("", f"{name}: {words}", text_width, style="dim")
        for note in notes_of(self.whatif):
            yield hanging("- ", note, text_width)


def render_whatif(whatif: WhatIf, format: str) -> str:
    """Render as ``markdown``, ``csv`` or ``json``."""
    if format == "json":
        return json_of(asdict(whatif))
    if format == "csv":
        return csv_of(_FIELDS, _csv_lines(whatif))
    lines = ["# Other protocols", "", *(f"- {word}: {escape(value)}" for word, value in facts_of(whatif))]
    for title, outlooks in _sections(whatif):
        fixed, others = _line_columns(outlooks)
        lines += ["", f"## {escape(title)}", "", *table_of(protocol_columns(outlooks), outlooks)]
        lines += ["", *table_of((*fixed, *others), _lines(outlooks))] if others else []
    return "\n".join([*lines, "", *(f"- {escape(note)}" for note in notes_of(whatif)), ""])


def shift_words(value: float, metric: MetricRecord) -> str:
    """A shift with its sign, unless it rounds to nothing."""
    words = score(value, metric, signed=True)
    return words if words.strip("+-0.") else words.lstrip("+-")


def facts_of(whatif: WhatIf) -> tuple[tuple[str, str], ...]:
    """What was compared."""
    return (
        ("run", whatif.run_id),
        ("data", f"{whatif.data}, {count(whatif.images, 'image')}"),
        ("protocol", whatif.protocol),
    )


def _sections(whatif: WhatIf) -> Iterator[tuple[str, list[Outlook]]]:
    """Outlooks of one noise and metric, with a title."""
    for noise, spec in dict.fromkeys((each.noise, each.metric.spec) for each in whatif.outlooks):
        outlooks = [each for each in whatif.outlooks if (each.noise, each.metric.spec) == (noise, spec)]
        yield f"{noise}, {outlooks[0].metric.title} under other protocols", outlooks


def protocol_columns(outlooks: Sequence[Outlook]) -> tuple[Column[Outlook], ...]:
    """Columns of the table of protocols."""
    metric = outlooks[0].metric

    def shifts(each: Outlook) -> str:
        return " to ".join(shift_words(shift, metric) for shift in each.shifts) if each.shifts else NONE

    def moved(each: Outlook) -> str:
        return f"{sum(row.moved for row in each.rows)} of {len(each.rows)}"

    def order(each: Outlook) -> str:
        return f"{sum(row.before.place != row.after.place for row in each.rows)} of {len(each.rows)}"

    def leader(each: Outlook) -> str:
        name, lead = each.leader()
        return name if math.isnan(lead) or each.shifts is None else f"{name} {score(lead, metric, signed=True)}"

    return (
        # The name of a row folds if the table is wide, and that is the column of this key.
        Column("denoiser", "protocol", "", lambda each: each.protocol, text=True),
        Column("shift", "shift of the rows", metric.unit, shifts),
        Column("tau", "tau", "", lambda each: NONE if math.isnan(each.tau) else f"{each.tau:.2f}"),
        Column("order", "places", "changed", order),
        Column("ranks", "ranks", "changed", moved),
        Column("leader", "leader, lead", metric.unit, leader, text=True),
        Column("words", "what it is", "", lambda each: each.words, 9, text=True),
    )


def _lines(outlooks: Sequence[Outlook]) -> list[_Line]:
    """Rows of all protocols, in the order of the run."""
    rows: dict[str, dict[str, ShiftedRow]] = {}
    for each in sorted(outlooks, key=lambda each: -len(each.rows)):
        for row in each.rows:
            rows.setdefault(row.denoiser, {})[each.protocol] = row
    return [_Line(name, under) for name, under in rows.items()]


def _line_columns(outlooks: Sequence[Outlook]) -> tuple[tuple[Column[_Line], ...], tuple[Column[_Line], ...]]:
    """Columns of the table of rows: those of the run, and one for each protocol with comparable scores."""
    metric = outlooks[0].metric

    def cell(protocol: str) -> Callable[[_Line], str]:
        def shift(line: _Line) -> str:
            row = line.under.get(protocol)
            if row is None:
                return NONE
            return shift_words(row.shift, metric) + (f" #{row.after.words}" if row.moved else "")

        return shift

    def first(line: _Line) -> ShiftedRow:
        return next(iter(line.under.values()))

    fixed: tuple[Column[_Line], ...] = (
        Column("rank", "#", "", lambda line: first(line).before.words),
        Column("denoiser", "denoiser", "", lambda line: line.denoiser, text=True),
        Column("value", metric.title, metric.unit, lambda line: score(first(line).before.value, metric)),
    )
    shown = [each.protocol for each in outlooks if each.shifts]
    return fixed, tuple(Column(name, name, metric.unit, cell(name)) for name in shown)


def notes_of(whatif: WhatIf) -> Iterator[str]:
    """The answer, and what is missing."""
    yield from answers_of(whatif)
    yield (
        "# marks a range of possible ranks that changes; tau is Kendall's rank correlation, 1 if no two rows change "
        "their order by the mean"
    )
    for each in whatif.outlooks:
        for reason, names in grouped((reason, name) for name, reason in each.left_out.items()):
            yield f"{each.protocol}, {each.noise}: without {names}: {reason}"
    yield from whatif.notes


def explained(whatif: WhatIf) -> str:
    """What the protocols are, in one line."""
    words = {each.protocol: each.words for each in whatif.outlooks}
    return "; ".join(f"{name}: {text}" for name, text in words.items())


def answers_of(whatif: WhatIf) -> Iterator[str]:
    """One sentence on each noise: whether the leader keeps its place, and the largest shift between two rows."""
    for _, outlooks in _sections(whatif):
        shifted = [each for each in outlooks if each.shifts]
        if not shifted:
            continue
        metric, noise = outlooks[0].metric, outlooks[0].noise
        name, lead = max(shifted, key=lambda each: len(each.rows)).leader(before=True)
        others = [each for each in shifted if each.leader()[0] != name]
        unit = f" {metric.unit}" if metric.unit else ""
        subject = f"{noise}, {metric.title}: {name}"
        if math.isnan(lead):
            continue
        if others:
            who = ", ".join(f"{each.leader()[0]} under {each.protocol}" for each in others)
            yield f"{subject} leads by {score(lead, metric)}{unit} as recorded, but {who}"
        else:
            leads = [each.leader()[1] for each in shifted]
            span = " to ".join(score(value, metric) for value in dict.fromkeys((min(leads), max(leads))))
            own = score(lead, metric)
            yield f"{subject} leads by {own}{unit} as recorded, and by {span}{unit} under every other protocol"
        widest = max(shifted, key=lambda each: _spread(each.shifts))
        amount = score(_spread(widest.shifts), metric)
        if amount.strip("0."):
            ends = [_at(widest.rows, pick) for pick in (min, max)]
            yield (
                f"{noise}, {metric.title}: the shifts of two rows differ by up to {amount}{unit} ({widest.protocol}: "
                + ", ".join(f"{row.denoiser} {shift_words(row.shift, metric)}" for row in ends)
                + ")"
            )
        for each in shifted:
            if pairs := [f"{first} passes {second}" for first, second in each.swaps()]:
                more = f" and {len(pairs) - _MOST_SWAPS} more" if len(pairs) > _MOST_SWAPS else ""
                yield f"{noise}, {metric.title}, {each.protocol}: {', '.join(pairs[:_MOST_SWAPS])}{more}"


def _spread(shifts: tuple[float, float] | None) -> float:
    return shifts[1] - shifts[0] if shifts else 0.0


def _at(rows: Sequence[ShiftedRow], pick: Callable[..., ShiftedRow]) -> ShiftedRow:
    return pick((row for row in rows if not math.isnan(row.shift)), key=lambda row: row.shift)


_FIELDS = (
    "noise", "metric", "protocol", "denoiser", "recorded", "value", "shift", "rank", "rank_to", "new_rank",
    "new_rank_to", "place", "new_place", "images", "tau", "reason", "run_id",
)  # fmt: skip


def _csv_lines(whatif: WhatIf) -> Iterator[dict[str, Any]]:
    """One line per noise, metric, protocol and row."""
    for each in whatif.outlooks:
        common: dict[str, Any] = {
            "noise": each.noise,
            "metric": each.metric.spec,
            "protocol": each.protocol,
            "run_id": whatif.run_id,
        }
        common |= {"images": each.images, "tau": each.tau}
        for row in each.rows:
            before, after = row.before, row.after
            yield common | {
                "denoiser": row.denoiser, "recorded": before.value, "value": after.value, "shift": row.shift,
                "rank": before.rank, "rank_to": before.rank_to, "new_rank": after.rank, "new_rank_to": after.rank_to,
                "place": before.place, "new_place": after.place,
            }  # fmt: skip
        for name, reason in each.left_out.items():
            yield common | {"denoiser": name, "reason": reason}
