"""Progress of a run: a live display in a terminal, an occasional line in a pipe."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from benchbox.engine.events import (
    CellDone,
    Event,
    RunStarted,
    SetAside,
    ShardDone,
    StageAdvanced,
    StageStarted,
    TimingDone,
    TimingStarted,
    WorkerStarted,
)
from benchbox.registry import Broken, Importing, SlowImport
from benchbox.system.text import plain

EVERY_S = 15.0
"""Seconds between two lines where there is no terminal to draw on."""


def _safe(text: str) -> str:
    return escape(plain(text))


class RunProgress:
    """Shows the events of a run on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._begun = self._told = time.monotonic()
        self._images = 0
        self.run_id = ""
        self._importing: TaskID | None = None
        self._stage: TaskID | None = None

    def __enter__(self) -> RunProgress:
        """Start to draw."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing, so that an error stands on a clean line."""
        self._progress.stop()

    def _end_stage(self) -> None:
        """Take the line of a stage away: the next one begins, or the timing."""
        if self._stage is not None:
            self._progress.remove_task(self._stage)
            self._stage = None

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Importing(provider):
                if self._importing is None:
                    self._importing = self._progress.add_task("importing", total=None, speed="")
                self._progress.update(self._importing, description=f"importing {_safe(provider.label)}")
            case SlowImport(provider, seconds):
                self._console.print(
                    f"{_safe(provider.label)} took {seconds:.0f} s to import; every process that runs it takes that "
                    "again, as part of its cold start"
                )
            case Broken(provider, reason):
                self._console.print(f"left out: {_safe(f'{provider.label}: {reason}')}")
            case RunStarted(record, done):
                if self._importing is not None:
                    self._progress.remove_task(self._importing)
                    self._importing = None
                self.run_id = record.run_id
                self._record = record
                cells = [cell for cell in record.cells if not cell.skipped]
                total = len(cells) * record.data.images * record.protocol.repeats
                self._quality = self._progress.add_task("scoring", total=total, completed=done, speed="")
                if record.options.timing:
                    self._timing = self._progress.add_task("timing", total=len(record.denoisers), speed="")
                self._begun = time.monotonic()
            case SetAside(name):
                self._console.print(f"set aside: {_safe(name)}, which is torn or does not belong into this run")
            case WorkerStarted(denoiser):
                description = f"starting {_safe(denoiser)} (compiles on first use)"
                self._progress.update(self._quality, description=description)
            case ShardDone(cell, images):
                self._images += images
                speed = self._images / max(time.monotonic() - self._begun, 1e-9)
                self._progress.update(
                    self._quality,
                    advance=images,
                    description=f"scoring {_safe(self._record.cell_label(cell))}",
                    speed=f"{speed:,.0f} images/s",
                )
            case CellDone(cell, outcome):
                if outcome.status not in ("ok", "skipped") and self._console.is_terminal:
                    where = _safe(f"{self._record.cell_label(cell)}: {outcome.reason}")
                    self._console.print(f"[red]{outcome.status}[/]: {where}")
            case StageStarted(name, steps):
                self._end_stage()
                self._stage = self._progress.add_task(_safe(name), total=steps, speed="")
            case StageAdvanced():
                if self._stage is not None:
                    self._progress.update(self._stage, advance=1)
            case TimingStarted(denoiser):
                self._end_stage()
                self._progress.update(self._timing, description=f"timing {_safe(denoiser)}")
            case TimingDone():
                self._progress.update(self._timing, advance=1)
        if self._progress.disable and self._progress.tasks and time.monotonic() > self._told + EVERY_S:
            self._told = time.monotonic()
            task = next((one for one in self._progress.tasks if not one.finished), self._progress.tasks[-1])
            share = f", {task.percentage:.0f} %" if task.total else ""
            self._console.print(f"{task.description}{share} {task.fields['speed']}".rstrip(), soft_wrap=True)
