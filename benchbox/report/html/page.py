"""Assembles the HTML page: what it says in sentences, its sections, and what the template gets."""

from __future__ import annotations

import base64
import hashlib
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from benchbox.records.run import RunRecord
from benchbox.report import words
from benchbox.report.board import Block, Leaderboard, Row, SummaryRow
from benchbox.report.columns import Column, columns_of, main_columns
from benchbox.report.figures.axes import Look, inline_svg, looks_of
from benchbox.report.figures.charts import Chart, NoiseData, noise_charts, read_noise
from benchbox.report.figures.gallery import Gallery, make_gallery, scale_css
from benchbox.report.figures.overview import protocol_charts, run_charts
from benchbox.report.html import tables
from benchbox.report.whatif import WhatIf, build_whatif
from benchbox.report.whatif_export import explained
from benchbox.report.whatif_export import notes_of as notes_of_protocols
from benchbox.store import RunStore
from benchbox.system.text import printable

LONG_NAME = 16
"""Characters from which a name may take several lines."""
_BREAKS = re.compile(r"(?<=[:/,+])(?=[^\s:/,+])")
_LONG_WORD = re.compile(r"[^\s\0]{10,}")
_BREAKS_OF_LONG = re.compile(r"(?<=[_=.-])(?=[^_=.-])")
MAX_PICTURE_BYTES = 5_500_000
"""Budget for pictures, out of 8 MB for a page."""
NEAR_DB = 0.5
"""How far behind the leader a faster row is worth naming: a difference that is hard to see in most images."""
FEW_IMAGES = 30


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
    rows: tuple[tuple[Row, tuple[tables.TableCell, ...]], ...]
    notes: tuple[str, ...]
    front: InlineChart | None
    charts: tuple[InlineChart, ...]
    gallery: Gallery | None
    errors: tables.Table | None
    mismatch: tables.Table | None
    mismatch_chart: InlineChart | None
    recognition: tuple[tuple[tables.Table, ...], ...]  # of each classifier: by class, then which is taken for which
    protocols: tuple[InlineChart, ...]
    protocol_notes: tuple[str, ...]
    groups: tuple[tables.Table, ...]


REPORT = "report.html"


