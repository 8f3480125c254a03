"""What is said around the tables of a leaderboard: one choice of words for terminal, markdown, LaTeX and the page."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from benchbox.report.columns import has_normalised, metric_title
from benchbox.report.findings import Summary
from benchbox.report.model import Block, Leaderboard
from benchbox.report.text import count, plain, score

MISMATCH_TITLE = "Told a wrong noise level"
"""Title of the table of `mismatch_columns`."""


def title_of(board: Leaderboard, block: Block) -> str:
    """Title of a block: noise, what it does to the images, and the rule that ranks."""
    noisy = ""
    if block.noisy_psnr is not None:
        noisy = f", noisy images {block.noisy_psnr.mean:.2f} dB"
    within = f" within {board.within_ms:g} ms" if board.within_ms is not None else ""
    return f"{plain(block.noise)}{noisy}, ranked by {metric_title(board.sort)}{within}"


def summary_title(board: Leaderboard, summary: Summary) -> str:
    """Title of the table over all noises, with the rule that ranks."""
    return f"{len(summary.noises)} noises, ranked by mean rank in {metric_title(board.sort)}, then by its mean"


def facts_of(board: Leaderboard) -> tuple[tuple[str, str], ...]:
    """What holds for all rows, as pairs of a word and its value."""
    header = board.header
    data = " ".join(part for part in (header.dataset, header.split) if part)
    facts = [
        ("data", f"{data}, {count(header.images, 'image')}, {header.sizes}"),
        ("protocol", f"{header.protocol}; seed {header.seed}"),
        ("timing", header.timing),
        ("machine", header.machine),
        ("run", f"{header.run_id}, {header.created}, format {header.format}"),
    ]
    facts += [("note", note) for note in header.notes]
    return tuple((word, plain(value)) for word, value in facts if value)


def notes_of(board: Leaderboard, block: Block, shown: Iterable[str]) -> tuple[str, ...]:
    """What must be said below a block: failures, perfect images, shared ranks, training where no column says it.

    Parameters
    ----------
    board : Leaderboard
    block : Block
    shown : iterable of str
        Keys of the columns that the table shows.

    Returns
    -------
    tuple of str
    """
    shown = set(shown)
    said = [
        (row.denoiser, f"{'not ranked' if row.status == 'ok' else row.status}: {row.reason}")
        for row in block.rows
        if row.rank is None
    ]
    said += [
        (row.denoiser, f"no timing: {row.speed_status}: {row.speed_reason}")
        for row in block.rows
        if board.timing and row.speed is None and row.status == "ok"
    ]
    said += [(row.denoiser, f"ranked although {row.leak}") for row in block.rows if row.leak and row.rank]
    said += [(row.denoiser, caution) for row in block.rows for caution in row.cautions]
    notes = [f"{names}: {words}" for words, names in _grouped((words, name) for name, words in said)]
    worse = [plain(row.denoiser) for row in block.rows if row.worse_than_nothing]
    if worse:
        notes.append(f"worse than doing nothing: {', '.join(worse)}")
    for metric in board.metrics:
        perfect = {row.denoiser: row.scores[metric.label] for row in block.rows if row.scores}
        exact = [f"{plain(name)} {one.perfect:,}" for name, one in perfect.items() if one.perfect]
        if exact:
            notes.append(
                f"images restored exactly, {metric_title(metric.label)} infinite, not in the mean: {', '.join(exact)}"
            )
        undefined = [f"{plain(name)} {one.undefined:,}" for name, one in perfect.items() if one.undefined]
        if undefined:
            notes.append(f"images without a {metric_title(metric.label)}, not in its mean: {', '.join(undefined)}")
    ranks = [row.rank for row in block.rows if row.rank is not None]
    if len(set(ranks)) < len(ranks):
        notes.append(
            f"rows of equal rank cannot be told apart from the first of them on {count(block.compared, 'image')}"
        )
    if "trained_on" not in shown:
        trained = _grouped((row.trained_on, row.denoiser) for row in block.rows)
        notes += [f"trained on {words}: {names}" for words, names in trained]
    if "tuned_on" not in shown:
        tuned = _grouped((row.tuned_on, row.denoiser) for row in block.rows)
        notes += [f"tuned on {words}: {names}" for words, names in tuned]
    return tuple(notes)


def insights_of(board: Leaderboard, block: Block) -> tuple[str, ...]:
    """What the scores say beyond the table: power, floor and ceiling, pairs that complement each other, the front."""
    metric = board.sort_metric
    unit = f" {metric.unit}" if metric.unit else ""
    notes = []
    if block.steps:
        seen = statistics.median(step.detectable for step in block.steps)
        notes.append(
            f"{count(block.compared, 'image')} tell neighbours apart that differ by {seen:.2g}{unit} "
            "(median, four times in five)"
        )
    rank = {row.denoiser: row.rank for row in block.rows}
    tied = [step for step in block.steps if rank[step.better] == rank[step.worse]]
    if tied:
        needs = (
            f"{plain(step.better)} and {plain(step.worse)} "
            + ("(mean and signed ranks disagree)" if step.further_images is None else _about(step.further_images))
            for step in tied
            if step.difference > 0 and step.further_images != 0
        )
        if words := ", ".join(needs):
            notes.append(f"further images to tell apart, about: {words}")
    if block.oracle is not None:
        notes.append(f"best row for each image: {score(block.oracle, metric)}{unit}")
    if block.oracle_wiener is not None:
        notes.append(f"oracle Wiener filter: {score(block.oracle_wiener, metric)}{unit}")
    for pair in block.complements[:1]:
        gain = score(pair.gain, metric)
        if gain != score(0.0, metric):
            notes.append(
                f"better of {plain(pair.first)} and {plain(pair.second)} for each image: "
                f"{score(pair.together, metric)}{unit}, {gain}{unit} better than the first alone"
            )
    front = [plain(row.denoiser) for row in block.rows if row.on_front]
    if front:
        notes.append(f"none is both better and faster than: {', '.join(front)}")
    return tuple(notes)


def advice_of(board: Leaderboard) -> tuple[str, ...]:
    """What the run looks suspicious for, a sentence each."""
    return tuple(plain(f"{one.saw}. It may be that {one.why}. What to do: {one.do}.") for one in board.advice)


def legend_of(board: Leaderboard) -> str:
    """How to read the table: marks, directions, what the columns of speed are."""
    lower = [metric_title(metric.label) for metric in board.metrics if not metric.higher_is_better]
    parts = ["* best ranked row of its column"]
    if lower:
        parts.append(f"{', '.join(lower)}: less is better")
    if board.timing:
        batches = sorted({row.speed.batch for block in board.blocks for row in block.rows if row.speed})
        batch = f" at {batches[0]} a call" if len(batches) == 1 else ""
        parts.append(f"p50, p90, p99: latency of one image; images/s{batch}")
    if has_normalised(board):
        parts.append("p50 normalised: p50 over the time of the calibration kernel")
    parts.append("sigma: noise level told, estimated from the noisy images, or blind")
    return "; ".join(parts)


def _about(number: int) -> str:
    """A number of which no more than two digits are meant."""
    return f"{int(float(f'{number:.2g}')):,}"


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is said and of which denoisers, each thing once; what is empty is left out."""
    groups: dict[str, list[str]] = {}
    for words, denoiser in pairs:
        if words:
            groups.setdefault(plain(words), []).append(plain(denoiser))
    return [(words, ", ".join(names)) for words, names in groups.items()]
