"""A leaderboard as GitHub-flavoured markdown: a page that says by itself what was measured and how to make it again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchbox.report.columns import Column, R, columns_of, mismatch_columns, summary_columns
from benchbox.report.model import Leaderboard
from benchbox.report.notes import (
    MISMATCH_TITLE,
    advice_of,
    facts_of,
    insights_of,
    legend_of,
    notes_of,
    summary_title,
    title_of,
)
from benchbox.report.text import plain

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$@])")


def render(board: Leaderboard) -> str:
    """Write a leaderboard as markdown, with a line feed at its end."""
    columns = columns_of(board)
    lines = ["# Leaderboard", ""]
    lines += [f"- {word}: {escape(value)}" for word, value in facts_of(board)]
    versions = ", ".join(f"{name} {version}" for name, version in board.header.versions.items())
    if versions:
        lines.append(f"- versions: {escape(plain(versions))}")
    if board.header.command:
        lines += ["", "Made by", "", *_fenced(plain(board.header.command))]
    for block in board.blocks:
        lines += ["", f"## {escape(title_of(board, block))}", "", *table_of(columns, block.rows)]
        notes = (*notes_of(board, block, [column.key for column in columns]), *insights_of(board, block))
        lines += ["", *(f"- {escape(note)}" for note in notes)] if notes else []
        if block.mismatch:
            lines += ["", f"### {MISMATCH_TITLE}, {escape(plain(block.noise))}", ""]
            lines += table_of(mismatch_columns(board, block.mismatch), block.mismatch)
    if board.summary is not None:
        lines += ["", f"## {escape(summary_title(board, board.summary))}", ""]
        lines += table_of(summary_columns(board, board.summary), board.summary.rows)
    if board.advice:
        lines += ["", "## What to check", "", *(f"- {escape(one)}" for one in advice_of(board))]
    return "\n".join([*lines, "", escape(legend_of(board)).replace("\\* best", "**bold** best"), ""])


def escape(text: str) -> str:
    """Escape what markdown would take for its own, so that a name stays the name it is."""
    return _SPECIAL.sub(r"\\\1", text)


def table_of(columns: Sequence[Column[R]], rows: Sequence[R]) -> list[str]:
    """Lines of a table."""
    titles = [escape(f"{column.title} ({column.unit})" if column.unit else column.title) for column in columns]
    rule = [":--" if column.text else "--:" for column in columns]
    body = [[_cell(column, row) for column in columns] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (titles, rule, *body)]


def _cell(column: Column[R], row: R) -> str:
    text = escape(column.cell(row))
    return f"**{text}**" if column.key in row.best else text


def _fenced(text: str) -> list[str]:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", text, fence]
