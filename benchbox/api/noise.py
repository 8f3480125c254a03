"""`NoiseModel`: makes a noisy image from a clean image and a random generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from benchbox.api.arrays import Image


class NoiseModel(ABC):
    """Base class of noise models: frozen dataclasses whose fields, all with defaults, are the parameters.

    ``name:value`` sets the first field.

    Attributes
    ----------
    name : str
        Name on the command line: lower-case letters, digits and hyphens.
    summary : str
        One line for listings.
    level_title : str
        What the first option, the level, means, for captions: ``'peak photons'``.
    formula : str
        The noisy image as a function of the clean one.
    reference : str
        Paper or DOI of the model.
    example : str
        A specification to try, such as ``'gaussian:0.1'``.
    white : bool
        Whether the added noise has zero mean and is independent between pixels; its variance may differ between pixels,
        and `sigma_of` must return its level. The oracle Wiener filter is defined only for such noise.
    gaussian : bool
        Whether it is white Gaussian noise of one level, the same for all pixels, as metrics without reference need it.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    level_title: ClassVar[str] = "level"
    formula: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    example: ClassVar[str] = ""
    white: ClassVar[bool] = False
    gaussian: ClassVar[bool] = False

    @abstractmethod
    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image.

        Parameters
        ----------
        clean : ndarray of float32, shape (H, W) or (H, W, 3)
            Values in [0, 1], or beyond if noises are composed. Must not be modified.
        rng : numpy.random.Generator
            The only source of randomness, for all channels.

        Returns
        -------
        ndarray of float32, same shape
            A new array; not clipped, and not rounded unless rounding is what the model does.
        """

    def sigma_of(self, clean: Image) -> float | None:
        """Noise standard deviation on the [0, 1] scale.

        For signal-dependent noise, return the square root of the variance averaged over the image and its channels.

        Parameters
        ----------
        clean : ndarray of float32, shape (H, W) or (H, W, 3)

        Returns
        -------
        float or None
            None if the model does not define one.
        """
        return None
