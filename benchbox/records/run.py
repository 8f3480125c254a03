"""The record of a run (run.json: options, data, denoisers, cells), and how each cell and timing ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from benchbox.api.arrays import Channels
from benchbox.api.denoiser import Details, SigmaUse, TrainingCard
from benchbox.records.options import RECORDED, RunOptions
from benchbox.records.protocol import Protocol, SigmaPolicy
from benchbox.records.specs import Named, PluginSpec, Provider

Status = Literal["ok", "failed", "timeout", "died", "out of memory", "contract", "skipped"]
Knowledge = Literal["given", "estimated", "blind"]

# What a record may hold is checked where it is read, so that a damaged file is an error that names its place.
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Positive = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, lt=2.0**53)]
Milliseconds = Annotated[float, msgspec.Meta(gt=0, lt=2.0**53)]
Key = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
T = TypeVar("T")
__all__ = [
    "Calibration",
    "Cell",
    "Count",
    "DataRecord",
    "DenoiserRecord",
    "Environment",
    "Failure",
    "Knowledge",
    "MetricRecord",
    "Named",
    "NoiseRecord",
    "Outcome",
    "PluginSpec",
    "Positive",
    "Protocol",
    "Provider",
    "RunOptions",
    "RunRecord",
    "SigmaPolicy",
    "Status",
    "Timing",
    "decode",
    "digest",
]


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
    noise_level: Knowledge | Literal[""] = ""  # empty if the denoiser was never called
    card: TrainingCard | None = None  # None if the denoiser was not trained
    images: Count = 0  # images scored
    # scored images with a duplicate in its training split; None if unknown
    overlap: Count | None = None
    reused: str = ""  # id of the run that computed it; empty for this one
    details: Details | None = None  # what the denoiser found out about itself

    @property
    def trained_on(self) -> str:
        """Data set and split that the denoiser was trained on; empty if it was not trained."""
        return self.card.label if self.card else ""


@dataclass(frozen=True)
class Calibration:
    """Times of a fixed workload in a fresh process, with the thread settings of the timing pass."""

    threads: Positive  # threads it was allowed
    # a compiled 3x3 stencil, and a product of two float32 matrices: all samples
    stencil_ms: Annotated[list[Milliseconds], msgspec.Meta(min_length=1)]
    product_ms: Annotated[list[Milliseconds], msgspec.Meta(min_length=1)]

    @property
    def time_ms(self) -> float:
        """Geometric mean of the two medians in milliseconds, so that both kinds of work have equal weight."""
        import statistics

        return statistics.geometric_mean(map(statistics.median, (self.stencil_ms, self.product_ms)))


@dataclass(frozen=True)
class Timing:
    """Timing of one denoiser, alone in a fresh process."""

    status: Status
    reason: str = ""
    shape: tuple[Count, Count] = (0, 0)  # height and width of the timed images
    noise: str = ""  # canonical noise of the timed images
    threads: Positive = 1  # threads it was allowed
    batch: Positive = 1  # images per call when measuring throughput
    # parts of the cold start: importing the plugin and constructing the denoiser, `setup`, first call
    import_s: NotNegative = 0.0
    setup_s: NotNegative = 0.0
    first_s: NotNegative = 0.0
    peak_mb: NotNegative = 0.0  # peak resident memory beyond that of the bare process, in MiB
    threads_used: Positive = 1  # threads alive after timing, beyond those of the bare process, plus one
    samples_ms: dict[Positive, list[Milliseconds]] = field(default_factory=dict)  # all samples per call, by batch size
    calibration: Calibration | None = None  # before denoisers were timed; None if it failed
    machine: str = ""  # host and processor that timed it; empty for the machine in `environment`
    reused: str = ""  # id of the run that measured it; empty for this one
    details: Details | None = None  # what the denoiser found out about itself, after it was timed

    @property
    def cold_start_s(self) -> float:
        """Seconds to the first denoised image, without starting the interpreter and importing benchbox."""
        return self.import_s + self.setup_s + self.first_s


def decode(kind: type[T], values: Any) -> T:
    """Make a record from JSON values.

    Every field must be known, have exactly its type, and lie in its range. Otherwise `ValueError` names its path, such
    as ``$.cells[3].skipped``.
    """
    record = msgspec.convert(values, kind, strict=True, str_keys=True)
    if unknown := _unknown(values, msgspec.to_builtins(record, str_keys=True)):
        raise ValueError(f"Object contains unknown field - at `${unknown}`")
    return record


def _unknown(values: Any, known: Any) -> str:
    """Path of the first field that a record does not have; empty if it has all."""
    if isinstance(values, dict):
        for key, value in values.items():
            if str(key) not in known:
                return f".{key}"
            if inner := _unknown(value, known[str(key)]):
                return f".{key}{inner}"
    elif isinstance(values, list | tuple):
        for place, (value, decoded) in enumerate(zip(values, known, strict=True)):
            if inner := _unknown(value, decoded):
                return f"[{place}]{inner}"
    return ""


def digest(value: Any) -> str:
    """Stable digest of a JSON value, 16 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


