"""Records of how each cell and each timing ended."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Literal

from benchbox.api.denoiser import TrainingCard

Status = Literal["ok", "failed", "timeout", "died", "out of memory", "contract", "skipped"]
Knowledge = Literal["given", "estimated", "blind"]


@dataclass(frozen=True)
class Failure:
    """Why a cell or a timing has no result."""

    status: Status
    reason: str  # one line
    detail: str = ""  # full traceback or output


@dataclass(frozen=True)
class Outcome:
    """How a cell ended."""

    status: Status
    reason: str = ""
    knew: Knowledge | Literal[""] = ""  # empty if the denoiser was never called
    card: TrainingCard | None = None  # None if the denoiser was not trained
    images: int = 0  # images scored
    # scored images with a duplicate in its training split; None if unknown
    overlap: int | None = None
    reused: str = ""  # id of the run that computed it; empty for this one

    @property
    def trained_on(self) -> str:
        """Data set and split that the denoiser was trained on; empty if it was not trained."""
        return self.card.label if self.card else ""


@dataclass(frozen=True)
class Calibration:
    """Times of a fixed workload in a fresh process, with the thread settings of the timing pass."""

    threads: int  # threads it was allowed
    # milliseconds of a compiled 3x3 stencil and of a product of two float32 matrices: all samples
    stencil_ms: list[float]
    product_ms: list[float]

    @property
    def time_ms(self) -> float:
        """Geometric mean of the two medians in milliseconds, so that both kinds of work have equal weight."""
        return statistics.geometric_mean(map(statistics.median, (self.stencil_ms, self.product_ms)))


@dataclass(frozen=True)
class Timing:
    """Timing of one denoiser, alone in a fresh process."""

    status: Status
    reason: str = ""
    shape: tuple[int, int] = (0, 0)  # height and width of the timed images
    noise: str = ""  # canonical noise of the timed images
    threads: int = 1  # threads it was allowed
    batch: int = 1  # images per call when measuring throughput
    # parts of the cold start: importing the plugin and constructing the denoiser, `setup`, first call
    import_s: float = 0.0
    setup_s: float = 0.0
    first_s: float = 0.0
    peak_mb: float = 0.0  # peak resident memory beyond that of the bare process, in MiB
    threads_used: int = 1  # threads alive after timing, beyond those of the bare process, plus one
    samples_ms: dict[int, list[float]] = field(default_factory=dict)  # all samples per call, by batch size
    calibration: Calibration | None = None  # before denoisers were timed; None if it failed
    reused: str = ""  # id of the run that measured it; empty for this one

    @property
    def cold_start_s(self) -> float:
        """Seconds to the first denoised image, without starting the interpreter and importing benchbox."""
        return self.import_s + self.setup_s + self.first_s
