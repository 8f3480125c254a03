"""Assembles the HTML page from a leaderboard and the stored scores and pictures."""

from __future__ import annotations

import base64
import hashlib
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from benchbox.records.run import RunRecord
from benchbox.report.board import Block, Leaderboard, Row
from benchbox.report.figures.axes import Look, looks_of
from benchbox.report.figures.charts import Chart, NoiseData, noise_charts, read_noise, run_charts
from benchbox.report.figures.gallery import Gallery, make_gallery
from benchbox.report.figures.images import inline_svg, scale_css
from benchbox.report.html.tables import (
    Groups,
    Table,
    TableCell,
    error_table,
    failures_of,
    group_table,
    groups_of,
    leaderboard_cell,
    mismatch_table,
    speed_table,
    summary_table,
    with_label_names,
)
from benchbox.report.words import (
    Column,
    advice_of,
    columns_of,
    count,
    facts_of,
    insights_of,
    legend_of,
    metric_title,
    notes_of,
    title_of,
)
from benchbox.store import RunStore
from benchbox.system.text import printable

FEW_IMAGES = 30


def reliability_of(board: Leaderboard, record: RunRecord) -> tuple[str, ...]:
    """State how far the figures of a run can be trusted, in one or two sentences each."""
    protocol = record.protocol
    statements = [
        f"Every denoiser saw the same noise. It depends only on seed {protocol.seed}, the noise model and the name of "
        "the image, not on order, batches or processes. Every result was clipped to [0, 1] and scored by the same code."
    ]
    detectable = [step.detectable for block in board.blocks for step in block.steps]
    unit = f" {board.sort_metric.unit}".rstrip()
    images = count(board.header.images, "image")
    if detectable:
        statements.append(
            f"Intervals and ranks are based on {images}; rows with overlapping ranks may not differ. "
            f"Adjacent rows {statistics.median(detectable):.2g}{unit} apart can be told apart (80 % power, median)."
        )
    if board.header.images < FEW_IMAGES:
        statements.append(f"With only {images}, treat this as a trial run, not as a result.")
    if protocol.sigma == "given":
        statements.append(
            "Denoisers that take a noise level were given the true one, which is unknown for real photographs."
        )
    if record.data.caveat:
        statements.append(record.data.caveat)
    contaminated = sorted({row.denoiser for block in board.blocks for row in block.rows if row.contamination})
    if contaminated:
        statements.append(f"Trained on scored images or duplicates of them: {', '.join(contaminated)}.")
    missing = sum(row.status != "ok" for block in board.blocks for row in block.rows)
    if missing:
        statements.append(f"{count(missing, 'table row')} without a result; see Failures for the reasons.")
    if board.timing:
        statements.append("Latencies apply to this machine and number of threads; compare them only within this run.")
    else:
        statements.append("This run was not timed.")
    if board.advice:
        statements.append("Automatic checks found something suspicious; see What to check.")
    else:
        statements.append("Automatic checks found nothing suspicious.")
    return tuple(statements)


MAX_PICTURE_BYTES = 5_500_000
"""Budget for pictures, out of 8 MB for a page."""


@dataclass(frozen=True)
class InlineChart:
    """A chart as an SVG element with its caption."""

    name: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Section:
    """The section of the page about one noise."""

    key: str
    noise: str
    title: str
    rows: tuple[tuple[Row, tuple[TableCell, ...]], ...]
    notes: tuple[str, ...]
    charts: tuple[InlineChart, ...]
    gallery: Gallery | None
    errors: Table | None
    spectrum: InlineChart | None
    mismatch: Table | None
    mismatch_chart: InlineChart | None
    groups: tuple[Table, ...]