@dataclass(frozen=True)
class DataRecord:
    """The images of a run."""

    dataset: str
    split: str
    images: Positive  # number of images scored
    sizes: str  # ``'48x48'``, or the range of sizes, height x width
    fingerprint: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()  # why scores on these images may mislead
    source: str = ""  # fingerprint of all images, before `--limit` or left-out duplicates
    source_images: Count = 0  # number of these images
    left_out: Count = 0  # how many of them were left out because a denoiser may have seen them in training
    label_names: dict[str, tuple[str, ...]] = field(default_factory=dict)  # names of label values
    caveat: str = ""  # what readers of results on this data set must know
    # the data set's splits for training, validation and the final comparison; empty if it has none
    fitted: str = ""
    validated: str = ""
    tested: str = ""
    folder: str = ""  # name of the folder or file, if results call the data after it
    channels: Literal[1, 3] = 1  # of each image: grey, or red, green and blue
    has_clean: bool = True  # whether there are clean images; if not, scores are estimated
    scenes: Count = 0  # which the images show; 0 if every image is a scene of its own

    @property
    def label(self) -> str:
        """What results call the data."""
        return self.folder or self.dataset

    @property
    def is_colour(self) -> bool:
        """Whether the images are in colour."""
        return self.channels > 1


@dataclass(frozen=True)
class NoiseRecord:
    """A noise of a run."""

    label: Named  # as typed; shown everywhere
    parts: tuple[PluginSpec, ...]  # applied from left to right; none if the noise was recorded with the images
    level_title: str = ""  # what its level means, such as 'peak photons'
    white: bool = False  # zero mean and independent between pixels, in all its parts
    gaussian: bool = False  # white and Gaussian, in all its parts

    @property
    def spec(self) -> str:
        """Canonical specification: the identity of the noise, which seeds its draws."""
        return "+".join(part.spec for part in self.parts) or RECORDED

    @property
    def is_recorded(self) -> bool:
        """Whether it was recorded with the images."""
        return not self.parts

    @property
    def is_estimable(self) -> bool:
        """Whether its level may be estimated: of salt and pepper, say, the estimator sees a misleading third."""
        return self.white or self.is_recorded


@dataclass(frozen=True)
class MetricRecord:
    """A metric, with everything a report needs, because its plugin may not be installed."""

    label: Named  # as typed
    plugin: PluginSpec
    title: str  # heading of its column
    unit: str
    digits: Annotated[int, msgspec.Meta(ge=0, le=15)] | None  # decimals shown; None for three significant digits
    higher_is_better: bool
    shown: bool  # whether narrow tables keep its column
    summary: str
    proportion: bool = False  # whether every score is 0 or 1, and the mean a proportion
    class_names: tuple[str, ...] = ()  # of a classifier's classes, by number; empty if unknown, or it asks none

    @property
    def identity(self) -> str:
        """What its scores depend on besides the images: the specification, and the content of its files."""
        return " ".join(filter(None, (self.plugin.spec, self.plugin.content)))

    @property
    def spec(self) -> str:
        """Canonical specification: the column of the scores."""
        return self.plugin.spec

    @property
    def sign(self) -> float:
        """1 if higher is better, else -1: scores times this are better the higher they are."""
        return 1.0 if self.higher_is_better else -1.0


@dataclass(frozen=True)
class DenoiserRecord:
    """A row of the results, before it has scores."""

    label: Named  # as typed, or the row's own name; shown everywhere
    plugin: PluginSpec
    summary: str
    sigma_use: SigmaUse  # capability: ``required``, ``optional`` or ``unused``
    min_size: Count
    deterministic: bool
    tuned_on: str
    options: dict[str, str] = field(default_factory=dict)  # every option with its value
    notice: str = ""  # what readers of the row must know, such as a licence
    is_floor: bool = False  # whether it returns its input unchanged
    channels: Channels = "grey"  # capability: the stacks that it takes
    starts_programs: bool = False  # whether an option names a program or code that it runs

    @property
    def spec(self) -> str:
        """Canonical specification: the identity of the row."""
        return self.plugin.spec

    @property
    def across_runs(self) -> str:
        """What identifies the row in another run: its own name if it has one, else its canonical specification."""
        return self.spec if self.label.partition(":")[0] == self.plugin.name else self.label


