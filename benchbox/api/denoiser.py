"""What a denoiser is: the contract that every plugin meets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from benchbox.api.arrays import Image, Images, Sigma
from benchbox.api.card import TrainingCard

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
