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
from benchbox.report.figures.charts import Chart
from benchbox.report.figures.gallery import Gallery, make_gallery
from benchbox.report.figures.images import inline_svg, scale_css
from benchbox.report.figures.inputs import Material, noise_charts, read_material, run_charts
from benchbox.report.html.tables import (
    Groups,
    Table,
    TableCell,
    causes_table,
    failures_of,
    group_table,
    groups_of,
    leaderboard_cell,
    mismatch_table,
    named,
    speed_table,
    summary_table,
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


def trust_of(board: Leaderboard, record: RunRecord) -> tuple[str, ...]:
    """Say what holds for the figures of a run and what does not.

    Parameters
    ----------
    board : Leaderboard
    record : RunRecord

    Returns
    -------
    tuple of str
        A sentence or two each.
    """
    protocol = record.protocol
    said = [
        f"Every denoiser saw the same noise: it is drawn for each image from seed {protocol.seed}, the noise and the "
        "image's name, so that it does not depend on order, batches or processes. Every result was clipped to [0, 1] "
        "and scored by the same code."
    ]
    detectable = [step.detectable for block in board.blocks for step in block.steps]
    unit = f" {board.sort_metric.unit}".rstrip()
    images = count(board.header.images, "image")
    if detectable:
        said.append(
            f"Intervals and ranks rest on {images}; rows that share a rank cannot be told apart by them. Neighbours "
            f"are told apart four times in five when they differ by about {statistics.median(detectable):.2g}{unit}."
        )
    if board.header.images < FEW_IMAGES:
        said.append(f"It is only {images}: take this as a trial, not as a result.")
    if protocol.sigma == "given":
        said.append("Denoisers that take the noise level were told the true one, which real photographs do not offer.")
    if record.data.caveat:
        said.append(record.data.caveat)
    leaks = sorted({row.denoiser for block in board.blocks for row in block.rows if row.leak})
    if leaks:
        said.append(f"Trained on scored images or on duplicates of them: {', '.join(leaks)}.")
    missing = sum(row.status != "ok" for block in board.blocks for row in block.rows)
    if missing:
        said.append(f"{count(missing, 'row')} of the tables below have no result; the reasons stand under Failures.")
    if board.timing:
        said.append("Latencies are of this machine and this number of threads; compare them within this run only.")
    else:
        said.append("Nothing was timed.")
    if board.advice:
        said.append("The run's own checks found something suspicious, see What to check.")
    else:
        said.append("The run's own checks found nothing suspicious.")
    return tuple(said)


PICTURES_ROOM = 5_500_000
"""Bytes of a page for pictures, of the 8 MB that it may take."""


@dataclass(frozen=True)
class Drawn:
    """A chart as it stands in the page."""

    name: str
    caption: str
    svg: Markup


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
    mismatch_chart: Drawn | None
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
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _resource("script.js")
    looks = looks_of([one.label for one in store.record.denoisers])
    over_all = [_drawn(chart, f"k{number}") for number, chart in enumerate(run_charts(board, looks))]
    summary = board.summary
    return environment.get_template("page.html.j2").render(
        board=board,
        ranked_by=metric_title(board.sort_metric),
        facts=facts_of(board),
        trust=trust_of(board, store.record),
        advice=advice_of(board),
        legend=legend_of(board).removeprefix("* best ranked row of its column; "),
        columns=_columns(board),
        sections=[_section(store, board, block, f"n{number}", looks) for number, block in enumerate(board.blocks)],
        summary=summary_table(board, summary) if summary is not None else None,
        levels=[one for one in over_all if one.name == "levels"],
        latency=next((one for one in over_all if one.name == "latency"), None),
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
    """Make safe what the template puts into the page; what is markup already was made safe with its figure."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _section(store: RunStore, board: Leaderboard, block: Block, key: str, looks: Mapping[str, Look]) -> Section:
    columns = _columns(board)
    shown = [column.key for column in columns]
    material = read_material(store, block)
    drawn = [_drawn(chart, key) for chart in noise_charts(board, material, looks)]
    stored, causes = material.stored, material.causes
    return Section(
        key=key,
        noise=block.noise,
        title=title_of(board, block),
        rows=tuple((row, tuple(leaderboard_cell(column, row, board.sort) for column in columns)) for row in block.rows),
        notes=(*notes_of(board, block, shown), *insights_of(board, block)),
        charts=tuple(one for one in drawn if one.name not in ("spectrum", "mismatch")),
        gallery=make_gallery(store, block, stored, PICTURES_ROOM // len(board.blocks)) if stored and causes else None,
        causes=causes_table(causes, len(set(stored.images)), cut=stored.cut) if stored and causes else None,
        spectrum=next((one for one in drawn if one.name == "spectrum"), None),
        mismatch=mismatch_table(board, block) if block.mismatch else None,
        mismatch_chart=next((one for one in drawn if one.name == "mismatch"), None),
        groups=tuple(group_table(board, block, one) for one in _groups(store, material, board.sort)),
    )


def _columns(board: Leaderboard) -> tuple[Column[Row], ...]:
    """The columns of a leaderboard, what a row knew beside the metric that ranks: a window shows the first ones."""
    columns = columns_of(board)
    knowledge = [column for column in columns if column.key in ("knew", "trained_on")]
    others = [column for column in columns if column not in knowledge]
    place = max(place for place, one in enumerate(others) if one.key in (board.sort, "interval", "to_best"))
    return (*others[: place + 1], *knowledge, *others[place + 1 :])


def _groups(store: RunStore, material: Material, sort: str) -> list[Groups]:
    if not material.columns:
        return []
    images = store.images()
    labels = {name.removeprefix("label_"): values for name, values in images.items() if name.startswith("label_")}
    if labels:
        known = store.record.data.label_names
        labels = {name: named(values, known.get(name, ())) for name, values in labels.items()}
    brightness = next(iter(material.columns.values())).get("clean_mean")
    return groups_of(labels, brightness, material.scores(sort))


def _drawn(chart: Chart, key: str) -> Drawn:
    return Drawn(chart.name, chart.title, inline_svg(chart.figure, f"{key}-{chart.name}", chart.alt, chart.titles))


def _resource(name: str) -> str:
    return (files("benchbox.report.html") / "templates" / name).read_text(encoding="utf-8")
