"""Warnings that advise, each on a run in which the thing really happened."""

from __future__ import annotations

import psutil
import pytest

from benchbox import notebook
from benchbox.report import render
from benchbox.report.leaderboard import build_leaderboard
from benchbox.report.model import Leaderboard

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


@pytest.mark.parametrize(
    ("saw", "named"),
    [
        ("64 processes were running on", ()),
        ("understated:0.2: the noise measured is 0.", ("its model states 0.1000",)),
        ("gaussian:0.02: returned its input", ("idle",)),
        ("gaussian:0.3: values clipped in more than 5 % of pixels", ("loud", "idle")),
        ("PSNR rises from gaussian:0.02 to the stronger gaussian:0.3", ("for_strong",)),
        ("p90 of the latency is over twice its p50", ("pausing",)),
        ("latency drifts by more than 20 % while it is taken", ("growing",)),
    ],
)
def test_what_is_suspicious_is_said_with_a_reason_and_a_remedy(
    board: Leaderboard, saw: str, named: tuple[str, ...]
) -> None:
    (advice,) = (one for one in board.advice if one.saw.startswith(saw))
    assert all(name in advice.saw for name in named)
    assert advice.why
    assert advice.do
    assert advice.do in render(board, "markdown")


def test_the_innocent_are_not_named(board: Leaderboard) -> None:
    assert not [one.saw for one in board.advice if "gaussian_blur" in one.saw and "latency" not in one.saw]
