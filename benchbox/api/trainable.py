"""`TrainableDenoiser`: benchbox owns the data, noise and seeds; the plugin owns the network and optimiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images, Sigma
from benchbox.api.denoiser import Denoiser


@dataclass(frozen=True)
class Recipe:
    """Default settings of a training run; command-line options override them.

    Attributes
    ----------
    noise : tuple of str
        Noise specifications, whose numbers may be ranges such as ``gaussian:0..0.3``. Each image gets one of them at
        random, all equally likely, and a level drawn uniformly from the range.
    epochs : int
        Maximum number of passes over the training images.
    batch_size : int
        Images per optimiser step.
    learning_rate : float
        Peak learning rate.
    schedule : {'cosine', 'constant'}
        Learning rate schedule: a short linear warm-up followed by half a cosine, or constant.
    patience : int
        Stop after this many epochs without a better validation loss.
    flips : bool
        Whether to mirror images left to right at random.
    fresh_noise : bool
        Whether to draw new noise in every epoch.
    clip : bool
        Whether to clip noisy images to [0, 1].
    """

    noise: tuple[str, ...]
    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    patience: int = 5
    flips: bool = True
    fresh_noise: bool = True
    clip: bool = False


class Trainer(ABC):
    """Weights in training, with their optimiser.

    Attributes
    ----------
    tolerance : float
        Largest error of a pixel that counts as accurate, on the [0, 1] scale; the default of the metric ``accuracy``.
    """

    tolerance: ClassVar[float] = 8 / 255

    @abstractmethod
    def step(self, noisy: Images, clean: Images, sigma: Sigma, learning_rate: float) -> tuple[float, float]:
        """Take one step of the optimiser.

        Parameters
        ----------
        noisy, clean : ndarray of float32, shape (N, H, W)
        sigma : ndarray of float32, shape (N,)
            Noise standard deviation of each image; NaN if its noise model does not define one.
        learning_rate : float
            Learning rate of this step.

        Returns
        -------
        loss : float
            Mean squared error of the batch before the step, with images weighted by `importance`.
        accuracy : float
            Share of pixels restored to within `tolerance`, without clipping.
        """

    @abstractmethod
    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack with the current weights, exactly as they would be saved.

        Parameters
        ----------
        noisy : ndarray of float32, shape (N, H, W)
        sigma : ndarray of float32, shape (N,), or None

        Returns
        -------
        ndarray of float32, shape (N, H, W)
        """

    @abstractmethod
    def state(self) -> Mapping[str, NDArray[np.generic]]:
        """Everything that `restore` needs to continue exactly where training stopped, as named arrays."""

    @abstractmethod
    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Continue from what `state` returned."""

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Write the current weights in the format that the denoiser loads.

        Parameters
        ----------
        folder : Path
            An existing, empty folder.

        Returns
        -------
        Path
            The file ``weights.*`` to pass to the denoiser's ``weights`` option. benchbox writes its training card next
            to it, with the suffix ``.json``.
        """

    def importance(self, sigma: Sigma) -> NDArray[np.float32]:
        """Weight of each image in the training and validation loss; 1 by default.

        Parameters
        ----------
        sigma : ndarray of float32, shape (N,)
            Noise standard deviation of each image; NaN if its noise model does not define one.

        Returns
        -------
        ndarray of float32, shape (N,)
        """
        return np.ones(len(sigma), np.float32)

    def describe(self) -> str:
        """Optimiser, precision and libraries in a sentence, for the training card."""
        return ""


class TrainableDenoiser(Denoiser):
    """Base class of denoisers that ``benchbox train`` can train. Subclasses must have an option ``weights``.

    Attributes
    ----------
    recipes : mapping of str to Recipe
        Training recipes by name; ``'default'`` is used unless the user names another.
    """

    recipes: ClassVar[Mapping[str, Recipe]]

    @abstractmethod
    def trainer(self, recipe: str, *, seed: int, start: str = "") -> Trainer:
        """Start a training run.

        Parameters
        ----------
        recipe : str
            A name in `recipes`.
        seed : int
            Random seed of the initial weights.
        start : str
            Weights to start from, as a value of the denoiser's ``weights`` option; empty for random weights.

        Returns
        -------
        Trainer
        """
