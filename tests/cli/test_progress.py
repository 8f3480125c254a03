"""What a person sees while a run works: a line for each part of it, and nothing of it left in the end."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchbox.cli.progress import RunProgress
from benchbox.engine.events import Event, StageAdvanced, StageStarted, TimingStarted
from benchbox.engine.run import execute
from benchbox.records.run import RunOptions


@pytest.mark.slow
def test_every_part_of_a_run_has_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        "benchbox.cli.progress.Console", lambda stderr: Console(file=screen, force_terminal=True, width=120)
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
