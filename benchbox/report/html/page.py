"""From a leaderboard and the stored scores and pictures to the page's text."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from benchbox.report.columns import (
    Column,
    advice_of,
    columns_of,
    facts_of,
    insights_of,
    legend_of,
    notes_of,
    summary_columns,
    summary_title,
    title_of,
)
from benchbox.report.html import charts
from benchbox.report.html.causes import REGIONS, Causes, causes_of, frequencies
from benchbox.report.html.gallery import Gallery, make_gallery, read_pictures
from benchbox.report.html.groups import Groups, groups_of
from benchbox.report.html.pictures import scale_css
from benchbox.report.html.style import looks_of
from benchbox.report.html.svg import inline_svg
from benchbox.report.html.trust import trust_of
from benchbox.report.model import Block, Leaderboard, Row
from benchbox.report.text import NONE, plain, score, three_digits
from benchbox.stats.summaries import average_repeats
from benchbox.store import RunStore

PICTURES_ROOM = 5_500_000
"""Bytes of a page for pictures, of the 8 MB that it may take."""
Scores = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class TableCell:
    """A cell of a table: its text, the value it is sorted by, and whether it is the best of its column."""

    text: str
    value: str
    best: bool = False


@dataclass(frozen=True)
class Drawn:
    """A chart as it stands in the page."""

    caption: str
    svg: Markup


@dataclass(frozen=True)
class Table:
    """A table of text, its first column naming the rows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """All that the page says of one noise."""

    key: str
    noise: str
    title: str
    rows: tuple[tuple[Row, tuple[TableCell, ...]], ...]
    notes: tuple[str, ...]
    charts: tuple[Drawn, ...]
    gallery: Gallery | None
    causes: Table | None
    spectrum: Drawn | None
    mismatch: Table | None
    groups: tuple[Table, ...]