def render_page(store: RunStore, board: Leaderboard) -> str:
    """Render the page; raises `BenchboxError` if a file of the run is damaged."""
    environment = Environment(
        loader=PackageLoader("benchbox.report.html"),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _resource("script.js")
    looks = looks_of([denoiser.label for denoiser in store.record.denoisers])
    run_level = [_inline(chart, f"k{number}") for number, chart in enumerate(run_charts(board, looks))]
    summary = board.summary
    return environment.get_template("page.html.j2").render(
        board=board,
        ranked_by=metric_title(board.sort_metric),
        facts=facts_of(board),
        trust=reliability_of(board, store.record),
        advice=advice_of(board),
        legend=legend_of(board).removeprefix("* best ranked row in the column; "),
        columns=_columns(board),
        sections=[_section(store, board, block, f"n{number}", looks) for number, block in enumerate(board.blocks)],
        summary=summary_table(board, summary) if summary is not None else None,
        levels=[chart for chart in run_level if chart.name == "levels"],
        latency=next((chart for chart in run_level if chart.name == "latency"), None),
        speed=speed_table(store),
        failures=failures_of(store, board),
        versions=[(name, version) for name, version in board.header.versions.items()],
        command=board.header.command,
        scale=scale_css(),
        style=Markup(_resource("style.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
    )


def _printable(value: object) -> object:
    """Make control characters in text harmless; markup comes from figures, which are already safe."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _section(store: RunStore, board: Leaderboard, block: Block, key: str, looks: Mapping[str, Look]) -> Section:
    columns = _columns(board)
    shown = [column.key for column in columns]
    noise = read_noise(store, block)
    drawn = [_inline(chart, key) for chart in noise_charts(board, noise, looks)]
    stored, errors = noise.stored, noise.errors
    return Section(
        key=key,
        noise=block.noise,
        title=title_of(board, block),
        rows=tuple((row, tuple(leaderboard_cell(column, row, board.sort) for column in columns)) for row in block.rows),
        notes=(*notes_of(board, block, shown), *insights_of(board, block)),
        charts=tuple(chart for chart in drawn if chart.name not in ("spectrum", "mismatch")),
        gallery=make_gallery(store, block, stored, MAX_PICTURE_BYTES // len(board.blocks))
        if stored and errors
        else None,
        errors=error_table(errors, len(set(stored.images)), cropped=stored.cropped) if stored and errors else None,
        spectrum=next((chart for chart in drawn if chart.name == "spectrum"), None),
        mismatch=mismatch_table(board, block) if block.mismatch else None,
        mismatch_chart=next((chart for chart in drawn if chart.name == "mismatch"), None),
        groups=tuple(group_table(board, block, groups) for groups in _groups(store, noise, board.sort)),
    )


def _columns(board: Leaderboard) -> tuple[Column[Row], ...]:
    """The columns of a leaderboard, with sigma and training next to the metric that ranks, where they are visible."""
    columns = columns_of(board)
    knowledge = [column for column in columns if column.key in ("noise_level", "trained_on")]
    others = [column for column in columns if column not in knowledge]
    place = max(place for place, column in enumerate(others) if column.key in (board.sort, "interval", "to_best"))
    return (*others[: place + 1], *knowledge, *others[place + 1 :])


def _groups(store: RunStore, noise: NoiseData, sort: str) -> list[Groups]:
    if not noise.columns:
        return []
    images = store.images()
    labels = {name.removeprefix("label_"): values for name, values in images.items() if name.startswith("label_")}
    if labels:
        known = store.record.data.label_names
        labels = {name: with_label_names(values, known.get(name, ())) for name, values in labels.items()}
    brightness = next(iter(noise.columns.values())).get("clean_mean")
    return groups_of(labels, brightness, noise.scores(sort))


def _inline(chart: Chart, key: str) -> InlineChart:
    return InlineChart(
        chart.name, chart.title, inline_svg(chart.figure, f"{key}-{chart.name}", chart.alt, chart.titles)
    )


def _resource(name: str) -> str:
    return (files("benchbox.report.html") / "templates" / name).read_text(encoding="utf-8")
