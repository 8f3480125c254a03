"""Reads the stored data of one noise once for its charts, tables and gallery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.report.board import Block, Leaderboard
from benchbox.report.figures import charts
from benchbox.report.figures.axes import Look, charts_style
from benchbox.report.figures.error_analysis import ErrorAnalysis, analyse_errors, frequencies
from benchbox.report.figures.gallery import StoredPictures, read_pictures
from benchbox.report.rows import image_scores
from benchbox.store import RunStore


@dataclass(frozen=True)
class NoiseData:
    """Stored data of one noise.

    Attributes
    ----------
    columns : dict of str to dict of str to ndarray, each of shape (N,)
        Scores of completed rows by denoiser, one per image.
    stored : StoredPictures or None
        Pictures, if the run kept any.
    errors : dict of str to ErrorAnalysis
        By denoiser.
    """

    block: Block
    columns: dict[str, dict[str, NDArray[Any]]]
    stored: StoredPictures | None
    errors: dict[str, ErrorAnalysis]

    def scores(self, metric: str) -> dict[str, NDArray[np.float64]]:
        """Per-image scores in one metric, by denoiser."""
        return {name: columns[metric].astype(np.float64) for name, columns in self.columns.items()}


def read_noise(store: RunStore, block: Block) -> NoiseData:
    """Read the stored data of a noise."""
    cells = {cell.denoiser: cell for cell in store.record.cells if cell.noise == block.spec and cell.sigma_factor == 1}
    columns = {row.denoiser: image_scores(store, cells[row.spec]) for row in block.rows if row.scores}
    stored = read_pictures(store, block)
    made = stored.denoised if stored else {}
    errors = {
        name: analyse_errors(stored.clean, stored.noisy, pictures, stored.images)
        for name, pictures in made.items()
        if stored
    }
    return NoiseData(block, columns, stored, errors)


def noise_charts(board: Leaderboard, noise: NoiseData, looks: Mapping[str, Look]) -> list[charts.Chart]:
    """The charts of one noise that have something to show."""
    block = noise.block
    remaining = {name: analysis.remaining_db for name, analysis in noise.errors.items()}
    with charts_style():
        made = (
            charts.front_chart(board, block, looks),
            charts.differences_chart(board, block, noise.scores(board.sort), looks),
            charts.mismatch_chart(board, block, looks),
            charts.spectrum_chart(block, frequencies(), remaining, looks) if remaining else None,
        )
    return [chart for chart in made if chart is not None]


def run_charts(board: Leaderboard, looks: Mapping[str, Look]) -> list[charts.Chart]:
    """The charts over all noises that have something to show."""
    with charts_style():
        made = [charts.levels_chart(board, family, blocks, looks) for family, blocks in charts.noise_families(board)]
        latency = charts.latency_chart(board, looks)
    return made if latency is None else [*made, latency]
