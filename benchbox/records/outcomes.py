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
    reason: str  # the first useful line
    detail: str = ""  # full traceback or output


@dataclass(frozen=True)
class Outcome:
    """How a cell ended."""

    status: Status
    reason: str = ""
    knew: Knowledge | Literal[""] = ""  # ``given``, ``estimated`` or ``blind``; empty where it did not come to that
    card: TrainingCard | None = None  # None where nothing was trained
    images: int = 0  # images scored
    # scored images that have a duplicate in the split that it was trained on; None where that is not known
    overlap: int | None = None

    @property
    def trained_on(self) -> str:
        """Data set and split that it was trained on; empty where nothing was trained."""
        return self.card.label if self.card else ""


@dataclass(frozen=True)
class Calibration:
    """What fixed work took in a fresh process under the thread settings of the timing pass."""

    threads: int  # threads it was allowed
    # milliseconds of a compiled 3x3 stencil and of a product of two float32 matrices: all samples
    stencil_ms: list[float]
    product_ms: list[float]

    @property
    def time_ms(self) -> float:
        """Geometric mean of the two medians, so that either kind of work weighs the same, in milliseconds."""
        return statistics.geometric_mean(statistics.median(one) for one in (self.stencil_ms, self.product_ms))


@dataclass(frozen=True)
class Timing:
    """What the timing pass measured of one denoiser, alone in a fresh process."""

    status: Status
    reason: str = ""
    shape: tuple[int, int] = (0, 0)  # height and width of the timed images
    noise: str = ""  # canonical noise of the timed images
    threads: int = 1  # threads it was allowed
    batch: int = 1  # images a call of the throughput measurement
    # parts of the cold start in seconds: importing the plugin's module and making the object, `setup`, first call
    import_s: float = 0.0
    setup_s: float = 0.0
    first_s: float = 0.0
    peak_mb: float = 0.0  # peak resident memory that the denoiser added to the bare process, MiB
    threads_used: int = 1  # threads alive after timing beyond those of the bare process, plus one
    samples_ms: dict[int, list[float]] = field(default_factory=dict)  # milliseconds a call by batch size: all samples
    calibration: Calibration | None = None  # of the machine, before its denoisers were timed; None where it failed

    @property
    def cold_start_s(self) -> float:
        """Seconds from nothing to the first denoised image, the interpreter and the harness not counted."""
        return self.import_s + self.setup_s + self.first_s
