"""`Metric`: one score per image, never pooled over images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Channels, Images, Scores, Sigma

if TYPE_CHECKING:
    from benchbox.api.trainable import TrainableClassifier


class Metric(ABC):
    """Base class of metrics: frozen dataclasses whose fields, all with defaults, are the parameters.

    Attributes
    ----------
    name : str
        Name on the command line and in the results.
    summary : str
        One line for listings that says which variant this is.
    unit : str
        Unit such as ``'dB'``; empty for a pure number.
    higher_is_better : bool
        Direction of the ranking.
    title : str
        Column heading; empty to use `name`.
    digits : int or None
        Decimals to show; None for three significant digits.
    shown : bool
        Whether to keep its column in a narrow table; False drops it first.
    by_default : bool
        Whether a run computes it if no metrics are named, where it can score the images.
    reference : str
        Paper or DOI.
    min_size : int
        Smallest height and width in pixels; images below it are not passed to the metric and have no score.
    image_size : tuple of int or None
        Height and width in pixels of the only images that it takes; others have no score. None for any size.
    proportion : bool
        Whether every score is 0 or 1, so that the mean is a proportion and its confidence interval Wilson's.
    channels : {'grey', 'rgb', 'any'}
        What it takes. The score of a grey metric on colour images is its mean over the three channels; an RGB metric
        cannot score grey images.
    color_title : str
        Column heading on colour images, which names the variant; empty to use `title`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True
    title: ClassVar[str] = ""
    digits: ClassVar[int | None] = None
    shown: ClassVar[bool] = True
    by_default: ClassVar[bool] = False
    reference: ClassVar[str] = ""
    min_size: ClassVar[int] = 1
    image_size: ClassVar[tuple[int, int] | None] = None
    proportion: ClassVar[bool] = False
    channels: ClassVar[Channels] = "grey"
    color_title: ClassVar[str] = ""

    def files(self) -> Sequence[Path]:
        """Files such as weights that the scores depend on; their content is part of the identity of the scores."""
        return ()

    @abstractmethod
    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack.

        Parameters
        ----------
        clean : ndarray of float32, shape (N, H, W) or (N, H, W, 3), in [0, 1]
        denoised : ndarray of float32, shape (N, H, W) or (N, H, W, 3), in [0, 1]

        Returns
        -------
        ndarray of float64, shape (N,)
            One value per image.
        """


class AgreementMetric(Metric):
    """Base class of metrics that ask a classifier whether it sees the same class in denoised images as in clean ones.

    The score is 1 if it does, else 0. A run keeps the classes that it saw, so that a report can show which are taken
    for which.

    Attributes
    ----------
    class_names : tuple of str
        Name of each class, by number; empty if unknown. Where the data set has a label with these names, a report also
        says how often the classifier is right.
    trains : type of TrainableClassifier, or None
        What ``benchbox train`` trains under the name of that class, if it can.
    """

    class_names: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[type[TrainableClassifier] | None] = None
    proportion: ClassVar[bool] = True

    @abstractmethod
    def seen(self, images: Images) -> NDArray[np.intp]:
        """Classify a stack.

        Parameters
        ----------
        images : ndarray of float32, shape (N, H, W) or (N, H, W, 3), in [0, 1]

        Returns
        -------
        ndarray of int, shape (N,)
            Number of the class of each image, from 0.
        """

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`; 0 or 1."""
        kept: Scores = (self.seen(clean) == self.seen(denoised)).astype(np.float64)
        return kept


class NoReferenceMetric(Metric):
    """Base class of metrics that need no clean images, but the level of white Gaussian noise and the denoiser.

    A run refuses them where the noise is another one, clipped or rounded, and warns where it was recorded. Denoisers
    that are declared random have no score.
    """

    @abstractmethod
    def estimate(self, noisy: Images, denoised: Images, sigma: Sigma, denoise: Callable[[Images], Images]) -> Scores:
        """Score a stack.

        Parameters
        ----------
        noisy : ndarray of float32, shape (N, H, W) or (N, H, W, 3)
        denoised : ndarray of float32, same shape, in [0, 1]
        sigma : ndarray of float32, shape (N,)
            Noise standard deviation of each image on the [0, 1] scale, or its estimate.
        denoise : callable
            Denoises a stack of this shape as `denoised` was, clipped to [0, 1]. Its input may be changed.

        Returns
        -------
        ndarray of float64, shape (N,)
            One value per image; NaN if there is none.
        """

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Raise `TypeError`: use `estimate`."""
        raise TypeError(f"{self.name} does not compare with clean images; call estimate")


class LabelMetric(Metric):
    """Base class of metrics that compare denoised images with a label, such as the emotion of a face.

    A run skips them, and says so, where the data set has no labels of this name.

    Attributes
    ----------
    label : str
        Name in `ImageSet.labels`, such as ``'emotion'``.
    """

    label: ClassVar[str]

    @abstractmethod
    def against(self, labels: NDArray[np.generic], denoised: Images) -> Scores:
        """Score a stack.

        Parameters
        ----------
        labels : ndarray of shape (N,)
            Label of each image.
        denoised : ndarray of float32, shape (N, H, W) or (N, H, W, 3), in [0, 1]

        Returns
        -------
        ndarray of float64, shape (N,)
            One value per image; NaN if there is none.
        """

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Raise `TypeError`: use `against`."""
        raise TypeError(f"{self.name} compares with labels; call against")
