"""Tuned options: what a search over a denoiser's options found, and on which images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchbox.api.errors import BenchboxError
from benchbox.records.run import Protocol, decode
from benchbox.records.specs import Spec

_MARK = "@"


@dataclass(frozen=True)
class TunedOptions:
    """The best options that a search found."""

    denoiser: str  # name of the denoiser
    options: dict[str, str]  # options as a user writes them; empty where the defaults were best
    # the images that they were fitted to
    dataset: str
    split: str
    images: int  # number of those images
    fingerprint: str  # fingerprint of those images, as `ImageSet.fingerprint` gives it
    noises: tuple[str, ...]  # canonical noises; the score is the mean over them
    protocol: Protocol
    metric: str  # canonical metric that was improved
    score: float | None  # its mean with these options; None where no image has a value
    # its mean with the options that the search started from, on the same images; None where it has none
    start_score: float | None
    candidates: int  # number of settings that were tried
    run: str  # id of the run that holds the scores of the last round
    command: str = ""  # what was typed, or the call
    versions: dict[str, str] = field(default_factory=dict)  # versions of benchbox and of the plugin

    @property
    def label(self) -> str:
        """Short form for a table: data set and split that the options were tuned on."""
        return f"{self.dataset} {self.split}".strip()

    def save(self, path: Path) -> None:
        """Write the options as JSON."""
        try:
            path.write_text(json.dumps(asdict(self), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise BenchboxError(
                f"cannot write {path}: {error.strerror or error}", hint="choose another file with --output"
            ) from error

    @classmethod
    def load(cls, path: Path) -> TunedOptions:
        """Read options from JSON."""
        try:
            return decode(cls, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise BenchboxError(
                f"tuned options {path}: {reason}", hint="give the JSON file that 'benchbox tune' wrote"
            ) from error


def apply_tuned(spec: Spec) -> tuple[Spec, TunedOptions | None]:
    """Put the options of ``name:@FILE`` in the file's place."""
    if spec.value is None or not spec.value.startswith(_MARK):
        return spec, None
    path = Path(spec.value.removeprefix(_MARK))
    tuned = TunedOptions.load(path)
    if tuned.denoiser != spec.name:
        raise BenchboxError(
            f"{path} holds options of {tuned.denoiser}, not of {spec.name}", hint=f"write {tuned.denoiser}:@{path}"
        )
    return Spec(spec.name, None, (*tuned.options.items(), *spec.options)), tuned
