"""A leaderboard for other programs and for papers: csv, JSON and LaTeX."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from typing import Any

from benchbox.report.columns import columns_of, has_normalised
from benchbox.report.model import Leaderboard, Row
from benchbox.report.notes import facts_of, notes_of, title_of
from benchbox.report.ranked import SPEED_COLUMNS
from benchbox.report.text import plain

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


def render_csv(board: Leaderboard) -> str:
    """Write one line a noise and denoiser, at full precision, with what holds for all rows in every line.

    Text that a spreadsheet would take for a formula gets a ``'`` before it.
    """
    speed = [*SPEED_COLUMNS, "threads", "batch"] if board.timing else []
    scores = [f"{metric.label}{part}" for metric in board.metrics for part in ("", "_low", "_high")]
    versus = ["to_best", "to_best_low", "to_best_high", "to_best_p", "gap_closed"]
    texts = ["knew", "trained_on", "tuned_on", "status", "reason"]
    normalised = ["latency_normalised"] if has_normalised(board) else []
    head = ["noise", "rank", "denoiser", *scores, *versus, *speed, *normalised, *texts]
    header = board.header
    common = {
        "dataset": header.dataset,
        "split": header.split,
        "images": header.images,
        "protocol": header.protocol,
        "seed": header.seed,
        "run_id": header.run_id,
    }
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([*map(_unformula, head), *common])
    for block in board.blocks:
        for row in block.rows:
            numbers: list[float | None] = []
            for metric in board.metrics:
                mean = row.scores.get(metric.label)
                numbers += [mean.mean, mean.low, mean.high] if mean else [None] * 3
            to = row.to_best
            numbers += [to.difference, to.low, to.high, to.p] if to else [None] * 4
            numbers.append(row.gap_closed)
            numbers += [getattr(row.speed, key) if row.speed else None for key in speed]
            numbers += [getattr(row, key) for key in normalised]
            cells: list[Any] = [block.noise, row.rank, row.denoiser, *map(_number, numbers)]
            cells += [getattr(row, key) for key in texts]
            writer.writerow(
                [_unformula(cell) if isinstance(cell, str) else cell for cell in (*cells, *common.values())]
            )
    return sink.getvalue()


def render_json(board: Leaderboard) -> str:
    """Write all that is known of a leaderboard; NaN is null, infinity the word ``"inf"``."""
    return json.dumps(jsonable(dataclasses.asdict(board)), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def render_latex(board: Leaderboard) -> str:
    """Write one table a noise, for a document that uses the packages booktabs and fontenc (T1)."""
    main = {"rank", "denoiser", "latency_p50_ms", "throughput", "knew", "trained_on"}
    columns = [one for one in columns_of(board) if one.key in main or one.key in {m.label for m in board.metrics}]
    facts = "; ".join(f"{word}: {value}" for word, value in facts_of(board))
    lines = ["% Needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}."]
    for block in board.blocks:
        notes = [*notes_of(board, block, [column.key for column in columns]), facts]
        lines += [
            "\\begin{table}",
            "  \\centering",
            f"  \\caption{{{escape_latex(title_of(board, block))}. {escape_latex('; '.join(notes))}.}}",
            f"  \\begin{{tabular}}{{{''.join('l' if column.text else 'r' for column in columns)}}}",
            "    \\toprule",
            "    "
            + " & ".join(escape_latex(f"{one.title} ({one.unit})" if one.unit else one.title) for one in columns),
        ]
        lines[-1] += r" \\"
        lines.append("    \\midrule")
        for row in block.rows:
            cells = (_latex_cell(escape_latex(column.cell(row)), column.key, row) for column in columns)
            lines.append("    " + " & ".join(cells) + r" \\")
        lines += ["    \\bottomrule", "  \\end{tabular}", "\\end{table}"]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Escape what TeX would take for a command; characters beyond ASCII stay, for UTF-8 is TeX's default."""
    return "".join(_LATEX.get(character, character) for character in plain(text))


def _latex_cell(text: str, key: str, row: Row) -> str:
    return f"\\textbf{{{text}}}" if key in row.best else text


def _unformula(text: str) -> str:
    text = plain(text)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def _number(value: float | None) -> float | None:
    """Leave a cell empty where there is no value."""
    return None if value is None or math.isnan(value) else value


def jsonable(value: Any) -> Any:
    """Turn NaN into None and infinity into a word, at any depth: JSON knows neither."""
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
