"""`Metric`: one score per image, never pooled over images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from benchbox.api.arrays import Images, Scores


class Metric(ABC):
    """A measure of quality; subclasses are frozen dataclasses whose fields, all with defaults, are its parameters.

    Attributes
    ----------
    name : str
        The word a user types and the column of the results.
    summary : str
        One line for listings: the variant in words.
    unit : str
        ``'dB'``, or empty for a pure number.
    higher_is_better : bool
        Direction of the ranking.
    title : str
        Heading of its column, as the field writes it; empty for `name`.
    digits : int or None
        Decimals that are shown; None for three significant digits.
    shown : bool
        Whether its column stays where a table is narrow; one that is not shown is left out first.
    reference : str
        Paper or DOI.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True
    title: ClassVar[str] = ""
    digits: ClassVar[int | None] = None
    shown: ClassVar[bool] = True
    reference: ClassVar[str] = ""

    @abstractmethod
    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack.

        Parameters
        ----------
        clean : ndarray of float32, shape (N, H, W), in [0, 1]
        denoised : ndarray of float32, shape (N, H, W), in [0, 1]

        Returns
        -------
        ndarray of float64, shape (N,)
            One value an image.
        """
