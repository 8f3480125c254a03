"""Several runs side by side: a table of each data set and noise with the mean over all, and the table of a paper."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from benchbox.api.errors import BenchboxError
from benchbox.api.version import __version__
from benchbox.records.run import MetricRecord
from benchbox.records.specs import parse_composition
from benchbox.report.board import Block, Leaderboard, Row
from benchbox.report.columns import Column
from benchbox.report.export import escape, escape_latex, json_of, table_of
from benchbox.report.terminal import fitting, hanging, lay_out, widths_of
from benchbox.report.words import count, score, short_facts_of, training_of
from benchbox.system.text import printable


@dataclass(frozen=True)
class Setting:
    """A noise on a data set: a column."""

    data: str
    block: Block


@dataclass(frozen=True)
class AcrossRow:
    """A denoiser over all settings.

    Attributes
    ----------
    scores : tuple of float
        Mean of the metric that ranks in each setting, NaN where the denoiser has none.
    mean : float
        Mean of `scores`, each setting with the same weight; NaN unless it is ranked in each of them.
    wins : int
        Settings in which its best possible rank is 1.
    """

    denoiser: str
    scores: tuple[float, ...]
    mean: float
    wins: int
    best: tuple[str, ...]


@dataclass(frozen=True)
class Across:
    """All denoisers over all settings: the rows by mean, those without one last."""

    metric: MetricRecord
    settings: tuple[Setting, ...]
    rows: tuple[AcrossRow, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the table out for the available width; print it with ``crop=False``."""
        width, text_width = widths_of(console, options)
        everything = _columns(self)
        kept = fitting(everything, self.rows, width)
        yield Text()
        yield hanging("", _title(self), text_width, style="bold")
        yield from lay_out(kept, self.rows, self.rows, console, options, width)
        yield Text()
        for note in _notes(self):
            yield hanging("", note, text_width)
        hidden = [f"{column.title} {column.unit}".rstrip() for column in everything if column not in kept]
        if hidden:
            words = f"hidden at this width: {', '.join(hidden)} (use --format markdown to see everything)"
            yield hanging("", words, text_width, style="dim")


def settings_of(boards: Sequence[Leaderboard]) -> tuple[Setting, ...]:
    """Settings of some runs in their order; data sets of one name are numbered, so that they stay apart."""
    seen: dict[str, int] = {}
    settings: list[Setting] = []
    for board in boards:
        name = " ".join(filter(None, (board.header.dataset, board.header.split)))
        seen[name] = seen.get(name, 0) + 1
        data = name if seen[name] == 1 else f"{name} ({seen[name]})"
        settings += [Setting(data, block) for block in board.blocks]
    return tuple(settings)


def put_across(boards: Sequence[Leaderboard]) -> Across:
    """Put runs side by side that are ranked by the same metric."""
    metrics = list(dict.fromkeys(board.sort_metric for board in boards))
    words = " and ".join(dict.fromkeys(metric.title for metric in metrics))
    if len({metric.spec for metric in metrics}) > 1:
        raise BenchboxError(f"these runs are ranked by different metrics: {words}", hint="choose one with --sort")
    metric = replace(metrics[0], title=words)  # grey and colour runs have different titles
    settings = settings_of(boards)
    by_name = [{row.denoiser: row for row in setting.block.rows if row.scores} for setting in settings]
    names = dict.fromkeys(row.denoiser for setting in settings for row in setting.block.rows)
    rows = [_row(name, [rows.get(name) for rows in by_name], metric.spec) for name in names]
    means = [row.mean for row in rows if not math.isnan(row.mean)]
    if means:
        top = max(means, key=lambda mean: metric.sign * mean)
        rows = [replace(row, best=(*row.best, "mean")) if row.mean == top else row for row in rows]
    # NaN compares with nothing: rows without a mean go last, in the order of the runs.
    rows.sort(key=lambda row: (math.isnan(row.mean), 0.0 if math.isnan(row.mean) else -metric.sign * row.mean))
    return Across(metric, settings, tuple(rows))


def _row(name: str, rows: Sequence[Row | None], label: str) -> AcrossRow:
    scores = tuple(math.nan if row is None else row.scores[label].mean for row in rows)
    ranked = all(row is not None and row.rank is not None for row in rows)
    return AcrossRow(
        name,
        scores,
        math.fsum(scores) / len(scores) if ranked else math.nan,
        sum(row is not None and row.rank == 1 for row in rows),
        tuple(f"setting {place}" for place, row in enumerate(rows) if row is not None and label in row.best),
    )


