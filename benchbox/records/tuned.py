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
    """The best options that a search found.

    Attributes
    ----------
    denoiser : str
        Name of the denoiser.
    options : dict of str to str
        Options as a user writes them; empty where the defaults were best.
    dataset, split : str
        The images that they were fitted to.
    images : int
        Number of those images.
    fingerprint : str
        Fingerprint of those images, as `ImageSet.fingerprint` gives it.
    noises : tuple of str
        Canonical noises; the score is the mean over them.
    protocol : Protocol
    metric : str
        Canonical metric that was improved.
    score : float
        Its mean with these options.
    start_score : float
        Its mean with the options that the search started from, on the same images.
    candidates : int
        Number of settings that were tried.
    run : str
        Id of the run that holds the scores of the last round.
    command : str
        What was typed, or the call.
    versions : dict of str to str
        Versions of benchbox and of the plugin.
    """

    denoiser: str
    options: dict[str, str]
    dataset: str
    split: str
    images: int
    fingerprint: str
    noises: tuple[str, ...]
    protocol: Protocol
    metric: str
    score: float
    start_score: float
    candidates: int
    run: str
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Short form for a table: data set and split that the options were tuned on."""
        return f"{self.dataset} {self.split}".strip()

    def save(self, path: Path) -> None:
        """Write the options as JSON.

        Raises
        ------
        BenchboxError
            The file cannot be written.
        """
        try:
            path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise BenchboxError(
                f"cannot write {path}: {error.strerror or error}", hint="choose another file with --output"
            ) from error

    @classmethod
    def load(cls, path: Path) -> TunedOptions:
        """Read options from JSON.

        Raises
        ------
        BenchboxError
            The file is missing, is not JSON, lacks a field or has one of another type.
        """
        try:
            return decode(cls, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise BenchboxError(
                f"tuned options {path}: {reason}", hint="give the JSON file that 'benchbox tune' wrote"
            ) from error


def apply_tuned(spec: Spec) -> tuple[Spec, TunedOptions | None]:
    """Put the options of ``name:@FILE`` in the file's place.

    Parameters
    ----------
    spec : Spec
        ``median:@tuned.json``, possibly with options that the file does not set; any other is given back as it is.

    Returns
    -------
    spec : Spec
        With the file's options spelt out, so that it needs the file no more.
    tuned : TunedOptions or None
        What the file says; None where no file is named.

    Raises
    ------
    BenchboxError
        The file cannot be read, or holds the options of another denoiser.
    """
    if spec.value is None or not spec.value.startswith(_MARK):
        return spec, None
    path = Path(spec.value.removeprefix(_MARK))
    tuned = TunedOptions.load(path)
    if tuned.denoiser != spec.name:
        raise BenchboxError(
            f"{path} holds options of {tuned.denoiser}, not of {spec.name}", hint=f"write {tuned.denoiser}:@{path}"
        )
    return Spec(spec.name, None, (*tuned.options.items(), *spec.options)), tuned