@dataclass(frozen=True)
class Cell:
    """One denoiser on one noise, the unit that has a status."""

    key: Key  # digest of denoiser, version, noise, data, protocol and metrics, in any order
    # canonical specifications
    denoiser: str
    noise: str
    skipped: str = ""  # why it is not run; empty if it is
    sigma_factor: Annotated[float, msgspec.Meta(gt=0, lt=100)] = 1.0  # factor on the given noise level
    code: str = ""  # digest of the code and machine that compute it; empty if it must be computed in every run


@dataclass(frozen=True)
class Environment:
    """The machine and software of a run; values that differ between merged runs are texts, joined by slashes."""

    cpu: str
    cores: Positive | str  # that the run may use
    memory_gb: NotNegative | str  # that the run may use, in GiB
    system: str
    python: str
    versions: dict[str, str]  # of the packages that scores and latencies depend on
    load: NotNegative  # mean number of runnable processes in the minute before the run

    @property
    def machine(self) -> tuple[str, int | str]:
        """What latencies depend on."""
        return self.cpu, self.cores

    @property
    def machine_label(self) -> str:
        """Its processor in words."""
        return f"{self.cpu}, {self.cores} cores"


@dataclass(frozen=True)
class RunRecord:
    """Everything known about a run before its first score."""

    format: int  # version of the file format
    run_id: str
    created: str  # UTC, ISO 8601
    command: str  # as typed; `benchbox.run(...)` from Python
    options: RunOptions  # with data set, path and split as detected
    data: DataRecord
    noises: Annotated[tuple[NoiseRecord, ...], msgspec.Meta(min_length=1)]
    metrics: Annotated[tuple[MetricRecord, ...], msgspec.Meta(min_length=1)]
    denoisers: Annotated[tuple[DenoiserRecord, ...], msgspec.Meta(min_length=1)]
    cells: Annotated[tuple[Cell, ...], msgspec.Meta(min_length=1)]
    environment: Environment

    def check(self) -> None:
        """Reject what no single field shows: names that are not unique, and cells without a denoiser or a noise.

        Raises
        ------
        ValueError
            Names the path of the field.
        """
        for name in ("noises", "metrics", "denoisers"):
            for what in ("label", "spec"):
                _require_unique(name, [getattr(item, what) for item in getattr(self, name)])
        _require_unique("cells", [cell.key for cell in self.cells])
        _require_unique("cells", [(cell.denoiser, cell.noise, cell.sigma_factor) for cell in self.cells])
        for what, known in (("denoiser", self.denoisers), ("noise", self.noises)):
            specs = {item.spec for item in known}
            for place, cell in enumerate(self.cells):
                if getattr(cell, what) not in specs:
                    raise ValueError(
                        f"{getattr(cell, what)!r} is not a {what} of the run - at `$.cells[{place}].{what}`"
                    )

    @property
    def protocol(self) -> Protocol:
        """The rules for every denoiser."""
        return self.options.protocol

    @property
    def protocol_label(self) -> str:
        """The protocol in words, for the title of a table."""
        recorded = all(noise.is_recorded for noise in self.noises)
        return f"noise as recorded, sigma {self.protocol.sigma}" if recorded else self.protocol.label

    @property
    def main_metric(self) -> MetricRecord:
        """The metric that ranks by default."""
        return self.metrics[0]

    def cells_on(self, noise: str) -> dict[str, Cell]:
        """Cells of a noise in which denoisers get the true level, by canonical denoiser."""
        return {cell.denoiser: cell for cell in self.cells if cell.noise == noise and cell.sigma_factor == 1}

    def denoiser_label(self, spec: str) -> str:
        """Label of a denoiser, by its canonical specification."""
        return next((denoiser.label for denoiser in self.denoisers if denoiser.spec == spec), spec)

    def noise_label(self, spec: str) -> str:
        """Label of a noise, by its canonical specification."""
        return next((noise.label for noise in self.noises if noise.spec == spec), spec)

    def cell_label(self, cell: Cell) -> str:
        """Readable name of a cell."""
        wrong = "" if cell.sigma_factor == 1 else f" given {cell.sigma_factor:g} sigma"
        return f"{self.denoiser_label(cell.denoiser)} @ {self.noise_label(cell.noise)}{wrong}"


def _require_unique(name: str, values: Sequence[object]) -> None:
    if len(set(values)) < len(values):
        place = next(place for place, value in enumerate(values) if value in values[:place])
        raise ValueError(f"{values[place]!r} occurs twice - at `$.{name}[{place}]`")
