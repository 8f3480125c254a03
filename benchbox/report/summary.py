"""All noises of a run in one table: mean rank, mean score, wins and worst case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchbox.report.findings import Summary, SummaryRow
from benchbox.report.model import Block, MetricColumn, Row


def summarise(blocks: Sequence[Block], sort: MetricColumn) -> Summary | None:
    """Rank denoisers over several noises, by their mean rank and, where it is equal, by their mean score.

    Parameters
    ----------
    blocks : sequence of Block
    sort : MetricColumn
        The metric that ranks.

    Returns
    -------
    Summary or None
        None where fewer than two noises have a ranked row.
    """
    blocks = [block for block in blocks if any(row.rank is not None for row in block.rows)]
    if len(blocks) < 2:
        return None
    sign = 1.0 if sort.higher_is_better else -1.0
    found: dict[str, list[tuple[Block, Row]]] = {}
    for block in blocks:
        for row in block.rows:
            found.setdefault(row.denoiser, [])
            if row.status == "ok" and not np.isnan(row.scores[sort.label].mean):
                found[row.denoiser].append((block, row))
    rows = {denoiser: _row(denoiser, cells, sort.label, sign) for denoiser, cells in found.items()}
    everywhere = {
        denoiser for denoiser, cells in found.items() if sum(row.rank is not None for _, row in cells) == len(blocks)
    }
    complete = [row for denoiser, row in rows.items() if denoiser in everywhere]
    complete.sort(key=lambda row: (row.mean_rank, -sign * row.mean))
    ranked: list[SummaryRow] = []
    for place, one in enumerate(complete, start=1):
        last = ranked[-1] if ranked else None
        equal = last is not None and (last.mean_rank, last.mean) == (one.mean_rank, one.mean)
        rank = last.rank if last is not None and equal else place
        ranked.append(replace(one, rank=rank, best=_best(one, complete, sign)))
    rest = [row for denoiser, row in rows.items() if denoiser not in everywhere]
    return Summary(tuple(block.noise for block in blocks), (*ranked, *rest))


def _row(denoiser: str, cells: Sequence[tuple[Block, Row]], sort: str, sign: float) -> SummaryRow:
    """Figures of a denoiser over the noises that it completed."""
    if not cells:
        return SummaryRow(None, denoiser, np.nan, np.nan, 0, "", np.nan, 0)
    mean = float(np.mean([row.scores[sort].mean for _, row in cells]))
    ranked = [(block, row) for block, row in cells if row.rank is not None]
    if not ranked:
        return SummaryRow(None, denoiser, np.nan, mean, 0, "", np.nan, len(cells))
    behind = [(sign * row.to_best.difference if row.to_best else 0.0, block.noise) for block, row in ranked]
    worst, noise = min(behind)
    return SummaryRow(
        rank=None,
        denoiser=denoiser,
        mean_rank=float(np.mean([row.rank for _, row in ranked])),
        mean=mean,
        wins=sum(row.rank == 1 for _, row in ranked),
        worst_noise=noise if worst < 0 else "",
        worst_difference=sign * worst,
        completed=len(cells),
    )


def _best(row: SummaryRow, rows: Sequence[SummaryRow], sign: float) -> tuple[str, ...]:
    marks = {
        "mean_rank": row.mean_rank == min(one.mean_rank for one in rows),
        "mean": row.mean == max((one.mean for one in rows), key=lambda mean: sign * mean),
        "wins": row.wins == max(one.wins for one in rows),
        "worst": sign * row.worst_difference == max(sign * one.worst_difference for one in rows),
    }
    return tuple(key for key, is_best in marks.items() if is_best) if len(rows) > 1 else ()
