"""Warnings that advise: each on a run in which the thing really happened, and its bounds on stored scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from made_boards import DENOISERS, IMAGES, make_record, make_run, scores_of, shown, write_cell
from made_records import changed, metric

from benchbox import notebook
from benchbox.report import render
from benchbox.report.board import Leaderboard
from benchbox.report.build import build_leaderboard
from benchbox.store import RunStore

SUSPECTS = """
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from benchbox import Denoiser, NoiseModel, hookimpl


@dataclass(frozen=True)
class Understated(NoiseModel):
    name: ClassVar[str] = "understated"
    summary: ClassVar[str] = "gaussian noise that states half its level"
    formula: ClassVar[str] = "y = x + n"
    example: ClassVar[str] = "understated:0.2"
    level: float = 0.2

    def apply(self, clean, rng):
        return clean + rng.normal(0, self.level, clean.shape).astype(np.float32)

    def sigma_of(self, clean):
        return self.level / 2


class Idle(Denoiser):
    name = "idle"
    summary = "gives up quietly"

    def denoise(self, noisy, sigma):
        return noisy


class Loud(Denoiser):
    name = "loud"
    summary = "overshoots"

    def denoise(self, noisy, sigma):
        return (noisy - 0.5) * 2 + 0.5


class ForStrong(Denoiser):
    name = "for_strong"
    summary = "was made for strong noise and adds error to weak noise"

    def denoise(self, noisy, sigma):
        rough = np.abs(np.diff(noisy, axis=2)).mean()
        return np.clip(noisy, 0, 1) * np.float32(1.0 if rough > 0.15 else 0.1)


class Pausing(Denoiser):
    name = "pausing"
    summary = "pauses in every fourth call"

    def __init__(self) -> None:
        self.calls = 0

    def denoise(self, noisy, sigma):
        self.calls += 1
        time.sleep(0.012 if self.calls % 4 == 0 else 0.002)
        return noisy * np.float32(0.9)


class Growing(Denoiser):
    name = "growing"
    summary = "takes longer from call to call"

    def __init__(self) -> None:
        self.calls = 0

    def denoise(self, noisy, sigma):
        self.calls += 1
        time.sleep(0.004 + 0.0002 * self.calls)
        return noisy * np.float32(0.9)


@hookimpl
def benchbox_denoisers():
    return [Idle, Loud, ForStrong, Pausing, Growing]


@hookimpl
def benchbox_noise_models():
    return [Understated]
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    folder = tmp_path_factory.mktemp("suspects")
    plugin = folder / "suspects.py"
    plugin.write_text(SUSPECTS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psutil, "getloadavg", lambda: (64.0, 64.0, 64.0))
        frames = notebook.run(
            ["identity", "gaussian_blur", "idle", "loud", "for_strong", "pausing", "growing"],
            noise=["gaussian:0.02", "gaussian:0.3", "understated:0.2"],
            limit=16,
            plugins=[plugin],
            previews=0,
            results=folder / "results",
        )
    return build_leaderboard(frames.store)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("saw", "named"),
    [
        ("64 processes were running on", ()),
        ("understated:0.2: the measured noise level is 0.", ("its model states 0.1000",)),
        ("gaussian:0.02: the input was returned unchanged by idle", ("idle",)),
        ("gaussian:0.3: over 5 % of output pixels were clipped", ("loud", "idle")),
        ("PSNR rises from gaussian:0.02 to the stronger gaussian:0.3", ("for_strong",)),
        ("p90 latency is more than twice p50", ("pausing",)),
        ("latency drifted by more than 20 % during timing", ("growing",)),
    ],
)
def test_what_is_suspicious_is_said_with_a_reason_and_a_remedy(
    board: Leaderboard, saw: str, named: tuple[str, ...]
) -> None:
    (advice,) = (one for one in board.advice if one.saw.startswith(saw))
    assert all(name in advice.saw for name in named)
    assert advice.why
    assert advice.do
    assert advice.do in render(board, "markdown").replace("\\", "")  # brackets are escaped there


@pytest.mark.process
@pytest.mark.slow
def test_the_innocent_are_not_named(board: Leaderboard) -> None:
    assert not [one.saw for one in board.advice if "gaussian_blur" in one.saw and "latency" not in one.saw]


def advised(store: RunStore) -> str:
    board = build_leaderboard(store)
    for one in board.advice:
        assert one.saw in render(board, "markdown").replace("\\", "")
    return " | ".join(one.saw for one in board.advice)


def sigma_columns(store: RunStore, sigma: float) -> None:
    """Let the noise model of a made-up run, whose noise has a standard deviation of 0.1, state a level."""
    for cell in store.record.cells:
        columns = scores_of(DENOISERS[cell.denoiser], noise=[one.spec for one in store.record.noises].index(cell.noise))
        columns["noisy_mse"] = np.random.default_rng(0).normal(0.01, 0.0003, IMAGES)
        columns["sigma_true"] = np.full(IMAGES, sigma)
        write_cell(store, cell, columns)


def test_a_sound_run_gets_no_advice(tmp_path: Path) -> None:
    store = make_run(tmp_path, make_record(noises=("gaussian:0.1", "poisson:30")))
    sigma_columns(store, 0.1)
    assert advised(store) == ""
    assert "check:" not in shown(build_leaderboard(store), 80)


