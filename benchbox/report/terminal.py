"""A leaderboard in the terminal: drops columns when it is narrow and never relies on colour alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from benchbox.report.board import Leaderboard
from benchbox.report.columns import MISMATCH_TITLE, Column, R, columns_of, mismatch_columns, summary_columns
from benchbox.report.words import (
    NONE,
    advice_of,
    brief_of,
    facts_of,
    insights_of,
    legend_of,
    notes_of,
    short_facts_of,
    summary_title,
    title_of,
)
from benchbox.system.text import printable

GAP = 1
FACT_INDENT = 9
NARROWEST_NAME = 18
PIPED_WIDTH = 100


@dataclass(frozen=True)
class TerminalLeaderboard:
    """A leaderboard that rich can print.

    Print it with ``crop=False``: in a pipe, long names lengthen the lines and are never folded. The tables come with a
    few lines; `verbose` adds all facts, notes and checks.
    """

    board: Leaderboard
    verbose: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the tables out for the available width."""
        width, text_width = widths_of(console, options)
        for word, value in facts_of(self.board) if self.verbose else short_facts_of(self.board):
            yield hanging(f"{word:<{FACT_INDENT}}", value, text_width)
        rows = [row for block in self.board.blocks for row in block.rows]
        everything = columns_of(self.board)
        columns = fitting(everything, rows, width)
        shown = [column.key for column in columns]
        for block in self.board.blocks:
            yield Text()
            yield hanging("", title_of(self.board, block), text_width, style="bold")
            yield from lay_out(columns, block.rows, rows, console, options, width)
            if self.verbose:
                for note in (*notes_of(self.board, block, shown), *insights_of(self.board, block)):
                    yield hanging("- ", note, text_width)
            if block.mismatch:
                yield Text()
                yield hanging("", f"{MISMATCH_TITLE}, {block.noise}", text_width, style="bold")
                given = mismatch_columns(self.board, block.mismatch)
                yield from lay_out(given, block.mismatch, block.mismatch, console, options, width)
        summary = self.board.summary
        if summary is not None:
            yield Text()
            yield hanging("", summary_title(self.board, summary), text_width, style="bold")
            kept = fitting(summary_columns(self.board, summary), summary.rows, width)
            yield from lay_out(kept, summary.rows, summary.rows, console, options, width)
        yield Text()
        if not self.verbose:
            for note in brief_of(self.board):
                yield one_line(note, text_width)
            return
        for advice in advice_of(self.board):
            yield hanging("check: ", advice, text_width, style="yellow")
        yield hanging("", legend_of(self.board), text_width, style="dim")
        # Notes replace these two columns, so they do not count as hidden.
        hidden = [column.title for column in everything if column.key not in (*shown, "trained_on", "tuned_on")]
        if hidden:
            words = f"hidden at this width: {', '.join(hidden)} (use --format markdown to see everything)"
            yield hanging("", words, text_width, style="dim")


def widths_of(console: Console, options: ConsoleOptions) -> tuple[int, int]:
    """Widths of tables and of text; in a pipe, text is not wrapped."""
    if console.is_terminal:
        return options.max_width, options.max_width
    return max(options.max_width, PIPED_WIDTH), 10**6


def lay_out(
    columns: Sequence[Column[R]],
    rows: Sequence[R],
    all_rows: Sequence[R],
    console: Console,
    options: ConsoleOptions,
    width: int,
) -> RenderResult:
    """Lay out the rows of a block, with the same column widths in all blocks."""
    widths = {column.key: _width(column, all_rows) for column in columns}
    needed = sum(widths.values()) + GAP * len(widths)
    if not console.is_terminal:
        width = max(width, needed)
    # Names get what the other columns leave, and fold if that is too little; in a pipe they are never folded.
    widths["denoiser"] = min(widths["denoiser"], widths["denoiser"] - needed + width + GAP)
    headings = {column.key: _heading(column, all_rows) for column in columns}
    table = _table(columns, rows, widths, headings, boxed=console.is_terminal and not options.ascii_only)
    yield from console.render(table, options.update(width=width))


