"""How far a run can be trusted, in sentences made from what it recorded."""

from __future__ import annotations

import statistics

from benchbox.api.records import RunRecord
from benchbox.report.model import Leaderboard
from benchbox.report.text import count, plain

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
    if record.data.dataset == "sample":
        said.append("The data are the built-in sample of photographs, and no benchmark that others use.")
    leaks = sorted({plain(row.denoiser) for block in board.blocks for row in block.rows if row.leak})
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
