"""Noise that replaces pixels: salt and pepper, random-valued impulses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchbox.api.arrays import Image
from benchbox.api.noise import NoiseModel


@dataclass(frozen=True)
class SaltPepper(NoiseModel):
    """Salt and pepper: a pixel becomes 0 or 1, each with probability ``amount / 2``; otherwise it is unchanged.

    With x the clean value, the error has mean ``amount * (0.5 - x)`` and mean square
    ``amount * (x**2 + (1 - x)**2) / 2``. It is not additive noise with one standard deviation, so none is defined.
    `amount` is in [0, 1].
    """

    name: ClassVar[str] = "salt-pepper"
    summary: ClassVar[str] = "random pixels set to black or white"
    level_title: ClassVar[str] = "share of pixels"
    formula: ClassVar[str] = "noisy = 0 or 1 with probability amount/2 each, else clean"
    reference: ClassVar[str] = "Chan, Ho & Nikolova 2005, doi:10.1109/TIP.2005.852196"
    example: ClassVar[str] = "salt-pepper:0.05"

    amount: float = 0.05

    def __post_init__(self) -> None:
        _check_amount(self.amount)

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image, shape (H, W); see `NoiseModel.apply`."""
        draw = rng.random(clean.shape)
        noisy = clean.copy()
        noisy[draw < self.amount] = 1
        noisy[draw < self.amount / 2] = 0
        return noisy


@dataclass(frozen=True)
class Impulse(NoiseModel):
    """Random-valued impulses: a pixel becomes a uniform draw from [0, 1) with probability `amount`.

    With x the clean value, the error has mean ``amount * (0.5 - x)`` and mean square ``amount * (1/3 - x + x**2)``. It
    is not additive noise with one standard deviation, so none is defined. `amount` is in [0, 1].
    """

    name: ClassVar[str] = "impulse"
    summary: ClassVar[str] = "random pixels replaced by random values"
    level_title: ClassVar[str] = "share of pixels"
    formula: ClassVar[str] = "noisy = u ~ U(0, 1) with probability amount, else clean"
    reference: ClassVar[str] = "Garnett, Huegerich, Chui & He 2005, doi:10.1109/TIP.2005.857261"
    example: ClassVar[str] = "impulse:0.1"

    amount: float = 0.1

    def __post_init__(self) -> None:
        _check_amount(self.amount)

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image, shape (H, W); see `NoiseModel.apply`."""
        hit = rng.random(clean.shape) < self.amount
        return np.where(hit, rng.random(clean.shape, dtype=np.float32), clean)


def _check_amount(amount: float) -> None:
    """Check that a share of pixels is in [0, 1]."""
    if not 0 <= amount <= 1:
        raise ValueError(f"amount={amount:g} is outside [0, 1]; it is the share of pixels that are replaced")
