"""A leaderboard as a piece of HTML for a notebook: the tables of eight columns and the lines below them."""

from __future__ import annotations

from markupsafe import Markup

from benchbox.report.board import Leaderboard
from benchbox.report.words import Column, R, brief_of, columns_of, main_columns, short_facts_of, title_of
from benchbox.system.text import printable


def board_html(board: Leaderboard) -> str:
    """Render a leaderboard without scripts and styles of its own, so that it takes the look of the notebook."""
    columns = main_columns(columns_of(board))
    facts = "; ".join(value for _, value in short_facts_of(board))
    parts = [Markup("<p>{}</p>").format(printable(facts))]
    for block in board.blocks:
        head = Markup().join(Markup("<th>{}</th>").format(_title(column)) for column in columns)
        rows = Markup().join(
            Markup("<tr>{}</tr>").format(Markup().join(_cell(column, row) for column in columns)) for row in block.rows
        )
        table = Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, rows)
        parts += [Markup("<p><b>{}</b></p>").format(printable(title_of(board, block))), table]
    notes = Markup().join(Markup("<li>{}</li>").format(printable(note)) for note in brief_of(board, "in run.report()"))
    return str(Markup("<div>{}<ul>{}</ul></div>").format(Markup().join(parts), notes))


def _title(column: Column[R]) -> str:
    return f"{column.title} ({column.unit})" if column.unit else column.title


def _cell(column: Column[R], row: R) -> Markup:
    text = Markup("<b>{}</b>" if column.key in row.best else "{}").format(printable(column.cell(row)))
    return Markup('<td style="text-align: {}">{}</td>').format("left" if column.text else "right", text)
