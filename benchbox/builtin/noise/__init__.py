"""The built-in noise models, and their composition with `+`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchbox.api.arrays import Image
from benchbox.api.noise import NoiseModel
from benchbox.builtin.noise.additive import Correlated, Gaussian, Stripe, Uniform
from benchbox.builtin.noise.coding import Jpeg, Quantize
from benchbox.builtin.noise.impulsive import Impulse, SaltPepper
from benchbox.builtin.noise.signal_dependent import Poisson, PoissonGaussian, Speckle


@dataclass(frozen=True)
class Composed(NoiseModel):
    """Noise models applied from left to right, each on what the one before it gave.

    Each draws from a stream of its own, split from the image's generator, so that their noises are independent.

    Parameters
    ----------
    models : tuple of NoiseModel
        Two or more.

    Raises
    ------
    ValueError
        There are fewer than two models.
    """

    name: ClassVar[str] = "composed"
    summary: ClassVar[str] = "several noise models, one after another"
    formula: ClassVar[str] = "noisy = last(...second(first(clean)))"
    example: ClassVar[str] = "poisson:30+gaussian:0.02"

    models: tuple[NoiseModel, ...] = ()

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise ValueError(f"a composition takes two or more noise models, got {len(self.models)}")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image, shape (H, W); see `NoiseModel.apply`."""
        noisy = clean
        for model, stream in zip(self.models, rng.spawn(len(self.models)), strict=True):
            noisy = model.apply(noisy, stream)
        return noisy

    def sigma_of(self, clean: Image) -> float | None:
        """Root of the summed variances, each taken on the clean image; None where a model tells none.

        It is exact for independent additive noises. Where a signal-dependent noise follows another, it leaves out
        terms of the product of their variances.
        """
        variance = 0.0
        for model in self.models:
            sigma = model.sigma_of(clean)
            if sigma is None:
                return None
            variance += sigma**2
        return math.sqrt(variance)


MODELS: list[type[NoiseModel]] = [
    Gaussian,
    Poisson,
    SaltPepper,
    Impulse,
    Speckle,
    Uniform,
    PoissonGaussian,
    Correlated,
    Stripe,
    Quantize,
    Jpeg,
]

__all__ = [
    "MODELS",
    "Composed",
    "Correlated",
    "Gaussian",
    "Impulse",
    "Jpeg",
    "Poisson",
    "PoissonGaussian",
    "Quantize",
    "SaltPepper",
    "Speckle",
    "Stripe",
    "Uniform",
]
