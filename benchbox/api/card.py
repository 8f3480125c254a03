"""Training card: what a trained denoiser has seen, so that its row can say so."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchbox.api.errors import BenchboxError

UNKNOWN = "unknown"
"""Data set of weights that came without a word of their training."""


@dataclass(frozen=True)
class TrainingCard:
    """How weights were made.

    Attributes
    ----------
    dataset : str
        Canonical name of the data set; `UNKNOWN` where nobody can tell what was fitted.
    split : str
        Split that was fitted.
    fingerprint : str
        Fingerprint of the fitted images, as `ImageSet.fingerprint` gives it.
    images : int
        Number of images fitted.
    noise : str
        Canonical noise, or range of it, that was trained on.
    seed : int
        Seed of the run.
    epochs : float
        Passes over the images until the weights that are kept.
    command : str
        The command that made the weights.
    versions : dict of str to str
        Versions of the libraries.
    hardware : str
        Processor or accelerator.
    validation : dict of str to float
        Mean PSNR in dB on the validation split per noise, on images that were not fitted.
    notes : str
        What else a reader should know.
    source : str
        Fingerprint of all images that the fitted ones were drawn from; empty where these are all.
    validated_on : str
        Split whose images chose the weights that are kept; empty where none did.
    """

    dataset: str
    split: str
    fingerprint: str
    images: int
    noise: str
    seed: int
    epochs: float
    command: str
    versions: dict[str, str] = field(default_factory=dict)
    hardware: str = ""
    validation: dict[str, float] = field(default_factory=dict)
    notes: str = ""
    source: str = ""
    validated_on: str = ""

    @property
    def label(self) -> str:
        """Short form for a table: data set and split."""
        return f"{self.dataset} {self.split}".strip()

    def save(self, path: Path) -> None:
        """Write the card as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> TrainingCard:
        """Read a card from JSON.

        Raises
        ------
        BenchboxError
            The file is missing, is not JSON or lacks a field.
        """
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{key: value for key, value in values.items() if key in {one.name for one in fields(cls)}})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise BenchboxError(
                f"training card {path}: {error}", hint="a card is the JSON file that 'benchbox train' writes"
            ) from error
