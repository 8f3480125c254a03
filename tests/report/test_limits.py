"""Gates of one run: limits on scores and latencies, read before the run and checked after it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchbox import BenchboxError
from benchbox.report.build import build_leaderboard
from benchbox.report.gates import check_limits, parse_limit
from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
RUN = ("run", "identity", "median", "wiener", "--limit", "20", "--no-timing")


def test_a_row_that_passes_a_limit_fails_the_run(benchbox: Command, tmp_path: Path) -> None:
    done = benchbox(*RUN, "--fail-if", "psnr < 25.5 dB", "--fail-if", "ssim < 0.1", code=3)
    board = build_leaderboard(RunStore.open(find_run(tmp_path / "results")))
    median = next(row for row in board.blocks[0].rows if row.denoiser == "median").scores["psnr"].mean
    assert median < 25.5
    # Doing nothing scores less, but it is the floor of the table, not a method.
    assert [line for line in done.stderr.splitlines() if line.startswith("gate")] == [
        f"gate failed: psnr < 25.5 dB: median on gaussian:0.1: {median:.5g}"
    ]
    found = {breach.denoiser for breach in check_limits([parse_limit("mse >= 0", {"mse": ""}, timing=False)], board)}
    assert found == {"median", "wiener"}
    # A figure that a row does not have fails, too.
    missing = check_limits([parse_limit("throughput < 1", {}, timing=True)], board)
    assert {(breach.denoiser, breach.found) for breach in missing} == {
        ("median", "no throughput"),
        ("wiener", "no throughput"),
    }


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("psnr", "cannot read the gate"),
        ("psnr < 26 ms", "the unit of psnr is dB, not 'ms'"),
        ("ssim < 1 dB", "the unit of ssim is none, not 'dB'"),
        ("psnr < 3 %", "one run has no changes"),
        ("psnr < 26 dB significant", "one run has no changes"),
        ("latency_p50 > 5 ms", "the run is not timed"),
        ("gmsd > 0.1", "the run does not compute 'gmsd'"),
    ],
)
def test_a_limit_that_cannot_be_checked_is_refused(gate: str, message: str) -> None:
    with pytest.raises(BenchboxError, match="gate") as refused:
        parse_limit(gate, {"psnr": "dB", "ssim": ""}, timing=False)
    assert message in refused.value.message


def test_a_bad_limit_is_refused_before_the_run(benchbox: Command, tmp_path: Path) -> None:
    assert "did you mean 'psnr'" in benchbox(*RUN, "--fail-if", "psnrr < 3", code=2).stderr
    assert not (tmp_path / "results").exists()
