"""`Denoiser`, the contract that every plugin meets, and the `TrainingCard` of a trained one."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
import numpy as np

from benchbox.api.arrays import Image, Images, Sigma
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
            The file is missing, is not JSON, lacks a field or has one of another type.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, ValueError) as error:
            raise BenchboxError(
                f"training card {path}: {error}", hint="a card is the JSON file that 'benchbox train' writes"
            ) from error


SigmaUse = Literal["required", "optional", "unused"]


@dataclass(frozen=True)
class Capabilities:
    """What a denoiser says of itself, so that the harness can treat it fairly.

    Attributes
    ----------
    sigma : {'required', 'optional', 'unused'}
        Whether `denoise` needs the noise level, uses it where given, or ignores it (a blind denoiser).
    deterministic : bool
        Whether the same input gives the same output, bit for bit.
    min_size : int
        Smallest height and width in pixels that it accepts.
    tuned_on : str
        Where default parameters were fitted (``'FER2013 Training'``), empty when they are from a paper or a library.
    """

    sigma: SigmaUse = "unused"
    deterministic: bool = True
    min_size: int = 1
    tuned_on: str = ""


class Denoiser(ABC):
    """A method that removes noise from a stack of images.

    Typed keyword-only constructor arguments with defaults are its options: ``def __init__(self, *, size: int = 3)``
    gives ``median:size=5``. The constructor only stores them; what costs time belongs into `setup`.

    Attributes
    ----------
    name : str
        The word a user types: lower-case letters, digits and underscores.
    summary : str
        One line for listings.
    reference : str
        Paper or DOI of the method.
    capabilities : Capabilities
        What the harness must know.
    notice : str
        What a reader of its row must know, such as a licence that forbids some uses; empty for nothing.
    starts_programs : bool
        Whether an option names a program that it starts; a run that somebody else made does not start it unasked.
    default_rows : tuple of str or None
        Rows of a run that names no denoiser; None for the bare name alone, empty for a denoiser that cannot do without
        options.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[str] = ""
    capabilities: ClassVar[Capabilities] = Capabilities()
    notice: ClassVar[str] = ""
    starts_programs: ClassVar[bool] = False
    default_rows: ClassVar[tuple[str, ...] | None] = None

    def setup(self, shape: tuple[int, int, int]) -> None:  # noqa: B027 - optional to override
        """Import libraries, load weights, warm up; timed apart as the cold start.

        Parameters
        ----------
        shape : tuple of int
            (N, H, W) of the first stack to come. Stacks of other sizes may follow.
        """

    @abstractmethod
    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack.

        Parameters
        ----------
        noisy : ndarray of float32, shape (N, H, W)
            A private, writable, C-contiguous copy. Values may lie outside [0, 1], for noise is not clipped by default.
        sigma : ndarray of float32, shape (N,), or None
            Noise standard deviation of each image on the [0, 1] scale; None where nothing is told.

        Returns
        -------
        ndarray of float32, shape (N, H, W)
            Finite values; the harness clips them to [0, 1] outside the timed region.
        """

    def card(self) -> TrainingCard | None:
        """Training card of the weights in use; None where nothing was trained."""
        return None

    def files(self) -> Sequence[Path]:
        """Files beyond its code that its results depend on, such as weights.

        Asked before `setup`. A digest of their content is a part of the row's identity: a run that is resumed after one
        of them changed is refused, and a file that changes during a run fails the row.
        """
        return ()


class ImageDenoiser(Denoiser):
    """A denoiser that works on one image at a time; spares its author the loop over the stack."""

    @abstractmethod
    def denoise_image(self, noisy: Image, sigma: float | None) -> Image:
        """Denoise one image.

        Parameters
        ----------
        noisy : ndarray of float32, shape (H, W)
            A private, writable image.
        sigma : float or None
            Its noise standard deviation on the [0, 1] scale; None where nothing is told.

        Returns
        -------
        ndarray of float32, shape (H, W)
            Finite values.
        """

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack, image by image.

        Parameters
        ----------
        noisy : ndarray of float32, shape (N, H, W)
        sigma : ndarray of float32, shape (N,), or None

        Returns
        -------
        ndarray of float32, shape (N, H, W)
        """
        levels = [None] * len(noisy) if sigma is None else [float(level) for level in sigma]
        return np.stack([self.denoise_image(image, level) for image, level in zip(noisy, levels, strict=True)])