def write_html(store: RunStore, board: Leaderboard) -> Path:
    """Write ``report.html`` into the folder of a run and return its path."""
    return store.write_report(REPORT, render_page(store, board))


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
    environment.filters["breakable"] = breakable
    # The policy of the page allows this script by its hash, and no other.
    script = _resource("script.js")
    looks = looks_of([denoiser.label for denoiser in store.record.denoisers])
    run_level = [_inline(chart, f"k{number}") for number, chart in enumerate(run_charts(board, looks))]
    columns = _columns(board)
    whatif = build_whatif(store, sort=board.sort) if store.has_rescored else None
    return environment.get_template("page.html.j2").render(
        board=board,
        answer=answer_of(board),
        lead=_lead(board),
        facts=words.facts_of(board),
        trust=reliability_of(board, store.record),
        advice=words.advice_of(board),
        legend=words.legend_of(board).removeprefix("* best ranked row in the column; "),
        brief=words.brief_of(board, "all below"),
        columns=columns,
        long_name=LONG_NAME,
        main=[column.key for column in main_columns(columns)],
        sections=[
            _section(store, board, block, f"n{number}", looks, columns, whatif)
            for number, block in enumerate(board.blocks)
        ],
        summary=tables.summary_table(board, board.summary) if board.summary is not None else None,
        front=next((chart for chart in run_level if chart.name == "front"), None),
        levels=[chart for chart in run_level if chart.name == "levels"],
        latency=next((chart for chart in run_level if chart.name == "latency"), None),
        speed=tables.speed_table(store),
        failures=tables.failures_of(store, board),
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


def breakable(text: str) -> Markup:
    """Escape text and let lines break between the options of a name, and in long ones, so that no word is broken."""
    parts = _BREAKS.sub("\0", printable(text))  # printable text has no NUL
    parts = _LONG_WORD.sub(lambda word: _BREAKS_OF_LONG.sub("\0", word[0]), parts)
    return Markup("<wbr>").join(escape(part) for part in parts.split("\0"))


def _lead(board: Leaderboard) -> str:
    """What was compared, in one line."""
    header = board.header
    rows = words.count(len(board.blocks[0].rows), "denoiser")
    return f"{rows} on {words.count(header.images, 'image')}, {header.sizes}; run {header.run_id}"


def _section(
    store: RunStore,
    board: Leaderboard,
    block: Block,
    key: str,
    looks: Mapping[str, Look],
    columns: Sequence[Column[Row]],
    whatif: WhatIf | None,
) -> Section:
    shown = [column.key for column in columns]
    noise = read_noise(store, block)
    drawn = [_inline(chart, key) for chart in noise_charts(board, noise, looks)]
    stored, errors = noise.stored, noise.errors
    other = whatif.on(block.noise) if whatif else None
    return Section(
        key=key,
        noise=block.noise,
        title=words.title_of(board, block),
        rows=tuple(
            (row, tuple(tables.leaderboard_cell(column, row, board.sort) for column in columns)) for row in block.rows
        ),
        notes=(*words.notes_of(board, block, shown), *words.insights_of(board, block)),
        front=next((chart for chart in drawn if chart.name == "front"), None),
        charts=tuple(chart for chart in drawn if chart.name in ("work", "differences", "spectrum")),
        gallery=make_gallery(store, block, stored, MAX_PICTURE_BYTES // len(board.blocks))
        if stored and errors
        else None,
        errors=tables.error_table(errors, len(set(stored.images)), cropped=stored.cropped)
        if stored and errors
        else None,
        mismatch=tables.mismatch_table(board, block) if block.mismatch else None,
        mismatch_chart=next((chart for chart in drawn if chart.name == "mismatch"), None),
        recognition=tuple(map(tables.recognition_tables, block.recognition)),
        protocols=tuple(_inline(chart, key) for chart in protocol_charts(other, looks)) if other else (),
        protocol_notes=(*notes_of_protocols(other), explained(other)) if other else (),
        groups=tuple(tables.group_table(board, block, groups) for groups in _groups(store, noise, board.sort)),
    )


def answer_of(board: Leaderboard) -> str:
    """The result in one sentence: who leads by how much, and the fastest row that is nearly as good."""
    means = ranked_means(board)
    if not means:
        return "No denoiser has a rank."
    (leader, first), *others = means
    metric = board.sort_metric
    unit = metric.unit or metric.title
    over = f"Over {len(board.summary.noises)} noises, " if board.summary is not None else ""
    if not others:
        return f"{over}{leader.denoiser} is the only ranked row, with {words.score(first, metric)} {unit}."
    second, next_mean = others[0]
    behind = f"{words.score(abs(first - next_mean), metric)} {unit}"
    if leader.rank_to is None:
        images = words.count(board.header.images, "image")
        lead = f"{over}{leader.denoiser} leads by {behind}, but {images} are too few to test that"
    elif second.rank == leader.rank:
        lead = f"{over}{leader.denoiser} leads, but {second.denoiser}, {behind} behind, may be as good"
    else:
        lead = f"{over}{leader.denoiser} leads by {behind}"
    return f"{lead}; {fastest}." if (fastest := _fastest(board, means)) else f"{lead}."


def ranked_means(board: Leaderboard) -> list[tuple[Row | SummaryRow, float]]:
    """Ranked rows, best first, with their mean in the metric that ranks: over all noises if there are several."""
    if board.summary is not None:
        return [(row, row.mean) for row in board.summary.rows if row.rank is not None]
    rows = board.blocks[0].rows
    return [(row, row.scores[board.sort].mean) for row in rows if row.rank is not None]


def _fastest(board: Leaderboard, means: Sequence[tuple[Row | SummaryRow, float]]) -> str:
    """The fastest row near the leader; empty if this is not known, or the metric has no unit that says what is near."""
    if board.sort_metric.unit != "dB":
        return ""
    rows = [row for row in board.blocks[0].rows if not row.is_floor]
    if len(words.timing_machines(rows)) > 1:
        return ""
    latencies = {row.denoiser: row.speed.latency_p50_ms for row in rows if row.speed}
    (leader, first), *_ = means
    near = [row.denoiser for row, mean in means if abs(first - mean) <= NEAR_DB]
    timed = [name for name in near if name in latencies]
    if not timed:
        return ""
    if len(near) == 1:
        return f"no other row is within {NEAR_DB:g} dB"
    fastest = min(timed, key=latencies.__getitem__)
    if fastest == leader.denoiser:
        return f"no row within {NEAR_DB:g} dB is faster"
    instead = f" instead of {words.three_digits(latencies[leader.denoiser])}" if leader.denoiser in latencies else ""
    return f"fastest within {NEAR_DB:g} dB: {fastest} ({words.three_digits(latencies[fastest])} ms{instead})"


def reliability_of(board: Leaderboard, record: RunRecord) -> tuple[str, ...]:
    """State how far the figures of a run can be trusted, in one or two sentences each."""
    protocol = record.protocol
    statements = [
        f"Every denoiser saw the same noise. It depends only on seed {protocol.seed}, the noise model and the name of "
        "the image, not on order, batches or processes. Every result was clipped to [0, 1] and scored by the same code."
    ]
    detectable = [step.detectable for block in board.blocks for step in block.steps]
    unit = f" {board.sort_metric.unit}".rstrip()
    images = words.count(board.header.images, "image")
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
        statements.append(f"{words.count(missing, 'table row')} without a result; see Failures for the reasons.")
    if board.timing and len(words.timing_machines(row for block in board.blocks for row in block.rows)) > 1:
        statements.append("Rows were timed on different machines; do not compare their latencies.")
    elif board.timing:
        statements.append("Latencies apply to this machine and number of threads; compare them only within this run.")
    else:
        statements.append("This run was not timed.")
    if board.advice:
        statements.append("Automatic checks found something suspicious; see What to check.")
    else:
        statements.append("Automatic checks found nothing suspicious.")
    return tuple(statements)


def _columns(board: Leaderboard) -> tuple[Column[Row], ...]:
    """The columns of a leaderboard, with sigma and training next to the metric that ranks, where they are visible."""
    columns = columns_of(board)
    knowledge = [column for column in columns if column.key in ("noise_level", "channels", "trained_on")]
    others = [column for column in columns if column not in knowledge]
    place = max(place for place, column in enumerate(others) if column.key in (board.sort, "interval", "to_best"))
    return (*others[: place + 1], *knowledge, *others[place + 1 :])


def _groups(store: RunStore, noise: NoiseData, sort: str) -> list[tables.Groups]:
    if not noise.columns:
        return []
    images = store.images()
    labels = {name.removeprefix("label_"): values for name, values in images.items() if name.startswith("label_")}
    if labels:
        known = store.record.data.label_names
        labels = {name: tables.with_label_names(values, known.get(name, ())) for name, values in labels.items()}
    brightness = next(iter(noise.columns.values())).get("clean_mean")
    return tables.groups_of(labels, brightness, noise.scores(sort))


def _inline(chart: Chart, key: str) -> InlineChart:
    return InlineChart(
        chart.name, chart.title, inline_svg(chart.figure, f"{key}-{chart.name}", chart.alt, chart.titles)
    )


def _resource(name: str) -> str:
    return (files("benchbox.report.html") / "templates" / name).read_text(encoding="utf-8")
