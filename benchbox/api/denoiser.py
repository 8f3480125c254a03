"""`Denoiser`, the base class of every denoiser, and `TrainingCard`, which records how weights were trained."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from benchbox.api.arrays import Channels, Image, Images, Sigma
from benchbox.api.errors import BenchboxError

UNKNOWN = "unknown"
"""Data set in the card of weights whose training is not documented."""


@dataclass(frozen=True)
class TrainingCard:
    """Record of how weights were trained.

    Attributes
    ----------
    dataset : str
        Canonical name of the data set; ``'unknown'`` if the training data are not documented.
    split : str
        Training split.
    fingerprint : str
        `ImageSet.fingerprint` of the training images.
    images : int
        Number of training images.
    noise : str
        Canonical training noise or range of noise.
    seed : int
        Random seed of the training run.
    epochs : float
        Passes over the training images up to the saved weights.
    command : str
        The command that trained the weights.
    versions : dict of str to str
        Library versions.
    hardware : str
        Processor or accelerator.
    validation : dict of str to float
        Mean PSNR in dB for each validation noise, on images not used for fitting.
    notes : str
        Anything else a reader should know.
    source : str
        Fingerprint of the full set that the training images were drawn from; empty if they are the full set.
    validated_on : str
        Split used to select the saved weights; empty if none was used.
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
            The file is missing, is not JSON, lacks a field, has one of the wrong type or one that is unknown.
        """
        try:
            values = msgspec.json.decode(path.read_bytes())
            card = msgspec.convert(values, cls)
            if unknown := set(values) - {field.name for field in fields(cls)}:
                raise ValueError(f"Object contains unknown field - at `$.{min(unknown)}`")
            return card
        except (OSError, ValueError) as error:
            raise BenchboxError(
                f"training card {path}: {error}", hint="use the JSON file that 'benchbox train' wrote"
            ) from error


SigmaUse = Literal["required", "optional", "unused"]


@dataclass(frozen=True)
class Capabilities:
    """What benchbox must know about a denoiser to run it fairly.

    Attributes
    ----------
    sigma : {'required', 'optional', 'unused'}
        Whether `denoise` needs the noise level, uses it if given, or ignores it (a blind denoiser).
    deterministic : bool
        Whether the same input gives the same output, bit for bit.
    min_size : int
        Smallest accepted height and width in pixels.
    tuned_on : str
        Data that the default parameters were tuned on (``'FER2013 Training'``); empty if the defaults come from a
        paper or a library.
    channels : {'grey', 'rgb', 'any'}
        What `denoise` takes. A grey denoiser gets the three channels of colour images as three grey images, and its row
        says "per channel"; an RGB denoiser is skipped on grey images.
    """

    sigma: SigmaUse = "unused"
    deterministic: bool = True
    min_size: int = 1
    tuned_on: str = ""
    channels: Channels = "grey"


@dataclass(frozen=True)
class Details:
    """What is known of a denoiser only once it is set up.

    Attributes
    ----------
    found : dict of str to str
        What it detected because no option gave it, such as ``{'range': '255'}``; shown with its row.
    parameters : int
        Number of trained parameters; 0 if there are none, or it is unknown.
    macs_per_pixel : float
        Multiply-adds per image and pixel; 0 if unknown.
    activations_per_pixel : float
        Values that the layers of a network write per image and pixel; 0 if unknown.
    device : str
        Accelerator that it runs on; empty for the processor.
    device_peak_mb : float
        Largest memory of the accelerator that it took so far, in MiB.
    """

    found: dict[str, str] = field(default_factory=dict)
    parameters: int = 0
    macs_per_pixel: float = 0.0
    activations_per_pixel: float = 0.0
    device: str = ""
    device_peak_mb: float = 0.0


@dataclass(frozen=True)
class Inspection:
    """What a model file is, read without running it.

    Attributes
    ----------
    format : str
        File format in words.
    options : dict of str to str
        Options beside ``path`` that the denoiser needs to run it, such as ``{'key': 'params_ema'}``.
    refused : str
        Why it cannot be loaded; empty if it can.
    hint : str
        What to do about that, as an instruction.
    architecture : str
        Network that its names and shapes belong to, such as ``'DnCNN, 17 layers'``; empty if unknown.
    parameters : int
        Number of parameters; 0 if unknown.
    macs_per_pixel : float
        Multiply-adds per pixel; 0 if unknown.
    receptive_field : int
        Side of the square of input pixels that an output pixel depends on; 0 if unknown or the whole image.
    channels : str
        ``'grey'`` or ``'rgb'``; empty if unknown.
    sigma : str
        How it takes the noise level, such as ``'none'`` or ``'channel'``; empty if unknown.
    notes : tuple of str
        Anything else: wrappers around the weights, classes that the file names, files that belong to it.
    """

    format: str
    options: dict[str, str] = field(default_factory=dict)
    refused: str = ""
    hint: str = ""
    architecture: str = ""
    parameters: int = 0
    macs_per_pixel: float = 0.0
    receptive_field: int = 0
    channels: str = ""
    sigma: str = ""
    notes: tuple[str, ...] = ()


class Denoiser(ABC):
    """Base class of denoisers: removes noise from a stack of images.

    Typed, keyword-only constructor arguments with defaults are the denoiser's options:
    ``def __init__(self, *, size: int = 3)`` makes ``median:size=5`` work. The constructor should only store them;
    anything slow belongs in `setup`.

    Attributes
    ----------
    name : str
        Name on the command line: lower-case letters, digits and underscores.
    summary : str
        One line for listings.
    reference : str
        Paper or DOI of the method.
    capabilities : Capabilities
        What benchbox must know to run it fairly. A constructor may replace it on its instance, if it depends on the
        options; so may `setup`, but only the use of sigma, from ``'optional'``.
    notice : str
        What a reader of its row must know, such as a licence that forbids some uses; empty if there is nothing.
    starts_programs : bool
        Whether an option names a program or code that it runs; a constructor may replace it on its instance. Replaying
        another person's run does not start the program unless you allow it.
    is_floor : bool
        Whether it returns its input unchanged, so that its row is the floor of a leaderboard.
    default_rows : tuple of str or None
        Specifications to run when no denoiser is named; None for the name without options, empty if the denoiser needs
        options.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[str] = ""
    capabilities: Capabilities = Capabilities()
    notice: ClassVar[str] = ""
    starts_programs: bool = False
    is_floor: ClassVar[bool] = False
    default_rows: ClassVar[tuple[str, ...] | None] = None

    @classmethod
    def inspect(cls, path: Path) -> Inspection | None:
        """Read what a model file is, without running anything in it; None if it is not for this denoiser.

        Parameters
        ----------
        path : pathlib.Path
            An existing file or folder.

        Raises
        ------
        BenchboxError
            The file is damaged.
        """
        return None

    @classmethod
    def adopt(cls, model: object, **options: Any) -> Denoiser | None:
        """Make a denoiser of an object that a notebook hands over, such as a network; None if it is not for this one.

        Parameters
        ----------
        model : object
        **options
            Arguments of the constructor.

        Raises
        ------
        BenchboxError
            It is for this one, but cannot be used.
        """
        return None

    def setup(self, shape: tuple[int, ...]) -> None:  # noqa: B027 - optional to override
        """Import libraries, load weights and warm up; timed separately, as the cold start.

        Parameters
        ----------
        shape : tuple of int
            Shape of the first stack: (N, H, W), or (N, H, W, 3) for colour. Stacks of other sizes may follow.
        """

    @abstractmethod
    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack.

        Parameters
        ----------
        noisy : ndarray of float32, shape (N, H, W) or (N, H, W, 3)
            A private, writable, C-contiguous copy. Values may be outside [0, 1], because noise is not clipped by
            default.
        sigma : ndarray of float32, shape (N,), or None
            Noise standard deviation of each image on the [0, 1] scale; None if it is not given.

        Returns
        -------
        ndarray of float32, same shape
            Finite values; benchbox clips them to [0, 1] outside the timed region.
        """

    def card(self) -> TrainingCard | None:
        """Training card of the weights in use; None if the denoiser was not trained."""
        return None

    def details(self) -> Details | None:
        """What it found out about itself; called after `setup` and `denoise`."""
        return None

    def files(self) -> Sequence[Path]:
        """Files other than code that the results depend on, such as weights.

        Called before `setup`. A digest of their content is part of the row's identity: benchbox refuses to resume a run
        after one of them has changed, and a file that changes during a run fails the row.
        """
        return ()


class ImageDenoiser(Denoiser):
    """Base class of denoisers that process one image at a time; benchbox loops over the stack."""

    @abstractmethod
    def denoise_image(self, noisy: Image, sigma: float | None) -> Image:
        """Denoise one image.

        Parameters
        ----------
        noisy : ndarray of float32, shape (H, W) or (H, W, 3)
            A private, writable image.
        sigma : float or None
            Its noise standard deviation on the [0, 1] scale; None if it is not given.

        Returns
        -------
        ndarray of float32, same shape
            Finite values.
        """

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack, image by image.

        Parameters
        ----------
        noisy : ndarray of float32, shape (N, H, W) or (N, H, W, 3)
        sigma : ndarray of float32, shape (N,), or None

        Returns
        -------
        ndarray of float32, same shape
        """
        levels = [None] * len(noisy) if sigma is None else [float(level) for level in sigma]
        return np.stack([self.denoise_image(image, level) for image, level in zip(noisy, levels, strict=True)])