def test_noise_off_its_formula_is_reported(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    sigma_columns(store, 0.12)
    assert advised(store).startswith("gaussian:0.1: the measured noise level is 0.0999, but its model states 0.1200")
    assert "check: gaussian:0.1: the measured noise" in shown(build_leaderboard(store), 80)


def test_clipped_noise_is_not_held_to_its_formula(tmp_path: Path) -> None:
    store = make_run(tmp_path, changed(make_record(), clip=True))
    sigma_columns(store, 0.12)
    assert advised(store) == ""


def test_a_busy_machine_is_reported(tmp_path: Path) -> None:
    record = make_record()
    store = make_run(tmp_path / "busy", replace(record, environment=replace(record.environment, load=2.4)))
    assert advised(store) == "2.4 processes were running on 2 cores before the run"
    for row, timing in store.timings().items():  # what runs here slows nothing down elsewhere
        store.write_timing(row, replace(timing, machine="gpu-3 (EPYC)"), "")
    assert "processes were running" not in advised(store)
    store = make_run(tmp_path / "free", replace(record, environment=replace(record.environment, load=1.8)))
    assert advised(store) == ""


def test_a_denoiser_that_returns_its_input_is_reported(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    cell = next(cell for cell in store.record.cells if cell.denoiser == "median")
    write_cell(store, cell, scores_of(DENOISERS["identity"]) | {"noisy_mse": np.full(IMAGES, 0.01)})
    assert advised(store) == "gaussian:0.1: the input was returned unchanged by median"


def test_many_clipped_values_are_reported_but_not_of_the_floor(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    shares = {"identity": 0.2, "median": 0.049, "unet": 0.051}
    for cell in store.record.cells:
        clipped = np.linspace(0, 2 * shares.get(cell.denoiser, 0.0), IMAGES)
        columns = scores_of(DENOISERS[cell.denoiser]) | {"noisy_mse": np.full(IMAGES, 0.01), "clipped": clipped}
        write_cell(store, cell, columns)
    assert advised(store) == "gaussian:0.1: over 5 % of output pixels were clipped: unet (5 %)"


@pytest.mark.slow
def test_a_psnr_that_rises_with_the_noise_is_reported(tmp_path: Path) -> None:
    store = make_run(tmp_path, make_record(noises=("gaussian:0.1", "gaussian:0.05")))
    for cell in store.record.cells:
        weak = cell.noise == "gaussian:0.05"
        gain = DENOISERS[cell.denoiser] + (3 if weak and cell.denoiser != "median" else 0)
        write_cell(store, cell, scores_of(gain) | {"noisy_mse": np.full(IMAGES, 0.0025 if weak else 0.01)})
    assert advised(store) == ""
    cell = next(cell for cell in store.record.cells if (cell.denoiser, cell.noise) == ("median", "gaussian:0.05"))
    write_cell(store, cell, scores_of(DENOISERS["median"] - 1) | {"noisy_mse": np.full(IMAGES, 0.0025)})
    assert advised(store) == "PSNR rises from gaussian:0.05 to the stronger gaussian:0.1: median"


@pytest.mark.parametrize(
    ("other", "reported"),
    [
        ("gaussian:0.05+salt-pepper:0.1", False),
        ("gaussian:0.2+salt-pepper:0.01", False),
        ("gaussian:0.1+salt-pepper:0.01", True),
        ("no specification:=", False),
    ],
)
def test_only_noises_of_one_kind_are_held_to_rise(tmp_path: Path, other: str, reported: bool) -> None:
    strong = "gaussian:0.1+salt-pepper:0.05"
    store = make_run(tmp_path, make_record(noises=(strong, other)))
    for cell in store.record.cells:
        weak = cell.noise == other
        gain = DENOISERS[cell.denoiser] + (0 if weak else 1)
        write_cell(store, cell, scores_of(gain) | {"noisy_mse": np.full(IMAGES, 0.0025 if weak else 0.01)})
    assert bool(advised(store)) == reported


@pytest.mark.parametrize(("share", "reported"), [(0.3, True), (0.8, False)])
def test_a_row_with_better_psnr_that_keeps_fewer_emotions_is_reported(
    tmp_path: Path, share: float, reported: bool
) -> None:
    kept = replace(metric("kept"), title="emotion kept", proportion=True)
    record = make_record(("identity", "median", "unet"))
    store = make_run(tmp_path, replace(record, metrics=(*record.metrics, kept)))
    for cell in store.record.cells:
        right = np.arange(IMAGES) < IMAGES * {"identity": 0.8, "median": share, "unet": 1.0}[cell.denoiser]
        columns = scores_of(DENOISERS[cell.denoiser]) | {"noisy_mse": np.full(IMAGES, 0.01)}
        write_cell(store, cell, columns | {"kept": right.astype(np.float64)})
    found = advised(store)
    if reported:
        assert found.startswith("gaussian:0.1: PSNR up, 'emotion kept' down: median over identity (+4.")
        assert found.endswith("dB, -50.0 points)")
    else:
        assert found == ""


def test_latencies_that_spread_or_drift_are_reported(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    timing = store.timings()["median"]
    steady = np.random.default_rng(0).normal(1, 0.02, 99)
    spread = np.where(np.arange(99) % 5 == 0, 3.0, steady).tolist()
    store.write_timing("median", replace(timing, samples_ms={1: spread, 64: [9.0]}))
    store.write_timing("unet", replace(timing, samples_ms={1: (steady * np.linspace(1, 1.5, 99)).tolist(), 64: [9.0]}))
    store.write_timing("identity", replace(timing, samples_ms={1: spread, 64: [9.0]}))
    assert advised(store) == (
        "p90 latency is more than twice p50: median | latency drifted by more than 20 % during timing: unet"
    )
