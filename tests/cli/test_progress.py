"""What a person sees while a run works: a line for each part of it, and nothing of it left in the end."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from benchbox.cli.progress import RunProgress
from benchbox.engine.events import (
    ClusterChanged,
    Event,
    RunStarted,
    StageAdvanced,
    StageStarted,
    TimingDone,
    TimingStarted,
)
from benchbox.engine.run import execute
from benchbox.records.run import RunOptions
from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_every_part_of_a_run_has_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchbox.engine.scoring.MOST_KEPT_PIXELS", 0)  # so that images are denoised again
    screen = io.StringIO()
    monkeypatch.setattr(
        "benchbox.cli.progress.Console", lambda stderr, quiet: Console(file=screen, force_terminal=True, width=120)
    )
    config = RunOptions(
        denoisers=("identity", "wiener"),
        limit=8,
        metrics=("psnr",),
        previews=2,
        results=str(tmp_path),
    )
    told: list[Event] = []
    lines: list[str] = []

    with RunProgress() as progress:

        def show(event: Event) -> None:
            told.append(event)
            progress(event)
            screen.seek(0)
            screen.truncate()
            progress._progress.refresh()
            lines.append(screen.getvalue())

        execute(config, show)
    begun = next(
        place for place, event in enumerate(told) if event == StageStarted("making pictures for the report", 2)
    )
    assert told[begun + 1 : begun + 3] == [StageAdvanced()] * 2
    assert "making pictures for the report" in lines[begun]
    assert any("scoring the oracle Wiener filter" in line for line in lines[:begun])
    timing = next(place for place, event in enumerate(told) if isinstance(event, TimingStarted))
    assert "timing identity" in lines[timing]
    assert not any("pictures" in line for line in lines[timing:])


def test_a_run_says_that_it_connects_until_the_cluster_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        "benchbox.cli.progress.Console", lambda stderr, quiet: Console(file=screen, force_terminal=True, width=120)
    )
    with RunProgress() as progress:
        shown = []
        for event in (StageStarted("connecting to engine dask"), ClusterChanged(2, 4)):
            progress(event)
            screen.seek(0)
            screen.truncate()
            progress._progress.refresh()
            shown.append("connecting to engine dask" in screen.getvalue())
    assert shown == [True, False]


@pytest.mark.slow
def test_scores_stand_on_the_screen_before_latencies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        "benchbox.cli.progress.Console",
        lambda stderr, quiet: Console(file=screen, force_terminal=True, width=120, height=60),
    )
    options = RunOptions(("identity", "median"), limit=12, previews=0, results=str(tmp_path))
    seen: list[tuple[Event, str]] = []
    with RunProgress("ssim") as progress:

        def show(event: Event) -> None:
            progress(event)
            screen.seek(0)
            screen.truncate()
            progress._progress.refresh()
            seen.append((event, screen.getvalue()))

        execute(options, show)
    first = next(text for event, text in seen if isinstance(event, TimingStarted))
    assert "ranked by SSIM" in first
    assert first.index("1 median") < first.index("2 identity")
    assert "latency" not in first
    after = [text for event, text in seen if isinstance(event, TimingDone)]
    assert all("latency" in text for text in after)
    rows = [next(line for line in text.splitlines() if " median " in line and "given" in line) for text in after]
    assert [row.split().count("-") for row in rows] == [3, 1]  # p50 and images/s of median, which is timed last
    assert "median: no timing: not yet" in after[0]
    assert "no timing" not in after[1]
    with RunProgress() as progress:  # where an earlier run has timed one of them already
        progress(RunStarted(RunStore.open(find_run(tmp_path)).record, 24, 1))
        assert [(task.completed, task.total) for task in progress._progress.tasks] == [(24, 24), (1, 2)]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_that_is_not_timed_never_speaks_of_timing(
    terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchbox.engine.scoring.MOST_KEPT_PIXELS", 0)  # so that images are denoised again
    screen = io.StringIO()
    monkeypatch.setattr(
        "benchbox.cli.progress.Console", lambda stderr, quiet: Console(file=screen, force_terminal=terminal, width=120)
    )
    monkeypatch.setattr("benchbox.cli.progress.EVERY_S", 0.0)
    options = RunOptions(("identity",), limit=8, metrics=("psnr",), timing=False, previews=2, results=str(tmp_path))
    with RunProgress() as progress:
        execute(options, progress)
        progress._progress.refresh()
    said = screen.getvalue()
    assert "scoring identity" in said
    assert "making pictures" in said
    assert "timing" not in said


@pytest.mark.slow
def test_a_search_shows_the_lines_of_its_present_round_only(tmp_path: Path) -> None:
    options = RunOptions(
        ("identity",), limit=4, metrics=("psnr",), timing=False, previews=0, fresh=True, results=str(tmp_path)
    )
    with RunProgress() as progress:
        for _ in range(2):
            execute(options, progress)
            assert [task.description for task in progress._progress.tasks][:1] == ["scoring identity @ gaussian:0.1"]
            assert sum("scoring identity" in task.description for task in progress._progress.tasks) == 1


SLOW = """
import os, time
from pathlib import Path
from benchbox import Denoiser, hookimpl


class Slow(Denoiser):
    name = "slow"
    summary = "takes its time where it is told to"

    def __init__(self, *, k: float = 0.5) -> None:
        self.k = k

    def denoise(self, noisy, sigma):
        if "SLOW" in os.environ:
            Path(os.environ["SLOW"]).touch()
            time.sleep(600)
        return self.k * noisy


@hookimpl
def benchbox_denoisers():
    return [Slow]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "number"),
    [
        (["tune", "slow", "--space", "k=0.2,0.8", "--plugin", "slow.py", "--limit", "4"], signal.SIGTERM),
        (["replay", "2", "--plugin", "slow.py"], signal.SIGINT),
    ],
)
def test_an_interrupt_ends_every_command_in_the_same_way(
    words: list[str], number: signal.Signals, benchbox: Command, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    if words[0] == "replay":
        benchbox("run", "slow", "--plugin", "slow.py", "--limit", "4", "--no-timing", "--previews", "0")
    begun = tmp_path / "begun"
    with subprocess.Popen(
        [sys.executable, "-m", "benchbox", *words],
        cwd=tmp_path,
        env=os.environ | {"SLOW": str(begun)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while not begun.exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said.splitlines()[-1] == f"interrupted. Start again with: {shlex.join(['benchbox', *words])}"
    assert "Traceback" not in said
