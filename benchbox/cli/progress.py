"""Progress of every long command: a live display in a terminal, an occasional line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.segment import Segments
from rich.text import Text

from benchbox.engine import events
from benchbox.registry import Broken, Importing, SlowImport
from benchbox.report.build import build_leaderboard, with_timing
from benchbox.report.terminal import TerminalLeaderboard
from benchbox.system.text import printable

if TYPE_CHECKING:
    from benchbox.report.board import Leaderboard
    from benchbox.training import BatchDone, ClassifierEpoch, EpochDone, TrainingStarted

EVERY_S = 15.0
"""Seconds between two lines if the output is not a terminal."""


def safe(text: str) -> str:
    """Text that rich prints as it is, without control characters."""
    return escape(printable(text))


class _TimeLeft(TimeRemainingColumn):
    """The remaining time that a task reports, or else rich's estimate."""

    def render(self, task: Task) -> Text:
        left: float | None = task.fields["left"]
        if left is None:
            return super().render(task)
        seconds = max(0, round(left))
        return Text(f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}", style="progress.remaining")


class _WithTable(Progress):
    """Lines of progress with a table beneath them."""

    table: RenderableType = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The lines first, because a table that is too long is cropped at its end."""
        yield from super().get_renderables()
        yield self.table


class Display:
    """Shows the current work, its progress, speed and remaining time on standard error."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._progress = _WithTable(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[speed]}"),
            _TimeLeft(),
            console=self._console,
            transient=True,
            refresh_per_second=4,  # little work beside the denoisers that are timed
            disable=quiet or not self._console.is_terminal,
        )
        self._printed_at = time.monotonic()
        self._stage: TaskID | None = None

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing, so that an error starts on a clean line."""
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print a permanent line, in the markup of rich, above the live ones."""
        self._console.print(line, highlight=False, soft_wrap=True)

    def begin_stage(self, name: str, steps: int | None = None) -> None:
        """Show a stage of the work in place of the previous one."""
        self.end_stage()
        self._stage = self._add(safe(name), steps)

    def advance_stage(self) -> None:
        """Count a step of the stage."""
        if self._stage is not None:
            self._progress.update(self._stage, advance=1)
        self._print_line()

    def end_stage(self) -> None:
        """Remove the line of the stage."""
        if self._stage is not None:
            self._progress.remove_task(self._stage)
            self._stage = None

    def _add(self, description: str, total: int | None, completed: int = 0) -> TaskID:
        return self._progress.add_task(description, total=total, completed=completed, speed="", left=None)

    def _print_line(self) -> None:
        """Print the progress if nothing is drawn and the last line is old enough."""
        if not (self._progress.disable and self._progress.tasks and time.monotonic() > self._printed_at + EVERY_S):
            return
        self._printed_at = time.monotonic()
        tasks = self._progress.tasks
        stage = [task for task in tasks if task.id == self._stage]
        task = next((task for task in (*stage, *tasks) if not task.finished), tasks[-1])
        share = f", {task.percentage:.0f} %" if task.total else ""
        seconds = task.time_remaining if task.fields["left"] is None else task.fields["left"]
        left = f", about {seconds:.0f} s left" if seconds else ""
        self.say(f"{task.description}{share} {task.fields['speed']}".rstrip() + left)


