"""Events that the engine reports while it works, for progress displays."""

from __future__ import annotations

from dataclasses import dataclass

from benchbox.records.run import Cell, Outcome, RunRecord, Timing
from benchbox.registry import PluginEvent


@dataclass(frozen=True)
class RunStarted:
    """The run's folder is made and the work begins; `done` images of all cells are on disk already."""

    record: RunRecord
    done: int


@dataclass(frozen=True)
class FileSetAside:
    """A torn or foreign file of the run's folder was moved out of the way."""

    name: str


@dataclass(frozen=True)
class WorkerStarted:
    """A worker process begins with a denoiser: it imports, loads weights and, the first time, compiles."""

    denoiser: str


@dataclass(frozen=True)
class ShardDone:
    """A shard of `images` images is on disk."""

    cell: Cell
    images: int


@dataclass(frozen=True)
class CellDone:
    """A cell has ended, well or not."""

    cell: Cell
    outcome: Outcome


@dataclass(frozen=True)
class StageStarted:
    """A part of the run between scoring and timing begins; `steps` is None where they are not counted."""

    name: str
    steps: int | None = None


@dataclass(frozen=True)
class StageAdvanced:
    """A step of the stage that began last is done."""


@dataclass(frozen=True)
class TimingStarted:
    """A denoiser is being timed."""

    denoiser: str


@dataclass(frozen=True)
class TimingDone:
    """A denoiser was timed, well or not."""

    denoiser: str
    timing: Timing


Event = (
    PluginEvent
    | RunStarted
    | FileSetAside
    | WorkerStarted
    | ShardDone
    | CellDone
    | StageStarted
    | StageAdvanced
    | TimingStarted
    | TimingDone
)
