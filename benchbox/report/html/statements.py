"""What the page says about a run in sentences: the answer that it opens with, and how far to trust it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchbox.records.run import RunRecord
from benchbox.report.board import Leaderboard, Row, SummaryRow
from benchbox.report.words import count, score, three_digits

NEAR_DB = 0.5
"""How far behind the leader a faster row is worth naming: a difference that is hard to see in most images."""
FEW_IMAGES = 30


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
        return f"{over}{leader.denoiser} is the only ranked row, with {score(first, metric)} {unit}."
    second, next_mean = others[0]
    behind = f"{score(abs(first - next_mean), metric)} {unit}"
    if leader.rank_to is None:
        images = count(board.header.images, "image")
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
    instead = f" instead of {three_digits(latencies[leader.denoiser])}" if leader.denoiser in latencies else ""
    return f"fastest within {NEAR_DB:g} dB: {fastest} ({three_digits(latencies[fastest])} ms{instead})"


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
