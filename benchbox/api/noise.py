"""`NoiseModel`: a frozen dataclass that turns a clean image and a generator into a noisy image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from benchbox.api.arrays import Image


class NoiseModel(ABC):
    """A model of noise; subclasses are frozen dataclasses whose fields, all with defaults, are its parameters.

    The first field is the one that ``name:value`` sets.

    Attributes
    ----------
    name : str
        The word a user types: lower-case letters, digits and hyphens.
    summary : str
        One line for listings.
    formula : str
        How the noisy image follows from the clean one.
    reference : str
        Paper or DOI of the model.
    example : str
        A specification to try, ``'gaussian:0.1'``.
    white : bool
        Whether what is added has mean zero and is independent between pixels, whatever its variance there, which
        `sigma_of` then tells. Only such noise has an oracle Wiener filter.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    formula: ClassVar[str]
    reference: ClassVar[str] = ""
    example: ClassVar[str]
    white: ClassVar[bool] = False

    @abstractmethod
    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image.

        Parameters
        ----------
        clean : ndarray of float32, shape (H, W)
            Values in [0, 1] (beyond it where noises are composed). Not modified.
        rng : numpy.random.Generator
            The only source of randomness.

        Returns
        -------
        ndarray of float32, shape (H, W)
            A new array, neither clipped nor rounded unless the model itself is a rounding.
        """

    def sigma_of(self, clean: Image) -> float | None:
        """Noise standard deviation on the [0, 1] scale.

        For signal-dependent noise it is the root of the mean variance over the image.

        Parameters
        ----------
        clean : ndarray of float32, shape (H, W)

        Returns
        -------
        float or None
            None where the model defines none.
        """
        return None
