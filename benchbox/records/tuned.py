"""Tuned options: the result of a search over a denoiser's options, and the images it used."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec

from benchbox.api.errors import BenchboxError
from benchbox.records.run import Count, Named, Positive, Protocol, decode
from benchbox.records.specs import Spec

_MARK = "@"


@dataclass(frozen=True)
class TunedOptions:
    """Best options found by a search."""

    denoiser: Named  # name of the denoiser
    options: dict[str, str]  # as a user writes them; empty if the defaults were best
    # images that the options were fitted to
    dataset: str
    split: str
    images: Positive  # number of images
    fingerprint: str  # of the images, see `ImageSet`
    # canonical specifications; the score is the mean over them
    noises: Annotated[tuple[Named, ...], msgspec.Meta(min_length=1)]
    protocol: Protocol
    metric: str  # canonical specification of the optimised metric
    score: float | None  # mean of the metric with these options; None if no image has a value
    # with the initial options, on the same images; None if no image has a value
    start_score: float | None
    candidates: Count  # number of combinations tried
    run: str  # id of the run with the scores of the last round
    command: str = ""  # as typed; `benchbox.run(...)` from Python
    versions: dict[str, str] = field(default_factory=dict)  # versions of benchbox and of the plugin

    @property
    def label(self) -> str:
        """Data set and split that the options were tuned on, for a table."""
        return f"{self.dataset} {self.split}".strip()

    def save(self, path: Path) -> None:
        """Write the options to a JSON file."""
        try:
            path.write_text(json.dumps(asdict(self), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise BenchboxError(
                f"cannot write {path}: {error.strerror or error}", hint="choose another file with --output"
            ) from error

    @classmethod
    def load(cls, path: Path) -> TunedOptions:
        """Read options from a JSON file; raises `BenchboxError` if it is missing or has other fields."""
        try:
            return decode(cls, json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse))
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise BenchboxError(
                f"tuned options {path}: {reason}", hint="give the JSON file that 'benchbox tune' wrote"
            ) from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def apply_tuned(spec: Spec) -> tuple[Spec, TunedOptions | None]:
    """Replace the file in ``name:@FILE`` by its options, so that the specification no longer needs the file.

    The specification may set further options. One without a file is returned unchanged, with None.
    """
    if spec.value is None or not spec.value.startswith(_MARK):
        return spec, None
    path = Path(spec.value.removeprefix(_MARK))
    tuned = TunedOptions.load(path)
    if tuned.denoiser != spec.name:
        raise BenchboxError(
            f"{path} has options for {tuned.denoiser}, not for {spec.name}", hint=f"write {tuned.denoiser}:@{path}"
        )
    return Spec(spec.name, None, (*tuned.options.items(), *spec.options)), tuned
