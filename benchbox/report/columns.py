"""The columns of a leaderboard and the notes below it: one choice of words for terminal, markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchbox.report.model import Block, Leaderboard, Row
from benchbox.report.text import NONE, count, plain, score, three_digits


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes
    ----------
    key : str
        The name that `Row.best` uses.
    title, unit : str
    cell : callable
        From a row to its text, in which nothing is escaped yet.
    keep : int
        Columns of a higher number leave a narrow table first; 0 never leaves.
    text : bool
        Whether it is set flush left.
    """

    key: str
    title: str
    unit: str
    cell: Callable[[Row], str]
    keep: int = 0
    text: bool = False


def columns_of(board: Leaderboard) -> tuple[Column, ...]:
    """All columns of a leaderboard, in the order of the table."""
    columns = [
        Column("rank", "#", "", lambda row: NONE if row.rank is None else str(row.rank)),
        Column("denoiser", "denoiser", "", lambda row: plain(row.denoiser), text=True),
    ]
    main = ("psnr", "ssim", "mse")
    for metric in board.metrics:
        name = metric.label.partition(":")[0]
        keep = 0 if metric.label == board.sort else 1 + main.index(name) if name in main else 20
        columns.append(
            Column(metric.label, _title(metric.label), metric.unit, _score_cell(metric.label, metric.unit), keep)
        )
    if board.timing:
        columns += [
            _speed_column("latency_p50_ms", "p50", "ms", 4),
            _speed_column("latency_p90_ms", "p90", "ms", 21),
            _speed_column("latency_p99_ms", "p99", "ms", 22),
            _speed_column("throughput", "images/s", "", 5),
            _speed_column("cold_start_s", "cold start", "s", 23),
            _speed_column("peak_mb", "memory", "MiB", 24),
            Column("threads", "threads", "", lambda row: str(row.speed.threads) if row.speed else NONE, 25),
        ]
    columns.append(Column("knew", "sigma", "", lambda row: row.knew or NONE, 3, text=True))
    rows = [row for block in board.blocks for row in block.rows]
    if any(row.trained_on for row in rows):
        columns.append(Column("trained_on", "trained on", "", lambda row: plain(row.trained_on) or NONE, 10, text=True))
    if any(row.tuned_on for row in rows):
        columns.append(Column("tuned_on", "tuned on", "", lambda row: plain(row.tuned_on) or NONE, 11, text=True))
    return tuple(columns)


def title_of(board: Leaderboard, block: Block) -> str:
    """Title of a block: noise, what it does to the images, and the rule that ranks."""
    noisy = ""
    if block.noisy_psnr is not None:
        noisy = f", noisy images {score(block.noisy_psnr, 'psnr', 'dB')} dB"
    return f"{plain(block.noise)}{noisy}, ranked by {_title(board.sort)}"


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
    """What must be said below a block: failures, perfect images, training and tuning where no column says them.

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
    notes = [f"{plain(row.denoiser)}: {row.status}: {plain(row.reason)}" for row in block.rows if row.status != "ok"]
    notes += [
        f"{plain(row.denoiser)}: no timing: {row.speed_status}: {plain(row.speed_reason)}"
        for row in block.rows
        if board.timing and row.speed is None and row.status == "ok"
    ]
    for metric in board.metrics:
        perfect = {row.denoiser: row.scores[metric.label] for row in block.rows if row.scores}
        exact = [f"{plain(name)} {one.perfect:,}" for name, one in perfect.items() if one.perfect]
        if exact:
            notes.append(
                f"images restored exactly, {_title(metric.label)} infinite, not in the mean: {', '.join(exact)}"
            )
        undefined = [f"{plain(name)} {one.undefined:,}" for name, one in perfect.items() if one.undefined]
        if undefined:
            notes.append(f"images without a {_title(metric.label)}, not in its mean: {', '.join(undefined)}")
    if "trained_on" not in shown:
        notes += _grouped("trained on", ((row.trained_on, row.denoiser) for row in block.rows))
    if "tuned_on" not in shown:
        notes += _grouped("tuned on", ((row.tuned_on, row.denoiser) for row in block.rows))
    return tuple(notes)


def legend_of(board: Leaderboard) -> str:
    """How to read the table: marks, directions, what the columns of speed are."""
    lower = [_title(metric.label) for metric in board.metrics if not metric.higher_is_better]
    parts = ["* best of its column"]
    if lower:
        parts.append(f"{', '.join(lower)}: less is better")
    if board.timing:
        batches = sorted({row.speed.batch for block in board.blocks for row in block.rows if row.speed})
        batch = f" at {batches[0]} a call" if len(batches) == 1 else ""
        parts.append(f"p50, p90, p99: latency of one image; images/s{batch}")
    parts.append("sigma: noise level told, estimated from the noisy images, or blind")
    return "; ".join(parts)


def _title(label: str) -> str:
    name = label.partition(":")[0]
    return (
        plain(label).replace(name, name.upper(), 1) if name in ("psnr", "ssim", "mse", "mae", "gmsd") else plain(label)
    )


def _score_cell(label: str, unit: str) -> Callable[[Row], str]:
    return lambda row: score(row.scores.get(label), label, unit) if row.status == "ok" else NONE


def _speed_column(key: str, title: str, unit: str, keep: int) -> Column:
    def cell(row: Row) -> str:
        return three_digits(float(getattr(row.speed, key))) if row.speed else NONE

    return Column(key, title, unit, cell, keep)


def _grouped(words: str, pairs: Iterable[tuple[str, str]]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for value, denoiser in pairs:
        if value:
            groups.setdefault(plain(value), []).append(plain(denoiser))
    return [f"{words} {value}: {', '.join(names)}" for value, names in groups.items()]