def _columns(across: Across) -> tuple[Column[AcrossRow], ...]:
    noises = {setting.block.noise for setting in across.settings}
    columns: list[Column[AcrossRow]] = [Column("denoiser", "denoiser", "", lambda row: row.denoiser, text=True)]
    for place, setting in enumerate(across.settings):
        unit = setting.block.noise if len(noises) > 1 else ""
        columns.append(Column(f"setting {place}", setting.data, unit, _cell_of(across.metric, place), 2 + place))
    columns.append(Column("mean", "mean", "", lambda row: score(row.mean, across.metric)))
    columns.append(Column("wins", "wins", "", lambda row: str(row.wins), 1))
    return tuple(columns)


def _cell_of(metric: MetricRecord, place: int) -> Callable[[AcrossRow], str]:
    return lambda row: score(row.scores[place], metric)


def _title(across: Across) -> str:
    data = count(len({setting.data for setting in across.settings}), "data set")
    noises = list(dict.fromkeys(setting.block.noise for setting in across.settings))
    noise = noises[0] if len(noises) == 1 else f"{len(noises)} noises"
    unit = f" ({across.metric.unit})" if across.metric.unit else ""
    return f"{data}, {noise}: {across.metric.title}{unit}"


def _notes(across: Across) -> list[str]:
    """What a reader must know of the order, and of what the rows may have seen before."""
    rows = [row for setting in across.settings for row in setting.block.rows]
    seen = dict.fromkeys(row.denoiser for row in rows if row.contamination and row.rank is not None)
    notes = [
        "ordered by the mean of all columns, which is not tested; wins: columns in which rank 1 is possible",
        training_of(rows),
        f"ranked, but may have seen scored images in training: {', '.join(seen)}" if seen else "",
    ]
    return [note for note in notes if note]


def render_across_json(boards: Sequence[Leaderboard]) -> str:
    """Render the leaderboards of the runs, and the table across them; NaN becomes null."""
    across = put_across(boards)
    return json_of(
        {
            "runs": [asdict(board) for board in boards],
            "across": {
                "metric": asdict(across.metric),
                "settings": [{"data": setting.data, "noise": setting.block.noise} for setting in across.settings],
                "rows": [asdict(row) for row in across.rows],
            },
        }
    )


def render_across(across: Across) -> str:
    """Render the table as markdown."""
    notes = [f"- {escape(note)}" for note in _notes(across)]
    return "\n".join([f"# {escape(_title(across))}", "", *table_of(_columns(across), across.rows), "", *notes, ""])


@dataclass(frozen=True)
class _PaperColumn(Setting):
    """A column of a paper's table, with the one or two metrics in its cells."""

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
            texts[name]: metric.sign * row.scores[metric.spec].mean
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
        _PaperColumn(setting.data, setting.block, shown)
        for setting, shown in zip(settings_of(boards), metrics, strict=True)
    ]
    titles = " and ".join(dict.fromkeys("/".join(metric.title for metric in setting.metrics) for setting in settings))
    groups = [(data, len(list(group))) for data, group in itertools.groupby(settings, lambda setting: setting.data)]
    rules, first = [], 2
    for _, across in groups:
        rules.append(f"\\cmidrule(lr){{{first}-{first + across - 1}}}")
        first += across
    above = " & ".join(f"\\multicolumn{{{across}}}{{c}}{{{escape_latex(data)}}}" for data, across in groups)
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


def _methods(settings: Sequence[_PaperColumn]) -> list[str]:
    """Names of all methods, the worst first; those that miss a setting come before those that have all."""

    def order(name: str) -> tuple[bool, int, float]:
        rows = [(setting, setting.rows[name]) for setting in settings if name in setting.rows]
        means = [row.scores[setting.metrics[0].spec].mean * setting.metrics[0].sign for setting, row in rows]
        return (not any(row.is_floor for _, row in rows), len(rows), sum(means) / len(means) if means else -math.inf)

    names = dict.fromkeys(row.denoiser for setting in settings for row in setting.block.rows)
    return sorted(names, key=order)


def _noise_title(block: Block) -> str:
    r"""``$\sigma = 25/255$`` for white Gaussian noise with its level alone, and the specification for any other."""
    if block.gaussian:
        first, *others = parse_composition(block.noise)
        levels = [first.value] if first.value else [value for _, value in first.options]
        if not others and len(levels) == 1 and not (first.value and first.options):
            return f"$\\sigma = {escape_latex(levels[0])}$"
    return escape_latex(block.noise)


def _provenance(board: Leaderboard) -> Iterator[str]:
    header = board.header
    facts = "; ".join(value for _, value in short_facts_of(board))
    yield printable(f"benchbox {__version__}, {header.created}: {facts}; images {header.fingerprint}")
    if header.command:
        yield printable(header.command)
