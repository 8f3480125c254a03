"""Several runs side by side: the mean of each denoiser on each data set and noise, and over all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from benchbox.api.errors import BenchboxError
from benchbox.records.run import MetricRecord
from benchbox.report.board import Block, Leaderboard, Row
from benchbox.report.columns import Column
from benchbox.report.export import escape, json_of, table_of
from benchbox.report.terminal import fitting, hanging, lay_out, widths_of
from benchbox.report.words import count, score, training_of


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
            words = f"hidden at this width: {', '.join(hidden)} (leaderboard RUN... --format markdown has all)"
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
    sign = 1 if metric.higher_is_better else -1
    if means:
        top = max(means, key=lambda mean: sign * mean)
        rows = [replace(row, best=(*row.best, "mean")) if row.mean == top else row for row in rows]
    rows.sort(key=lambda row: (math.isnan(row.mean), 0.0 if math.isnan(row.mean) else -sign * row.mean))
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
        "in order of the mean, each column with equal weight (not tested); wins: columns where rank 1 is possible",
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
