"""A run on disk with scores as real ones are, and what its leaderboard looks like, for tests."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import made_records
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchbox.records.run import (
    Cell,
    DataRecord,
    Outcome,
    PluginSpec,
    Provider,
    RunOptions,
    RunRecord,
    Timing,
)
from benchbox.report.board import Leaderboard, Row
from benchbox.report.terminal import TerminalLeaderboard
from benchbox.store import RunStore

METRICS = (made_records.PSNR, made_records.SSIM, made_records.MSE)
DENOISERS = {
    "identity": 0.0,
    "median": 4.1,
    "gaussian_blur": 5.2,
    "nl_means:patch=5,distance=11,strength=0.8": 5.8,
    "bm3d_lite": 6.5,
    "unet": 7.3,
}
IMAGES = 40


def make_record(
    denoisers: tuple[str, ...] = tuple(DENOISERS), noises: tuple[str, ...] = ("gaussian:0.1",), images: int = IMAGES
) -> RunRecord:
    record = made_records.make_record(
        denoisers,
        noises,
        METRICS,
        images,
        command="benchbox run --noise gaussian:0.1 --data fer2013.csv",
        options=RunOptions(data="fer2013.csv", split="PublicTest", seed=7, jobs=1, previews=0),
        data=DataRecord(
            "fer2013", "PublicTest", images, "48x48", "0123456789abcdef", source="5050505050505050", fitted="Training"
        ),
        jobs=2,
    )
    rows = [
        replace(
            row,
            plugin=PluginSpec(Provider("entry point", "plugin", "plugin", "1.0"), row.label),
            tuned_on="" if row.label in ("identity", "unet") else "FER2013 Training",
        )
        for row in record.denoisers
    ]
    return replace(record, denoisers=tuple(rows))


def scores_of(gain: float, images: int = IMAGES, noise: int = 0) -> dict[str, NDArray[np.float64]]:
    """Scores that share their difficult images, as real ones do: the image decides more than the denoiser."""
    difficulty = np.random.default_rng(1 + noise).normal(0, 2, images)
    own = np.random.default_rng([int(1000 * gain), noise]).normal(0, 0.3, images)
    psnr = 20.0 - 2 * noise + gain + difficulty + own
    return {"psnr": psnr, "ssim": 1 / (1 + 10 ** (1 - psnr / 20)), "mse": 10 ** (-psnr / 10)}


def write_cell(store: RunStore, cell: Cell, columns: dict[str, NDArray[np.float64]]) -> None:
    """Write a cell's scores as the engine does: in shards, here out of order."""
    images = len(columns["psnr"])
    half = images // 2
    for start, stop in ((half, images), (0, half)):
        table = {"image": np.arange(start, stop, dtype=np.int32), "repeat": np.zeros(stop - start, np.int32)}
        store.write_shard(cell.key, start, stop, table | {name: one[start:stop] for name, one in columns.items()})


def make_run(folder: Path, record: RunRecord | None = None) -> RunStore:
    record = record or make_record()
    images = record.data.images
    store = RunStore.create(folder, record, {"id": np.array([f"i{n}" for n in range(images)])})
    noises = [noise.spec for noise in record.noises]
    for cell in record.cells:
        columns = scores_of(DENOISERS.get(cell.denoiser, 3.0), images, noises.index(cell.noise))
        columns["noisy_mse"] = np.full(images, 0.01)
        write_cell(store, cell, columns)
        card = made_records.CARD if cell.denoiser == "unet" else None
        store.write_outcome(cell.key, Outcome("ok", noise_level="given", card=card, images=images, overlap=0))
    for place, denoiser in enumerate(record.denoisers, start=1):
        rng = np.random.default_rng(place)
        samples = {1: rng.gamma(20, 0.05 * place, 200).tolist(), 64: rng.gamma(20, 0.9 * place, 40).tolist()}
        timing = Timing("ok", "", (48, 48), noises[0], 1, 64, 0.1, 0.2, 0.01 * place, 12.5 * place, 1, samples)
        store.write_timing(denoiser.label, timing)
    return RunStore.open(store.folder)


def rows_of(board: Leaderboard, block: int = 0) -> dict[str, Row]:
    return {row.denoiser: row for row in board.blocks[block].rows}


def shown(
    board: Leaderboard, width: int, *, terminal: bool = True, color: str | None = None, verbose: bool = True
) -> str:
    """Print a leaderboard at a width, in a terminal without colour unless asked, or piped."""
    sink = io.StringIO()
    console = Console(
        file=sink, width=width, force_terminal=terminal, color_system=None if color is None else "truecolor"
    )
    console.print(TerminalLeaderboard(board, verbose), crop=False)
    return sink.getvalue()
