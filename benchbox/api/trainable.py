"""`TrainableDenoiser`, `TrainableClassifier`: benchbox owns data, noise and seeds; the plugin owns the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images, Sigma
from benchbox.api.dataset import ImageSet
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


AddNoise = Callable[[Images, np.random.Generator], Images]
"""Adds noise to a stack."""


@dataclass(frozen=True)
class FitProgress:
    """Progress of the training of a classifier.

    Attributes
    ----------
    epoch : int
        Current epoch, from 1.
    images : int
        Images that were trained on in this epoch.
    loss : float
        Mean loss of these images.
    accuracy : float or None
        At the end of an epoch, the share of the validation images whose class is right; else None.
    best : bool
        Whether that is the highest so far, so that `TrainableClassifier.save` writes these weights.
    """

    epoch: int
    images: int
    loss: float
    accuracy: float | None = None
    best: bool = False


class TrainableClassifier(ABC):
    """Base class of classifiers that ``benchbox train`` can train; an `AgreementMetric` names its own as `trains`.

    Attributes
    ----------
    name : str
        Name on the command line.
    label : str
        Label of the data set that it learns, such as ``'emotion'``.
    class_names : tuple of str
        Names of the classes, by label.
    image_size : tuple of int
        Height and width of the images that it takes.
    recipes : mapping of str to Recipe
        Training recipes by name; ``'default'`` is used unless the user names another. The noise may be empty.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]
    image_size: ClassVar[tuple[int, int]]
    recipes: ClassVar[Mapping[str, Recipe]]

    @abstractmethod
    def fit(
        self,
        name: str,
        recipe: Recipe,
        fitted: ImageSet,
        validated: ImageSet,
        noise: AddNoise | None,
        *,
        seed: int,
        budget_s: float | None,
    ) -> Iterator[FitProgress]:
        """Train from random weights, and keep those with the best accuracy on the validation images.

        Parameters
        ----------
        name : str
            Name of the recipe in `recipes`.
        recipe : Recipe
            The recipe with the user's changes.
        fitted, validated : ImageSet
            Grey images of `image_size` with labels from 0 to the number of classes.
        noise : callable or None
            ``noise(images, rng)`` adds the training noise, after any augmentation; None without noise.
        seed : int
            Random seed of weights, order, augmentation and noise.
        budget_s : float or None
            End after about this time in seconds.

        Yields
        ------
        FitProgress
            After each step and, with the accuracy, after each epoch.
        """

    @abstractmethod
    def probabilities(self, weights: Path, images: Images) -> NDArray[np.float64]:
        """Probability of each class, shape (N, classes), by weights that `save` wrote."""

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Write the best weights so far as ``weights.*`` into a folder; return the file."""

    @abstractmethod
    def describe(self) -> str:
        """Network, number of parameters, optimiser and libraries in a sentence, for the training card."""