def render_page(store: RunStore, board: Leaderboard) -> str:
    """Write the page.

    Parameters
    ----------
    store : RunStore
    board : Leaderboard
        Of that run.

    Returns
    -------
    str

    Raises
    ------
    BenchboxError
        A file of the run is damaged.
    """
    environment = Environment(
        loader=PackageLoader("benchbox.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _resource("script.js")
    columns = columns_of(board)
    looks = looks_of([one.label for one in store.record.denoisers])
    levels = [
        _drawn(charts.levels_chart(board, kind, blocks, looks), f"k{number}")
        for number, (kind, blocks) in enumerate(charts.kinds_of(board))
    ]
    latency = charts.latency_chart(board, looks)
    summary = board.summary
    return environment.get_template("page.html.j2").render(
        board=board,
        facts=facts_of(board),
        trust=trust_of(board, store.record),
        advice=advice_of(board),
        legend=legend_of(board).removeprefix("* best of its column; "),
        columns=columns,
        sections=[_section(store, board, block, f"n{number}") for number, block in enumerate(board.blocks)],
        summary=_summary(board) if summary is not None else None,
        levels=levels,
        latency=_drawn(latency, "latency") if latency else None,
        speed=_speed_table(store, board),
        failures=_failures(store, board),
        versions=[(plain(name), plain(version)) for name, version in board.header.versions.items()],
        command=plain(board.header.command),
        scale=scale_css(),
        none=NONE,
        style=Markup(_resource("style.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
    )


def raw_scores(store: RunStore, board: Leaderboard, block: Block) -> dict[str, NDArray[np.float64]]:
    """Per-image scores in the metric that ranks, by denoiser, of the rows that were completed."""
    return {name: columns[board.sort].astype(np.float64) for name, columns in _columns(store, block).items()}


def block_charts(store: RunStore, board: Leaderboard, block: Block) -> Iterator[charts.Chart]:
    """The charts of one noise that need no pictures."""
    looks = looks_of([one.label for one in store.record.denoisers])
    made = (
        charts.front_chart(board, block, looks),
        charts.differences_chart(board, block, raw_scores(store, board, block), looks),
        charts.mismatch_chart(board, block, looks),
    )
    yield from (chart for chart in made if chart is not None)


def _columns(store: RunStore, block: Block) -> dict[str, Scores]:
    cells = {cell.denoiser: cell for cell in store.record.cells if cell.noise == block.noise and cell.sigma_factor == 1}
    repeats = store.record.protocol.repeats
    return {
        row.denoiser: average_repeats(store.scores(cells[row.denoiser].key), repeats)
        for row in block.rows
        if row.scores
    }


def _section(store: RunStore, board: Leaderboard, block: Block, key: str) -> Section:
    columns = columns_of(board)
    shown = [column.key for column in columns]
    made = [_drawn(chart, key) for chart in block_charts(store, board, block)]
    stored = read_pictures(store, block)
    gallery = causes = spectrum = None
    if stored is not None and stored.denoised:
        gallery = make_gallery(store, block, stored, PICTURES_ROOM // len(board.blocks))
        found = {
            name: causes_of(stored.clean, stored.noisy, pictures, stored.images)
            for name, pictures in stored.denoised.items()
        }
        causes = _causes_table(found, len(set(stored.images)))
        looks = looks_of([one.label for one in store.record.denoisers])
        remaining = {name: one.remaining_db for name, one in found.items()}
        spectrum = _drawn(charts.spectrum_chart(block, frequencies(), remaining, looks), key)
    return Section(
        key=key,
        noise=plain(block.noise),
        title=title_of(board, block),
        rows=tuple((row, tuple(_cell(column, row, board.sort) for column in columns)) for row in block.rows),
        notes=(*notes_of(board, block, shown), *insights_of(board, replace(block, mismatch=()))),
        charts=tuple(made),
        gallery=gallery,
        causes=causes,
        spectrum=spectrum,
        mismatch=_mismatch_table(board, block) if block.mismatch else None,
        groups=tuple(_group_table(board, one) for one in _groups(store, board, block)),
    )


def _drawn(chart: charts.Chart, key: str) -> Drawn:
    return Drawn(chart.title, inline_svg(chart.figure, f"{key}-{chart.name}", chart.alt, chart.titles))


def _cell(column: Column[Row], row: Row, sort: str) -> TableCell:
    return TableCell(column.cell(row), _sort_value(column.key, row, sort), column.key in row.best)


def _sort_value(key: str, row: Row, sort: str) -> str:
    """What a column is sorted by, at full precision; empty where there is nothing."""
    value: float | None = None
    if key in row.scores:
        value = row.scores[key].mean
    elif key == "rank":
        value = row.rank
    elif key == "interval":
        value = row.scores[sort].low if row.scores else None
    elif key == "to_best":
        value = row.to_best.difference if row.to_best else None
    elif key == "gap_closed":
        value = row.gap_closed
    elif hasattr(row.speed, key):
        value = float(getattr(row.speed, key))
    elif key in ("denoiser", "knew", "trained_on", "tuned_on"):
        return plain(str(getattr(row, key)))
    return _number(value)


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(value)


def _summary(board: Leaderboard) -> Table:
    summary = board.summary
    assert summary is not None
    columns = summary_columns(board, summary)
    numbers = {"rank", "mean_rank", "mean", "wins", "completed"}
    rows = []
    for row in summary.rows:
        values = {"worst": row.worst_difference, "denoiser": plain(row.denoiser)}
        rows.append(
            tuple(
                TableCell(
                    column.cell(row),
                    _number(getattr(row, column.key)) if column.key in numbers else str(values[column.key]),
                    column.key in row.best,
                )
                for column in columns
            )
        )
    heads = tuple(f"{column.title} ({column.unit})" if column.unit else column.title for column in columns)
    return Table(summary_title(board, summary), heads, tuple(rows))


def _speed_table(store: RunStore, board: Leaderboard) -> Table | None:
    timings = store.timings()
    if not timings:
        return None
    rows = []
    for record in store.record.denoisers:
        timing = timings.get(record.label)
        if timing is None or timing.status != "ok":
            continue
        single = np.percentile(timing.samples_ms[1], (50, 90, 99)).tolist()
        batch = float(np.median(timing.samples_ms[timing.batch]))
        values = (
            *single,
            1000 / single[0],
            1000 * timing.batch / batch,
            timing.import_s,
            timing.setup_s,
            timing.first_s,
            timing.peak_mb,
            timing.threads_used,
        )
        cells = (TableCell(three_digits(float(value)), _number(float(value))) for value in values)
        rows.append((TableCell(plain(record.label), plain(record.label)), *cells))
    size = store.record.timing_batch
    latencies = ("p50 (ms)", "p90 (ms)", "p99 (ms)", "images/s, 1 a call", f"images/s, {size} a call")
    heads = ("denoiser", *latencies, "import (s)", "setup (s)", "first call (s)", "memory (MiB)", "threads")
    return Table("Speed", heads, tuple(rows)) if rows else None


def _failures(store: RunStore, board: Leaderboard) -> list[tuple[str, str, str, str]]:
    """Where, status, reason and log of everything that has no result."""
    scored = [
        (f"{plain(row.denoiser)} on {plain(block.noise)}", row.status, plain(row.reason), "scores")
        for block in board.blocks
        for row in block.rows
        if row.status != "ok"
    ]
    timed = [
        (plain(name), timing.status, plain(timing.reason), "timing")
        for name, timing in store.timings().items()
        if timing.status != "ok"
    ]
    return scored + timed


def _causes_table(found: Mapping[str, Causes], images: int) -> Table:
    repeated = any(not math.isnan(one.bias) for one in found.values())
    heads = ("denoiser", *(f"{name} (dB)" for name in REGIONS), "residual correlation")
    heads += ("bias", "spread") if repeated else ()
    rows = []
    for name, one in found.items():
        values = [*(one.region_psnr[region] for region in REGIONS), one.correlation]
        texts = [*(NONE if math.isnan(value) else f"{value:.2f}" for value in values[:-1]), three_digits(values[-1])]
        if repeated:
            values += [one.bias, one.spread]
            texts += [three_digits(one.bias), three_digits(one.spread)]
        cells = (TableCell(text, _number(value)) for text, value in zip(texts, values, strict=True))
        rows.append((TableCell(plain(name), plain(name)), *cells))
    note = (
        f"From the pictures of {images} images only, so differences of some tenths of a dB may be chance. PSNR is given "
        "over regions of the clean image: flat is the half of the pixels with the least gradient energy; the rest are "
        "edges where one direction holds most of it, and texture elsewhere. What a perfect denoiser removes is white "
        "noise without correlation: the nearer the residual correlation to 0, the less of the image went with it."
    )
    if repeated:
        note += " Bias is the error that stays over the repeats, spread the one that changes with the noise (both RMS)."
    return Table("Regions and residual", heads, tuple(rows), note)


def _mismatch_table(board: Leaderboard, block: Block) -> Table:
    factors = sorted({factor for curve in block.mismatch for factor in curve.factors})
    rows = []
    for curve in block.mismatch:
        means = dict(zip(curve.factors, curve.means, strict=True))
        values = [*(means.get(factor, math.nan) for factor in factors), curve.loss]
        cells = (TableCell(score(value, board.sort_metric), _number(value)) for value in values)
        rows.append((TableCell(plain(curve.denoiser), plain(curve.denoiser)), *cells))
    heads = ("denoiser", *(f"told {factor:g} sigma" for factor in factors), "mean loss")
    return Table("Told a wrong noise level", heads, tuple(rows))


def _groups(store: RunStore, board: Leaderboard, block: Block) -> list[Groups]:
    columns = _columns(store, block)
    if not columns:
        return []
    images = store.images()
    labels = {
        plain(name.removeprefix("label_")): values for name, values in images.items() if name.startswith("label_")
    }
    brightness = next(iter(columns.values())).get("clean_mean")
    return groups_of(labels, brightness, {name: one[board.sort].astype(np.float64) for name, one in columns.items()})


def _group_table(board: Leaderboard, groups: Groups) -> Table:
    sign = 1 if board.sort_metric.higher_is_better else -1
    best = [
        max((sign * means[place] for means in groups.means.values() if not math.isnan(means[place])), default=math.nan)
        for place in range(len(groups.names))
    ]
    rows = []
    for name, means in groups.means.items():
        cells = (
            TableCell(score(mean, board.sort_metric), _number(mean), sign * mean == best[place])
            for place, mean in enumerate(means)
        )
        rows.append((TableCell(plain(name), plain(name)), *cells))
    heads = tuple(f"{plain(name)} (n = {count})" for name, count in zip(groups.names, groups.counts, strict=True))
    return Table(groups.title, ("denoiser", *heads), tuple(rows))


def _resource(name: str) -> str:
    return (files("benchbox.report.html") / "templates" / name).read_text(encoding="utf-8")
