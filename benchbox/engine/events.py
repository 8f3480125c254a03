"""Events that the engine reports while it works, for progress displays."""

from __future__ import annotations

from dataclasses import dataclass

from benchbox.records.run import Cell, DenoiserRecord, Outcome, RunRecord, Timing
from benchbox.registry import PluginEvent
from benchbox.store import RunStore


@dataclass(frozen=True)
class RunStarted:
    """The run folder exists and scoring begins; `done` images over all cells and `timed` rows are already on disk."""

    record: RunRecord
    done: int
    timed: int = 0


@dataclass(frozen=True)
class CellsReused:
    """`cells` of `total` cells, and `latencies`, were copied from earlier runs with these ids."""

    cells: int
    total: int
    latencies: int
    runs: tuple[str, ...]


@dataclass(frozen=True)
class FileSetAside:
    """A damaged or foreign file was moved out of the run folder."""

    name: str


@dataclass(frozen=True)
class WorkerStarted:
    """A worker process starts on a denoiser: it imports, loads weights and, the first time, compiles."""

    denoiser: str


@dataclass(frozen=True)
class ClusterChanged:
    """Workers of a cluster came or went, or there is something to know about them."""

    workers: int  # that may be used
    threads: int  # of these, in all
    dashboard: str = ""  # its address
    note: str = ""


@dataclass(frozen=True)
class ShardDone:
    """The scores of a shard of `images` images are on disk."""

    cell: Cell
    images: int


@dataclass(frozen=True)
class CellDone:
    """A cell has finished, successfully or not."""

    cell: Cell
    outcome: Outcome


@dataclass(frozen=True)
class StageStarted:
    """A stage beside scoring and timing begins; `steps` is None if its steps are not counted."""

    name: str
    steps: int | None = None


@dataclass(frozen=True)
class StageAdvanced:
    """A step of the current stage is done."""


@dataclass(frozen=True)
class ScoresDone:
    """Every score of a run is on disk; pictures and latencies may follow."""

    store: RunStore


@dataclass(frozen=True)
class TimingStarted:
    """A denoiser is being timed."""

    denoiser: str


@dataclass(frozen=True)
class TimingDone:
    """The timing of a denoiser has finished, successfully or not."""

    denoiser: DenoiserRecord
    timing: Timing


Event = (
    PluginEvent
    | RunStarted
    | CellsReused
    | FileSetAside
    | WorkerStarted
    | ClusterChanged
    | ShardDone
    | CellDone
    | StageStarted
    | StageAdvanced
    | ScoresDone
    | TimingStarted
    | TimingDone
)
