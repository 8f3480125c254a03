"""`TrainableDenoiser`: benchbox owns the data, noise and seeds; the plugin owns network and optimiser."""

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
    """How a training goes where the user says nothing else.

    Attributes
    ----------
    noise : tuple of str
        Specifications, a number in them possibly a range such as ``gaussian:0..0.3``. Each image draws one of them,
        all equally likely, and then its level uniformly from the range.
    epochs : int
        Passes over the training images at most.
    batch_size : int
    learning_rate : float
        Its highest value.
    schedule : {'cosine', 'constant'}
        How the learning rate goes: a short linear warm-up and then down a half cosine, or always the same.
    patience : int
        Epochs without a better validation loss after which training stops.
    flips : bool
        Whether images are mirrored left to right at random.
    fresh_noise : bool
        Whether noise is drawn anew each epoch.
    clip : bool
        Whether noisy images are clipped to [0, 1].
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
    """Weights that are being fitted, with their optimiser.

    Attributes
    ----------
    tolerance : float
        Greatest error of a pixel that counts as accurate: that of the metric `accuracy`, on the scale of the images.
    """

    tolerance: ClassVar[float] = 8 / 255

    @abstractmethod
    def step(self, noisy: Images, clean: Images, sigma: Sigma, learning_rate: float) -> tuple[float, float]:
        """Take one step of the optimiser.

        Parameters
        ----------
        noisy, clean : ndarray of float32, shape (N, H, W)
        sigma : ndarray of float32, shape (N,)
            Noise standard deviation of each image; NaN where its noise defines none.
        learning_rate : float

        Returns
        -------
        loss : float
            Mean squared error of the batch before the step, its images weighted by `importance`.
        accuracy : float
            Share of its pixels that are restored to within `tolerance`, not clipped.
        """

    @abstractmethod
    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack with the weights as they would be saved now.

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
        """Everything that `restore` needs to go on as if nothing had happened, as arrays by name."""

    @abstractmethod
    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take up a state that `state` gave."""

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Write the weights, as they are now, in the form in which the denoiser loads them.

        Parameters
        ----------
        folder : Path
            Exists and is empty.

        Returns
        -------
        Path
            The file ``weights.*`` to give to the denoiser's ``weights`` option. Its training card is written beside it,
            with the ending ``.json``.
        """

    def importance(self, sigma: Sigma) -> NDArray[np.float32]:
        """Say how much each image counts in the loss, in training and in validation; all the same by default.

        Parameters
        ----------
        sigma : ndarray of float32, shape (N,)

        Returns
        -------
        ndarray of float32, shape (N,)
        """
        return np.ones(len(sigma), np.float32)

    def describe(self) -> str:
        """Say what a card should tell of the fitting itself: optimiser, precision."""
        return ""


class TrainableDenoiser(Denoiser):
    """A denoiser whose weights can be fitted; what `benchbox train` takes. It has an option ``weights``.

    Attributes
    ----------
    recipes : mapping of str to Recipe
        Ways to train it by name; ``'default'`` is the one used unless another is asked for.
    """

    recipes: ClassVar[Mapping[str, Recipe]]

    @abstractmethod
    def trainer(self, recipe: str, *, seed: int, start: str = "") -> Trainer:
        """Begin a training.

        Parameters
        ----------
        recipe : str
            A name in `recipes`.
        seed : int
            Seeds the weights.
        start : str
            Weights to go on from, in the words of the denoiser's ``weights`` option; empty to draw them.

        Returns
        -------
        Trainer
        """
