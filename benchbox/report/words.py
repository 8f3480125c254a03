"""Titles, notes and number formats of a leaderboard, the same in every output format."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from benchbox.api.errors import BenchboxError
from benchbox.records.run import MetricRecord
from benchbox.records.specs import parse_composition
from benchbox.report.board import Block, Header, Leaderboard, Row, Summary, SummaryRow
from benchbox.report.recognition import recognition_notes
from benchbox.stats.summaries import FEWEST_IMAGES, PERFECT_DB

NONE = "-"
CONTAMINATED = "!"
"""Behind the rank of a row that may have seen scored images in training."""


def three_digits(value: float) -> str:
    """Round to three significant digits, without an exponent from 0.0001 up; millions as ``400M``."""
    if not math.isfinite(value):
        return "inf" if value > 0 else NONE
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(float(f"{value:.2e}"))))
    if magnitude > 5:
        return f"{three_digits(value / 1e6)}M"
    if magnitude < -4:
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - magnitude)}f}"


def score(value: float | None, metric: MetricRecord, *, signed: bool = False) -> str:
    """Format a value with the decimals of its metric, by default to three significant digits."""
    if value is None or math.isnan(value):
        return NONE
    plus = "+" if signed and value > 0 else ""
    if math.isinf(value):
        return f"{plus}inf" if value > 0 else "-inf"
    if metric.digits is not None:
        return f"{plus}{value:z.{metric.digits}f}"
    return plus + three_digits(value)


def count(number: int, noun: str) -> str:
    """``1 image``, ``3,589 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def noise_family(noise: str) -> str:
    """Family of a noise: its models in order, with all options but the first, which is the level.

    ``'correlated:0.1,width=3+salt-pepper:0.05'`` is in the family ``'correlated (width=3)+salt-pepper'``; an unreadable
    specification is a family of its own.
    """
    try:
        parts = parse_composition(noise)
    except BenchboxError:  # a run record may be edited by hand
        return noise
    options = [", ".join(f"{key}={value}" for key, value in part.options) for part in parts]
    return "+".join(part.name + (f" ({words})" if words else "") for part, words in zip(parts, options, strict=True))


def device_of(row: Row) -> str:
    """The device that computed a row."""
    return (row.details.device if row.details else "") or "CPU"


