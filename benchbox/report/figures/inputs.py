"""Stored data of one noise, read once for its charts, tables and gallery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.report.board import Block, Leaderboard
from benchbox.report.figures import charts
from benchbox.report.figures.axes import Look, charts_style
from benchbox.report.figures.error_analysis import Causes, causes_of, frequencies
from benchbox.report.figures.gallery import Stored, read_pictures
from benchbox.report.rows import image_scores
from benchbox.store import RunStore


@dataclass(frozen=True)
class Material:
    """What is stored of one noise.

    Attributes
    ----------
    block : Block
    columns : dict of str to dict of str to ndarray, each of shape (N,)
        Scores by denoiser, one row an image, of the rows that were completed.
    stored : Stored or None
        Pictures, where the run kept any.
    causes : dict of str to Causes
        By denoiser.
    """

    block: Block
    columns: dict[str, dict[str, NDArray[Any]]]
    stored: Stored | None
    causes: dict[str, Causes]

    def scores(self, metric: str) -> dict[str, NDArray[np.float64]]:
        """Per-image scores in one metric, by denoiser."""
        return {name: columns[metric].astype(np.float64) for name, columns in self.columns.items()}


def read_material(store: RunStore, block: Block) -> Material:
    """Read what is stored of a noise."""
    cells = {cell.denoiser: cell for cell in store.record.cells if cell.noise == block.spec and cell.sigma_factor == 1}
    columns = {row.denoiser: image_scores(store, cells[row.spec]) for row in block.rows if row.scores}
    stored = read_pictures(store, block)
    made = stored.denoised if stored else {}
    causes = {
        name: causes_of(stored.clean, stored.noisy, pictures, stored.images)
        for name, pictures in made.items()
        if stored
    }
    return Material(block, columns, stored, causes)


def noise_charts(board: Leaderboard, material: Material, looks: Mapping[str, Look]) -> list[charts.Chart]:
    """The charts of one noise, those left out that have nothing to show."""
    block, causes = material.block, material.causes
    remaining = {name: one.remaining_db for name, one in causes.items()}
    with charts_style():
        made = (
            charts.front_chart(board, block, looks),
            charts.differences_chart(board, block, material.scores(board.sort), looks),
            charts.mismatch_chart(board, block, looks),
            charts.spectrum_chart(block, frequencies(), remaining, looks) if causes else None,
        )
    return [chart for chart in made if chart is not None]


def run_charts(board: Leaderboard, looks: Mapping[str, Look]) -> list[charts.Chart]:
    """The charts over all noises, those left out that have nothing to show."""
    with charts_style():
        made = [charts.levels_chart(board, kind, blocks, looks) for kind, blocks in charts.kinds_of(board)]
        latency = charts.latency_chart(board, looks)
    return made if latency is None else [*made, latency]