def fitting(columns: Sequence[Column[R]], rows: Sequence[R], width: int) -> tuple[Column[R], ...]:
    """Columns that fit a width, dropping the least important first; names may fold to `NARROWEST_NAME`."""
    kept = list(columns)
    widths = {
        column.key: GAP + min(_width(column, rows), NARROWEST_NAME if column.key == "denoiser" else width)
        for column in columns
    }
    while True:
        needed = sum(widths[column.key] for column in kept)
        optional = [column for column in kept if column.keep]
        if needed <= width or not optional:
            return tuple(kept)
        kept.remove(max(optional, key=lambda column: column.keep))


def in_parts(
    fixed: Sequence[Column[R]], others: Sequence[Column[R]], rows: Sequence[R], width: int
) -> Iterator[tuple[Column[R], ...]]:
    """Split columns into tables that fit a width, each of which begins with the fixed columns."""
    part: list[Column[R]] = []
    for column in others:
        # Marked as optional, a column that does not fit is the one that `fitting` drops.
        if part and fitting((*fixed, *part, replace(column, keep=1)), rows, width)[-1].key != column.key:
            yield (*fixed, *part)
            part = []
        part.append(column)
    if part:
        yield (*fixed, *part)


def _width(column: Column[R], rows: Sequence[R]) -> int:
    mark = 0 if column.text or column.key == "rank" else 1
    words = (*_heading(column, rows), *(column.cell(row) for row in rows))
    return max(line(word).cell_len for word in words) + mark


def _heading(column: Column[R], rows: Sequence[R]) -> tuple[str, str]:
    """Two lines: the title and the unit; a variant (``SSIM`` and ``RGB mean``) is below if the cells are narrower."""
    name, _, variant = column.title.partition(" ")
    longest = max((line(column.cell(row)).cell_len for row in rows), default=0)
    if variant.replace(" ", "").isalnum() and len(name) > 1 and name.isupper() and longest < len(column.title):
        return name, f"{variant} {column.unit}".rstrip()
    return column.title, column.unit


def _table(
    columns: Sequence[Column[R]],
    rows: Sequence[R],
    widths: Mapping[str, int],
    headings: Mapping[str, tuple[str, str]],
    *,
    boxed: bool,
) -> Table:
    # A box already separates its columns.
    padding = 0 if boxed else (0, GAP, 0, 0)
    lines = box.SIMPLE_HEAD if boxed else None
    table = Table(box=lines, padding=padding, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        mark = "" if column.text or column.key == "rank" else " "
        above, below = headings[column.key]
        title = line(f"{above}{mark}")
        if below:
            title.append("\n").append(line(f"{below}{mark}"))
        table.add_column(
            title,
            justify="left" if column.text else "right",
            width=widths[column.key],
            no_wrap=column.key != "denoiser",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(_cell(column, row) for column in columns), style="dim" if columns[0].cell(row) == NONE else "")
    return table


def _cell(column: Column[R], row: R) -> Text:
    text = column.cell(row)
    if column.text or column.key == "rank":
        return line(text)
    best = column.key in row.best
    return line(f"{text}*" if best else f"{text} ", style="bold green" if best else "")


def line(text: str, style: str = "") -> Text:
    """One line of untrusted text, with control characters made harmless."""
    return Text(printable(text), style=style)


def one_line(text: str, width: int) -> Text:
    """Text that ends with an ellipsis where the line is too short for it; the verbose form has it whole."""
    text = printable(text)
    return Text(text if len(text) <= width else f"{text[: width - 1].rstrip()}…", no_wrap=True, overflow="ignore")


def hanging(start: str, text: str, width: int, style: str = "") -> Text:
    """Wrap text with a hanging indent; a word too long for a line is broken, never cut."""
    lines = textwrap.wrap(printable(start + text), width, subsequent_indent=" " * len(start), break_on_hyphens=False)
    return Text("\n".join(lines), style=style, no_wrap=True, overflow="ignore")
