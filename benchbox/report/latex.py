"""A leaderboard as LaTeX: every figure of a run, or the table of a paper."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchbox.api.version import __version__
from benchbox.records.run import MetricRecord
from benchbox.report.across import settings_of
from benchbox.report.board import Block, Leaderboard, Row
from benchbox.report.columns import columns_of
from benchbox.report.words import facts_of, notes_of, score, short_facts_of, title_of
from benchbox.system.text import printable

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


def render_latex(board: Leaderboard) -> str:
    """Render one table per noise, for a document that uses the packages booktabs and fontenc (T1)."""
    main = {"rank", "denoiser", "latency_p50_ms", "throughput", "noise_level", "trained_on"}
    main |= {metric.spec for metric in board.metrics}
    columns = [column for column in columns_of(board) if column.key in main]
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


@dataclass(frozen=True)
class _Setting:
    """A data set with a noise: one column of a paper's table."""

    data: str
    block: Block
    metrics: tuple[MetricRecord, ...]

    @property
    def rows(self) -> dict[str, Row]:
        return {row.denoiser: row for row in self.block.rows if row.scores}

    def cell(self, denoiser: str) -> str:
        """Scores of a denoiser, the best of the setting bold and the second best underlined; a dash if it has none."""
        if denoiser not in self.rows:
            return "--"
        return "/".join(self._marked(denoiser, metric) for metric in self.metrics)

    def _marked(self, denoiser: str, metric: MetricRecord) -> str:
        texts = {name: score(row.scores[metric.spec].mean, metric) for name, row in self.rows.items()}
        values = {
            texts[name]: (1 if metric.higher_is_better else -1) * row.scores[metric.spec].mean
            for name, row in self.rows.items()
            if row.rank is not None and not row.is_floor and not math.isnan(row.scores[metric.spec].mean)
        }
        # Equal figures share their mark, because the difference cannot be seen.
        marks = dict(zip(sorted(values, key=lambda text: -values[text]), ("textbf", "underline"), strict=False))
        text = escape_latex(texts[denoiser])
        return f"\\{marks[texts[denoiser]]}{{{text}}}" if texts[denoiser] in marks else text


def render_paper(boards: Sequence[Leaderboard]) -> str:
    """Render runs as one table of a paper: methods down, data sets with their noises across.

    The metric that ranks, and the next one that is shown, stand in each cell. Methods are ordered by the mean of the
    former over all settings, the worst first, as is usual; a denoiser that does nothing comes first. What a reader must
    know to repeat the figures is a comment. It needs the packages booktabs and fontenc (T1).
    """
    metrics = [_two_metrics(board) for board in boards for _ in board.blocks]
    settings = [
        _Setting(setting.data, setting.block, shown)
        for setting, shown in zip(settings_of(boards), metrics, strict=True)
    ]
    titles = " and ".join(dict.fromkeys("/".join(metric.title for metric in setting.metrics) for setting in settings))
    groups = [(data, len(list(group))) for data, group in itertools.groupby(settings, lambda setting: setting.data)]
    rules, first = [], 2
    for _, count in groups:
        rules.append(f"\\cmidrule(lr){{{first}-{first + count - 1}}}")
        first += count
    above = " & ".join(f"\\multicolumn{{{count}}}{{c}}{{{escape_latex(data)}}}" for data, count in groups)
    lines = [
        "% Needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}.",
        *(f"% {line}" for board in boards for line in _provenance(board)),
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{Mean {escape_latex(titles)} of each method; best bold, second best underlined.}}",
        "  \\label{tab:denoising}",
        f"  \\begin{{tabular}}{{l{'c' * len(settings)}}}",
        "    \\toprule",
        f"    & {above} \\\\",
        f"    {' '.join(rules)}",
        "    Method & " + " & ".join(_noise_title(setting.block) for setting in settings) + r" \\",
        "    \\midrule",
        *(
            f"    {escape_latex(name)} & " + " & ".join(setting.cell(name) for setting in settings) + r" \\"
            for name in _methods(settings)
        ),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _two_metrics(board: Leaderboard) -> tuple[MetricRecord, ...]:
    others = [metric for metric in board.metrics if metric.shown and metric.spec != board.sort]
    return (board.sort_metric, *others[:1])


def _methods(settings: Sequence[_Setting]) -> list[str]:
    """Names of all methods, the worst first; those that miss a setting come before those that have all."""

    def order(name: str) -> tuple[bool, int, float]:
        rows = [(setting, setting.rows[name]) for setting in settings if name in setting.rows]
        means = [
            row.scores[setting.metrics[0].spec].mean * (1 if setting.metrics[0].higher_is_better else -1)
            for setting, row in rows
        ]
        return (not any(row.is_floor for _, row in rows), len(rows), sum(means) / len(means) if means else -math.inf)

    names = dict.fromkeys(row.denoiser for setting in settings for row in setting.block.rows)
    return sorted(names, key=order)


def _noise_title(block: Block) -> str:
    r"""``$\sigma = 25/255$`` for Gaussian noise, and the specification for any other."""
    name, _, level = block.noise.partition(":")
    if name == "gaussian" and level and "+" not in level and "," not in level:
        return f"$\\sigma = {escape_latex(level)}$"
    return escape_latex(block.noise)


def _provenance(board: Leaderboard) -> Iterator[str]:
    header = board.header
    facts = "; ".join(value for _, value in short_facts_of(board))
    yield printable(f"benchbox {__version__}, {header.created}: {facts}; images {header.fingerprint}")
    if header.command:
        yield printable(header.command)
