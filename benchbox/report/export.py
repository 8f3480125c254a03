"""A leaderboard as markdown, csv, JSON, LaTeX, and a piece of HTML for a notebook."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from benchbox.report import words
from benchbox.report.board import Block, Leaderboard, Row
from benchbox.report.columns import (
    MISMATCH_TITLE,
    NETWORK_COLUMNS,
    Column,
    R,
    columns_of,
    main_columns,
    mismatch_columns,
    recognition_columns,
    summary_columns,
)
from benchbox.report.ranked import SPEED_COLUMNS
from benchbox.report.recognition import recognition_title
from benchbox.system.text import printable

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$@])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}


def render_markdown(board: Leaderboard) -> str:
    """Render a leaderboard as markdown: tables of eight columns, then all columns, facts and notes, folded."""
    columns = main_columns(columns_of(board))
    lines = ["# Leaderboard", "", *(f"- {word}: {escape(value)}" for word, value in words.short_facts_of(board))]
    for block in board.blocks:
        lines += ["", f"## {escape(words.title_of(board, block))}", "", *table_of(columns, block.rows)]
    if board.summary is not None:
        lines += ["", f"## {escape(words.summary_title(board, board.summary))}", ""]
        lines += table_of(summary_columns(board, board.summary), board.summary.rows)
    lines += ["", *(f"- {escape(note)}" for note in words.brief_of(board, "all below"))]
    # The blank lines let GitHub render what is between the tags.
    lines += ["", "<details>", "<summary>All columns, facts and notes</summary>", "", *_details_of(board)]
    return "\n".join([*lines, "", "</details>", ""])


def _details_of(board: Leaderboard) -> list[str]:
    """Lines of what the tables of eight columns leave out."""
    columns = columns_of(board)
    lines = [f"- {word}: {escape(value)}" for word, value in words.facts_of(board)]
    versions = ", ".join(f"{name} {version}" for name, version in board.header.versions.items())
    if versions:
        lines.append(f"- versions: {escape(versions)}")
    if board.header.command:
        lines += ["", "Command", "", *_fenced(board.header.command)]
    for block in board.blocks:
        lines += ["", f"### {escape(words.title_of(board, block))}", "", *table_of(columns, block.rows)]
        notes = (*words.notes_of(board, block, [column.key for column in columns]), *words.insights_of(board, block))
        lines += ["", *(f"- {escape(note)}" for note in notes)] if notes else []
        if block.mismatch:
            lines += ["", f"#### {MISMATCH_TITLE}, {escape(block.noise)}", ""]
            lines += table_of(mismatch_columns(board, block.mismatch), block.mismatch)
        for recognition in block.recognition:
            lines += ["", f"#### {escape(recognition_title(recognition))}, {escape(block.noise)}", ""]
            lines += table_of(recognition_columns(recognition), recognition.rows)
    if board.advice:
        lines += ["", "### What to check", "", *(f"- {escape(advice)}" for advice in words.advice_of(board))]
    return [*lines, "", escape(words.legend_of(board)).replace("\\* best", "**bold** best")]


def escape(text: str) -> str:
    """Escape markdown syntax, so that names appear unchanged."""
    return _SPECIAL.sub(r"\\\1", printable(text))


def table_of(columns: Sequence[Column[R]], rows: Sequence[R]) -> list[str]:
    """Lines of a markdown table."""
    titles = [escape(_titled(column)) for column in columns]
    rule = [":--" if column.text else "--:" for column in columns]
    body = [[_cell(column, row) for column in columns] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (titles, rule, *body)]


def _cell(column: Column[R], row: R) -> str:
    text = escape(column.cell(row))
    return f"**{text}**" if column.key in row.best else text


def _fenced(text: str) -> list[str]:
    text = printable(text)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", text, fence]


def render_csv(boards: Sequence[Leaderboard]) -> str:
    """Render one line per run, noise and denoiser at full precision, repeating the facts of its run on every line.

    A column that a run lacks is empty on its lines. Text that a spreadsheet would take for a formula is prefixed with
    ``'``.
    """
    # Runs may differ in metrics and timing: each group lists what any of them has, in the order of first appearance.
    groups = zip(*map(_csv_groups, boards), strict=True)
    names = list(dict.fromkeys(name for group in groups for part in group for name in part))
    lines = (_csv_line(board, block, row) for board in boards for block in board.blocks for row in block.rows)
    return csv_of(names, lines)


def csv_of(names: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> str:
    """The text of a csv file; NaN, like a value that a line lacks, is an empty cell."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(map(unformula, names))
    writer.writerows([_csv_cell(line.get(name)) for name in names] for line in lines)
    return sink.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str):
        return unformula(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def _csv_groups(board: Leaderboard) -> list[list[str]]:
    """Columns of a run, in groups that keep their order if several runs share a file."""
    speed = [*SPEED_COLUMNS, "latency_p50_within", "samples", "threads", "batch", "machine"] if board.timing else []
    return [
        ["noise", "rank", "rank_to", "denoiser"],
        [f"{metric.spec}{part}" for metric in board.metrics for part in ("", "_low", "_high")],
        ["to_best", "to_best_low", "to_best_high", "to_best_p"],
        speed,
        ["latency_normalised"] if words.has_normalised(board) else [],
        ["channels"] if board.header.colour else [],
        _network_keys(board),
        ["noise_level", "trained_on", "tuned_on", "contamination", "status", "reason"],
        ["dataset", "split", "images", "source_images", "left_out", "protocol", "seed", "run_id"],
    ]


def _network_keys(board: Leaderboard) -> list[str]:
    rows = [row for block in board.blocks for row in block.rows]
    return [key for key in NETWORK_COLUMNS if any(getattr(row.details, key, None) for row in rows)]


def _csv_line(board: Leaderboard, block: Block, row: Row) -> dict[str, Any]:
    lead, scores, versus, speed, normalised, colour, network, texts, common = _csv_groups(board)
    means = [row.scores.get(metric.spec) for metric in board.metrics]
    numbers = [number for mean in means for number in ((mean.mean, mean.low, mean.high) if mean else [None] * 3)]
    to = row.to_best
    numbers += [to.difference, to.low, to.high, to.p] if to else [None] * 4
    numbers += [getattr(row.speed, key) if row.speed else None for key in speed]
    numbers += [getattr(row, key) for key in normalised]
    line: dict[str, Any] = dict(zip(lead, (block.noise, row.rank, row.rank_to, row.denoiser), strict=True))
    line |= dict(zip((*scores, *versus, *speed, *normalised), numbers, strict=True))
    line |= {key: getattr(row, key) for key in (*colour, *texts)}
    line |= {key: getattr(row.details, key, None) or None for key in network}
    return line | {key: getattr(board.header, key) for key in common}


def render_latex(board: Leaderboard) -> str:
    """Render one table per noise, for a document that uses the packages booktabs and fontenc (T1)."""
    main = {"rank", "denoiser", "latency_p50_ms", "throughput", "noise_level", "trained_on"}
    main |= {metric.spec for metric in board.metrics}
    columns = [column for column in columns_of(board) if column.key in main]
    facts = "; ".join(f"{word}: {value}" for word, value in words.facts_of(board))
    lines = ["% Needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}."]
    for block in board.blocks:
        notes = [*words.notes_of(board, block, [column.key for column in columns]), facts]
        lines += [
            "\\begin{table}",
            "  \\centering",
            f"  \\caption{{{escape_latex(words.title_of(board, block))}. {escape_latex('; '.join(notes))}.}}",
            f"  \\begin{{tabular}}{{{''.join('l' if column.text else 'r' for column in columns)}}}",
            "    \\toprule",
            "    "
            + " & ".join(
                escape_latex(f"{column.title} ({column.unit})" if column.unit else column.title) for column in columns
            ),
        ]
        lines[-1] += r" \\"
        lines.append("    \\midrule")
        for row in block.rows:
            cells = (_latex_cell(escape_latex(column.cell(row)), column.key, row) for column in columns)
            lines.append("    " + " & ".join(cells) + r" \\")
        lines += ["    \\bottomrule", "  \\end{tabular}", "\\end{table}"]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Escape TeX syntax; non-ASCII characters stay, because TeX reads UTF-8 by default."""
    return "".join(_LATEX.get(character, character) for character in printable(text))


def _latex_cell(text: str, key: str, row: Row) -> str:
    return f"\\textbf{{{text}}}" if key in row.best else text


def render_notebook(board: Leaderboard) -> str:
    """Render a leaderboard without scripts and styles of its own, so that it takes the look of the notebook."""
    columns = main_columns(columns_of(board))
    facts = "; ".join(value for _, value in words.short_facts_of(board))
    parts = [Markup("<p>{}</p>").format(printable(facts))]
    for block in board.blocks:
        head = Markup().join(Markup("<th>{}</th>").format(_titled(column)) for column in columns)
        rows = Markup().join(
            Markup("<tr>{}</tr>").format(Markup().join(_html_cell(column, row) for column in columns))
            for row in block.rows
        )
        table = Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, rows)
        parts += [Markup("<p><b>{}</b></p>").format(printable(words.title_of(board, block))), table]
    notes = Markup().join(
        Markup("<li>{}</li>").format(printable(note)) for note in words.brief_of(board, "all in run.report()")
    )
    return str(Markup("<div>{}<ul>{}</ul></div>").format(Markup().join(parts), notes))


def _titled(column: Column[R]) -> str:
    return f"{column.title} ({column.unit})" if column.unit else column.title


def _html_cell(column: Column[R], row: R) -> Markup:
    text = Markup("<b>{}</b>" if column.key in row.best else "{}").format(printable(column.cell(row)))
    return Markup('<td style="text-align: {}">{}</td>').format("left" if column.text else "right", text)


def render_json(board: Leaderboard) -> str:
    """Render everything in a leaderboard; NaN becomes null, infinity ``"inf"``."""
    return json_of(dataclasses.asdict(board))


def json_of(value: dict[str, Any]) -> str:
    """The text of a JSON file."""
    return json.dumps(jsonable(value), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def unformula(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    text = printable(text)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def jsonable(value: Any) -> Any:
    """Replace NaN with None and infinity with a string, at any depth, because JSON has neither."""
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
