"""The record of a run, stored as `run.json`: its options, data, denoisers and cells."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec

from benchbox.api.denoiser import SigmaUse
from benchbox.records.options import DataRequest, Protocol, RunOptions, SigmaPolicy
from benchbox.records.outcomes import Calibration, Failure, Knowledge, Outcome, Status, Timing

T = TypeVar("T")


def decode(kind: type[T], values: Any) -> T:
    """Make a record from plain values, as `json` reads them.

    Every field must have its type; a number or a word is not converted into another.
    """
    return msgspec.convert(values, kind, strict=True, str_keys=True)


def digest(value: Any) -> str:
    """Stable hex digest of a JSON value, 16 characters."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


__all__ = [
    "Calibration",
    "Cell",
    "DataRecord",
    "DataRequest",
    "DenoiserRecord",
    "Failure",
    "Knowledge",
    "MetricRecord",
    "NoiseRecord",
    "Outcome",
    "PluginSpec",
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
class DataRecord:
    """What was opened."""

    dataset: str
    split: str
    images: int  # number of images scored
    sizes: str  # ``'48x48'``, or the range of sizes, height x width
    fingerprint: str
    notes: tuple[str, ...] = ()
    source: str = ""  # fingerprint of all images that these were drawn from
    label_names: dict[str, tuple[str, ...]] = field(default_factory=dict)  # what the numbers of a label mean
    caveat: str = ""  # what a reader of results on this data set must know
    # the data set's splits for training, validation and the final comparison; empty where it has none
    fitted: str = ""
    validated: str = ""
    tested: str = ""


@dataclass(frozen=True)
class Provider:
    """Where a plugin came from, and enough to load it again in another process."""

    kind: Literal["built in", "entry point", "file"]
    target: str  # module to import, or absolute path of the file
    # the installed package; for a file, a digest of its content
    distribution: str = ""
    version: str = ""

    @property
    def label(self) -> str:
        """Where it came from, for a person."""
        if self.kind == "file":
            return self.target
        return f"{self.distribution} {self.version} ({self.target})"


@dataclass(frozen=True)
class PluginSpec:
    """What to load from which plugin, and its options: enough to make the thing again in another process."""

    provider: Provider
    spec: str  # canonical specification
    # digest of the files that it depends on beyond its code; empty where there are none
    content: str = field(default="", kw_only=True)

    @property
    def name(self) -> str:
        """The word that users type for it."""
        return self.spec.partition(":")[0]


@dataclass(frozen=True)
class NoiseRecord:
    """A noise of a run."""

    label: str  # what the user typed, which is shown
    parts: tuple[PluginSpec, ...]  # applied from left to right
    level_title: str = ""  # what its level means, such as 'peak photons'

    @property
    def spec(self) -> str:
        """Canonical specification: the identity of the noise, which seeds its draws."""
        return "+".join(part.spec for part in self.parts)


@dataclass(frozen=True)
class MetricRecord:
    """A metric, and what a report must know of it where its plugin is not installed."""

    label: str  # what the user typed
    plugin: PluginSpec
    title: str  # heading of its column
    unit: str
    digits: int | None  # decimals that are shown; None for three significant digits
    higher_is_better: bool
    shown: bool  # whether its column stays where a table is narrow
    summary: str

    @property
    def spec(self) -> str:
        """Canonical specification: the column of the scores."""
        return self.plugin.spec


@dataclass(frozen=True)
class DenoiserRecord:
    """A row of the results, before it has scores."""

    label: str  # what the user typed, which is shown
    plugin: PluginSpec
    summary: str
    sigma_use: SigmaUse  # capability: ``required``, ``optional`` or ``unused``
    min_size: int
    deterministic: bool
    tuned_on: str
    options: dict[str, str] = field(default_factory=dict)  # every option with its value in use
    notice: str = ""  # what a reader of the row must know, such as a licence; empty for nothing
    is_floor: bool = False  # whether it returns its input unchanged

    @property
    def spec(self) -> str:
        """Canonical specification: the identity of the row."""
        return self.plugin.spec


@dataclass(frozen=True)
class Cell:
    """One denoiser on one noise: the unit that has a status."""

    key: str  # digest of the content: denoiser, its version, noise, data, protocol and metrics; never of an order
    # canonical specifications
    denoiser: str
    noise: str
    skipped: str = ""  # reason why it is not run; empty when it is
    sigma_factor: float = 1.0  # what the given noise level is multiplied by; 1 where it is told as it is


@dataclass(frozen=True)
class RunRecord:
    """Everything that is known of a run before its first score."""

    format: int  # version of the file format
    run_id: str
    created: str  # UTC, ISO 8601
    command: str  # what was typed, or the call
    options: RunOptions  # what was asked for; data set, path and split as they were found
    data: DataRecord
    noises: tuple[NoiseRecord, ...]
    metrics: tuple[MetricRecord, ...]
    denoisers: tuple[DenoiserRecord, ...]
    cells: tuple[Cell, ...]
    environment: dict[str, Any]  # processor, cores, memory, threads, versions

    @property
    def request(self) -> DataRequest:
        """Which images were opened."""
        return self.options.request

    @property
    def protocol(self) -> Protocol:
        """The rules that held for every denoiser."""
        return self.options.protocol

    @property
    def main_metric(self) -> MetricRecord:
        """The metric that ranks where no other is asked for."""
        return self.metrics[0]

    def denoiser_label(self, spec: str) -> str:
        """What the user typed for a denoiser, by its canonical specification."""
        return next((one.label for one in self.denoisers if one.spec == spec), spec)

    def noise_label(self, spec: str) -> str:
        """What the user typed for a noise, by its canonical specification."""
        return next((one.label for one in self.noises if one.spec == spec), spec)

    def cell_label(self, cell: Cell) -> str:
        """A cell in words."""
        wrong = "" if cell.sigma_factor == 1 else f" told {cell.sigma_factor:g} sigma"
        return f"{self.denoiser_label(cell.denoiser)} @ {self.noise_label(cell.noise)}{wrong}"