class RunProgress(Display):
    """Shows the events of one run after another."""

    def __init__(self, sort: str | None = None, *, quiet: bool = False) -> None:
        """Show the leaderboard, by the metric `sort`, as soon as it has scores; None for never."""
        super().__init__(quiet=quiet)
        self._sort = sort
        self._board: Leaderboard | None = None
        self._begun = time.monotonic()
        self._images = 0
        self._cluster = self._dashboard = ""
        self.run_id = ""
        self._importing: TaskID | None = None
        self._tasks: list[TaskID] = []

    def __call__(self, event: events.Event) -> None:
        """Show an event."""
        match event:
            case Importing(provider):
                if self._importing is None:
                    self._importing = self._add("importing", None)
                self._progress.update(self._importing, description=f"importing {safe(provider.label)}")
            case SlowImport(provider, seconds):
                self.say(
                    f"{safe(provider.label)} took {seconds:.0f} s to import, and will in every process that runs it, "
                    "as part of its cold start"
                )
            case Broken(provider, reason):
                self.say(f"left out: {safe(f'{provider.label}: {reason}')}")
            case events.RunStarted(record, done, timed):
                self._begin(record.run_id)
                self._record = record
                cells = [cell for cell in record.cells if not cell.skipped]
                total = len(cells) * record.data.images * record.protocol.repeats
                self._quality = self._add("scoring", total, done)
                self._tasks = [self._quality]
                if record.options.timing:
                    self._timing = self._add("timing", len(record.denoisers), timed)
                    self._tasks.append(self._timing)
            case events.CellsReused(cells, total, latencies, runs):
                known = f" and {latencies} latencies" if latencies else ""
                where = f"run {runs[0]}" if len(runs) == 1 else f"{len(runs)} runs, the newest {runs[0]}"
                self.say(f"reused {cells} of {total} cells{known} of {safe(where)} (--fresh computes them anew)")
            case events.FileSetAside(name):
                self.say(f"set aside: {safe(name)}, because it is damaged or does not belong to this run")
            case events.WorkerStarted(denoiser):
                self.end_stage()
                description = f"starting {safe(denoiser)} (may compile or load weights)"
                self._progress.update(self._quality, description=description)
            case events.ClusterChanged(workers, threads, dashboard, note):
                self.end_stage()
                self._cluster = f", {workers} workers ({threads} threads)" if workers != 1 else ", 1 worker"
                if dashboard and dashboard != self._dashboard:
                    self._dashboard = dashboard
                    self.say(f"dashboard of the cluster: {safe(dashboard)}")
                if note:
                    self.say(safe(note))
            case events.ShardDone(cell, images):
                self._images += images
                speed = self._images / max(time.monotonic() - self._begun, 1e-9)
                self._progress.update(
                    self._quality,
                    advance=images,
                    description=f"scoring {safe(self._record.cell_label(cell))}",
                    speed=f"{speed:,.0f} images/s{self._cluster}",
                )
            case events.CellDone(cell, outcome):
                if outcome.status not in ("ok", "skipped") and self._console.is_terminal:
                    where = safe(f"{self._record.cell_label(cell)}: {outcome.reason}")
                    self.say(f"[red]{outcome.status}[/]: {where}")
            case events.StageStarted(name, steps):
                self._end_imports()
                self.begin_stage(name, steps)
            case events.StageAdvanced():
                self.advance_stage()
            case events.ScoresDone(store):
                self.end_stage()
                # The live table is for the wait; elsewhere, it is printed once, when it is complete.
                if self._sort is not None and store.record.options.timing and self._console.is_terminal:
                    self._show(build_leaderboard(store, sort=self._sort))
            case events.TimingStarted(label):
                self.end_stage()
                self._progress.update(self._timing, description=f"timing {safe(label)}")
            case events.TimingDone(denoiser, timing):
                self._progress.update(self._timing, advance=1)
                if self._board is not None:
                    self._show(with_timing(self._board, denoiser.spec, timing, self._record.environment))
        self._print_line()

    def _show(self, board: Leaderboard) -> None:
        """Show a leaderboard, laid out once and not at every refresh."""
        self._board = board
        self._progress.table = Segments(list(self._console.render(TerminalLeaderboard(board))))

    def _begin(self, run_id: str) -> None:
        """Replace the lines of the previous run; a search makes several runs."""
        self.end_stage()
        self._end_imports()
        for task in self._tasks:
            self._progress.remove_task(task)
        self.run_id, self._images, self._begun = run_id, 0, time.monotonic()

    def _end_imports(self) -> None:
        if self._importing is not None:
            self._progress.remove_task(self._importing)
            self._importing = None


class TrainingProgress(Display):
    """Shows the events of a training, with a permanent line per epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs = 0

    def __call__(self, event: TrainingStarted | BatchDone | EpochDone | ClassifierEpoch) -> None:
        """Show an event."""
        from benchbox.training import BatchDone, ClassifierEpoch, TrainingStarted

        if isinstance(event, TrainingStarted):
            for note in event.notes:
                self.say(f"note: {safe(note)}")
            self.say(
                f"{event.images} training and {event.validation} validation images; epochs {event.first_epoch} to "
                f"{event.epochs}"
            )
            self._task = self._add(f"epoch {event.first_epoch}", event.images)
        elif isinstance(event, BatchDone):
            self._progress.update(
                self._task,
                advance=event.images,
                description=f"epoch {event.epoch}",
                speed=f"loss {event.loss:.6f}  {event.images_per_s:,.0f} images/s",
                left=event.seconds_left,
            )
        else:
            self._progress.reset(self._task, description=f"epoch {event.epoch + 1}", speed="")
            self.epochs += 1
            self._printed_at = time.monotonic()
            if isinstance(event, ClassifierEpoch):
                right = f"validation {100 * event.accuracy:.1f} % right"
                self.say(f"epoch {event.epoch}: loss {event.loss:.4f}; {right}{', best' if event.best else ''}")
                return
            self.say(
                f"epoch {event.epoch}: loss {event.loss:.6f}, accuracy {event.accuracy:.3f}; validation "
                f"{event.val_loss:.6f}, {event.val_psnr:.2f} dB, accuracy {event.val_accuracy:.3f}; "
                f"{event.images_per_s:,.0f} images/s"
                f"{', best' if event.best else ''}"
            )
        self._print_line()