def timing_machines(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Denoisers by the machine that timed them."""
    machines: dict[str, list[str]] = {}
    for row in rows:
        if row.speed:
            machines.setdefault(row.speed.machine, []).append(row.denoiser)
    return machines


def has_normalised(board: Leaderboard) -> bool:
    """Whether any row has a latency that is comparable across machines."""
    return any(row.latency_normalised is not None for block in board.blocks for row in block.rows)


def rank_range(row: Row | SummaryRow) -> str:
    """``3``, or ``4-7`` for the ranks that a row may have."""
    if row.rank is None:
        return NONE
    return str(row.rank) if row.rank_to in (None, row.rank) else f"{row.rank}-{row.rank_to}"


def compared_images(block: Block | Summary) -> str:
    """``97 images``, or ``1,280 images of 40 scenes``, of which the scenes count."""
    images = count(block.compared, "image")
    return f"{images} of {count(block.scenes, 'scene')}" if block.scenes else images


def ranks_note(block: Block | Summary) -> str:
    """Explain the ranks of a block in one sentence."""
    images = compared_images(block)
    if all(row.rank_to is None for row in block.rows):
        are = "is" if block.compared == 1 and not block.scenes else "are"
        few = f"because {images} {are} too few (minimum {FEWEST_IMAGES})"
        return f"# is only the order of the means, neither tested nor with an interval, {few}"
    return (
        f"# is the range of possible ranks: below all significantly better rows, above all significantly worse ones "
        f"({images}, {'tested by scene, ' if block.scenes else ''}family-wise error 5 %)"
    )


def title_of(board: Leaderboard, block: Block) -> str:
    """Title of a block: the noise, the PSNR of the noisy images, and the metric that ranks."""
    noisy = ""
    if block.noisy_psnr is not None:
        noisy = f", noisy images {block.noisy_psnr.mean:.2f} dB"
    within = f" within {board.within_ms:g} ms" if board.within_ms is not None else ""
    colour = " on RGB" if board.header.colour else ""
    blind = "" if board.header.has_clean else ", estimated without clean images"
    return f"{block.noise}{colour}{noisy}, ranked by {board.sort_metric.title}{blind}{within}"


def summary_title(board: Leaderboard, summary: Summary) -> str:
    """Title of the summary, with the metric that ranks."""
    colour = " on RGB" if board.header.colour else ""
    return f"All {len(summary.noises)} noises{colour}, ranked by mean {board.sort_metric.title}"


def short_facts_of(board: Leaderboard) -> tuple[tuple[str, str], ...]:
    """What was measured, as (name, value) pairs that fit into a line each."""
    header = board.header
    images = count(header.images, "image")
    if header.left_out:
        images = f"{header.images:,} of {count(header.source_images, 'image')}"
    if header.scenes:
        images += f" of {count(header.scenes, 'scene')}"
    return (
        ("data", f"{_data(header)}, {images}, {header.sizes}"),
        ("protocol", f"{header.protocol}; seed {header.seed}"),
        ("run", header.run_id),
    )


def _data(header: Header) -> str:
    return " ".join(part for part in (header.dataset, header.split) if part)


def facts_of(board: Leaderboard) -> tuple[tuple[str, str], ...]:
    """Facts about the whole run, as (name, value) pairs."""
    header = board.header
    facts = [
        ("data", f"{_data(header)}, {_images(header)}"),
        ("protocol", f"{header.protocol}; seed {header.seed}"),
        ("timing", header.timing),
        ("machine", header.machine),
        ("run", f"{header.run_id}, {header.created}, format {header.format}"),
    ]
    facts += [("note", note) for note in header.notes]
    return tuple((word, value) for word, value in facts if value)


def _images(header: Header) -> str:
    """``2,424 of 3,589 images, 48x48; 1,165 left out: ...``; where nothing was left out, the images that are scored."""
    if not header.left_out:
        scenes = f" of {count(header.scenes, 'scene')}, which intervals and tests count" if header.scenes else ""
        return f"{count(header.images, 'image')}{scenes}, {header.sizes}"
    rest = header.source_images - header.left_out
    drawn = f"; the {header.images:,} are drawn from the other {rest:,}" if header.images < rest else ""
    return (
        f"{header.images:,} of {count(header.source_images, 'image')}, {header.sizes}; "
        f"{header.left_out:,} left out: probable duplicates of training images{drawn}"
    )


def brief_of(board: Leaderboard, rest: str = "see --verbose") -> tuple[str, ...]:
    """What a reader must know below the tables, at most five lines: ranks, what was left out, training, speed, a note.

    `rest` says where all notes are. The note is the first of: rows without a rank, warnings about the data, remarks on
    rows, findings of the checks, remarks on the data.
    """
    header, lines = board.header, []
    noted = next((block for block in board.blocks if sum(row.rank is not None for row in block.rows) > 1), None)
    if noted is not None:
        tested = any(row.rank_to is not None for row in noted.rows)
        images = compared_images(noted)
        lines.append(
            f"# is the range of possible ranks (95 % confidence for all rows, {images})"
            if tested
            else ranks_note(noted)
        )
    if header.left_out:
        lines.append(f"{header.left_out:,} images left out for all rows: probable duplicates of training images")
    rows = [row for block in board.blocks for row in block.rows]
    if trained := training_of(rows):
        lines.append(trained)
    front = list(dict.fromkeys(row.denoiser for row in rows if row.on_front))
    if front:
        lines.append(f"Pareto front of {board.sort_metric.title} and latency: {', '.join(front)}")
    if board.timing and len(machines := timing_machines(rows)) > 1:
        lines.append(f"latencies are not comparable, because rows were timed on {len(machines)} machines")
    remarks = [note for block in board.blocks for note in _remarks(board, block)]
    unranked = [note for block in board.blocks for note in _unranked(block)]
    advice = [advice.saw for advice in board.advice]
    warnings = list(dict.fromkeys((*unranked, *header.warnings, *remarks, *advice, *header.notes)))
    if warnings:
        which = f"note (1 of {len(warnings)}, {rest})" if len(warnings) > 1 else "note"
        lines.append(f"{which}: {warnings[0]}")
    return tuple(lines)


def training_of(rows: Iterable[Row]) -> str:
    """What rows were trained on, in one line; empty if none was trained."""
    trained = grouped(dict.fromkeys((row.trained_on, row.denoiser) for row in rows))
    return "; ".join(f"trained on {words}: {names}" for words, names in trained)


def _unranked(block: Block) -> list[str]:
    """Why rows have no rank."""
    said = (
        (f"{'not ranked' if row.status == 'ok' else row.status}: {row.reason}", row.denoiser)
        for row in block.rows
        if row.rank is None
    )
    return [f"{names}: {words}" for words, names in grouped(said)]


def _remarks(board: Leaderboard, block: Block) -> list[str]:
    """What readers must know about rows that have a rank or a score."""
    said = [
        (
            row.denoiser,
            ": ".join(part for part in ("no timing", row.speed_status or "not yet", row.speed_reason) if part),
        )
        for row in block.rows
        if board.timing and row.speed is None and row.status == "ok"
    ]
    contaminated = [row for row in block.rows if row.contamination and row.rank]
    said += [(row.denoiser, f"marked {CONTAMINATED} because {row.contamination}") for row in contaminated]
    said += [(row.denoiser, caution) for row in block.rows for caution in row.cautions]
    notes = [f"{names}: {words}" for words, names in grouped((words, name) for name, words in said)]
    devices = dict.fromkeys(device_of(row) for row in block.rows if row.speed)
    if len(devices) > 1:
        notes.append(f"latencies are not comparable: they were measured on {' and on '.join(devices)}")
    worse = [row.denoiser for row in block.rows if row.worse_than_nothing]
    return [*notes, *([f"worse than doing nothing: {', '.join(worse)}"] if worse else [])]


def notes_of(board: Leaderboard, block: Block, shown: Iterable[str]) -> tuple[str, ...]:
    """Notes below a block: failures, exact restorations, ranks, and training if no column in `shown` states it."""
    shown = set(shown)
    notes = [*_unranked(block), *_remarks(board, block)]
    if board.timing and len(machines := timing_machines(block.rows)) > 1:
        where = " and ".join(f"{machine} ({', '.join(names)})" for machine, names in machines.items())
        notes.append(f"latencies are not comparable: they were measured on {where}")
    for metric in board.metrics:
        means = {row.denoiser: row.scores[metric.spec] for row in block.rows if row.scores}
        exact = [f"{name} {mean.perfect:,}" for name, mean in means.items() if mean.perfect]
        title = metric.title
        if exact:
            notes.append(f"exactly restored images, counted as {PERFECT_DB:g} dB {title}: {', '.join(exact)}")
        undefined = [f"{name} {mean.undefined:,}" for name, mean in means.items() if mean.undefined]
        if len(undefined) > 1 and len({mean.undefined for mean in means.values()}) == 1:
            undefined = [f"{next(iter(means.values())).undefined:,} in every row"]
        if undefined:
            notes.append(f"images without a finite {title}, excluded from the mean: {', '.join(undefined)}")
    if sum(row.rank is not None for row in block.rows) > 1:
        notes.append(ranks_note(block))
    few = [row.denoiser for row in block.rows if row.speed and math.isnan(row.speed.latency_p99_ms)]
    if board.timing and few and "latency_p99_ms" in shown:
        notes.append(f"no p99, which needs 100 calls; slow, steady calls are timed less often: {', '.join(few)}")
    found = ((_detected(row), row.denoiser) for row in block.rows)
    notes += [f"detected for {names}: {words}" for words, names in grouped(found)]
    if "trained_on" not in shown:
        trained = grouped((row.trained_on, row.denoiser) for row in block.rows)
        notes += [f"trained on {words}: {names}" for words, names in trained]
    if "tuned_on" not in shown:
        tuned = grouped((row.tuned_on, row.denoiser) for row in block.rows)
        notes += [f"tuned on {words}: {names}" for words, names in tuned]
    return tuple(notes)


def _detected(row: Row) -> str:
    """What a row found out by itself, in words."""
    return ", ".join(f"{key} {value}" for key, value in row.details.found.items()) if row.details else ""


def insights_of(board: Leaderboard, block: Block) -> tuple[str, ...]:
    """Findings beyond the table: statistical power, oracle scores, complementary rows, the Pareto front."""
    metric = board.sort_metric
    unit = f" {metric.unit}" if metric.unit else ""
    notes = []
    if block.steps:
        detectable = statistics.median(step.detectable for step in block.steps)
        notes.append(
            f"with {compared_images(block)}, adjacent rows {detectable:.2g}{unit} apart can be told apart "
            "(80 % power, median)"
        )
    needs = (
        f"{step.better} and {step.worse} about {_about(step.further_images)}"
        for step in block.steps
        if step.further_images
    )
    if words := ", ".join(needs):
        notes.append(f"more {'scenes' if block.scenes else 'images'} needed to tell apart: {words}")
    if block.oracle is not None:
        notes.append(f"oracle (best row for each image): {score(block.oracle, metric)}{unit}")
    if block.oracle_wiener is not None:
        notes.append(
            f"best linear filter: {score(block.oracle_wiener, metric)}{unit} (Wiener filter given each clean "
            "spectrum; not an upper bound, because adaptive denoisers can do better)"
        )
    for pair in block.complements[:1]:
        gain = score(pair.gain, metric)
        if gain != score(0.0, metric):
            notes.append(
                f"better of {pair.first} and {pair.second} for each image: "
                f"{score(pair.together, metric)}{unit}, {gain}{unit} better than {pair.first} alone"
            )
    for recognition in block.recognition:
        notes += recognition_notes(recognition)
    front = [row.denoiser for row in block.rows if row.on_front]
    if front:
        notes.append(f"Pareto front (no row is both better and faster): {', '.join(front)}")
    return tuple(notes)


def advice_of(board: Leaderboard) -> tuple[str, ...]:
    """Suspicious findings, each with its likely reason and what to do."""
    return tuple(f"{advice.saw}. {advice.why}. {advice.do}." for advice in board.advice)


def legend_of(board: Leaderboard) -> str:
    """How to read the table."""
    lower = [metric.title for metric in board.metrics if not metric.higher_is_better]
    parts = ["* best ranked row in the column"]
    if lower:
        parts.append(f"{', '.join(lower)}: lower is better")
    if board.timing:
        batches = sorted({row.speed.batch for block in board.blocks for row in block.rows if row.speed})
        batch = " to ".join(dict.fromkeys(str(size) for size in (batches[:1] + batches[-1:])))
        speeds = [row.speed for block in board.blocks for row in block.rows if row.speed]
        few = " (from 100 calls)" if any(math.isnan(speed.latency_p99_ms) for speed in speeds) else ""
        parts.append(f"latency: median (p50) of one image; p90 and p99{few} likewise")
        parts.append(f"images/s: with {batch} images per call" if batch else "images/s: with many images per call")
    if has_normalised(board):
        parts.append("p50 normalised: p50 divided by the time of the calibration kernel")
    parts.append("sigma: noise level given, estimated from the noisy image, or not used (blind)")
    return "; ".join(parts)


def _about(number: int) -> str:
    """Round to two significant digits."""
    return f"{int(float(f'{number:.2g}')):,}"


def grouped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Merge (text, denoiser) pairs with equal text, and drop those with no text."""
    groups: dict[str, list[str]] = {}
    for words, denoiser in pairs:
        if words:
            groups.setdefault(words, []).append(denoiser)
    return [(words, ", ".join(names)) for words, names in groups.items()]
