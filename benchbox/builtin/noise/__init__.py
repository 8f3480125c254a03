"""The built-in noise models, and `Composed`, which chains noise models (`+` on the command line)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchbox.api.arrays import Image
from benchbox.api.noise import NoiseModel
from benchbox.builtin.noise.additive import Correlated, Gaussian, Stripe, Uniform
from benchbox.builtin.noise.non_additive import Impulse, Jpeg, Poisson, PoissonGaussian, Quantize, SaltPepper, Speckle


@dataclass(frozen=True)
class Composed(NoiseModel):
    """Two or more noise models applied from left to right, each to the output of the one before it.

    Each model draws from its own stream, spawned from the image's generator, so their noises are independent.
    """

    name: ClassVar[str] = "composed"
    summary: ClassVar[str] = "several noise models, one after another"
    formula: ClassVar[str] = "noisy = last(...second(first(clean)))"
    example: ClassVar[str] = "poisson:30+gaussian:0.02"

    models: tuple[NoiseModel, ...] = ()

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise ValueError(f"a composition needs two or more noise models, got {len(self.models)}")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image; see `NoiseModel.apply`."""
        noisy = clean
        for model, stream in zip(self.models, rng.spawn(len(self.models)), strict=True):
            noisy = model.apply(noisy, stream)
        return noisy

    def sigma_of(self, clean: Image) -> float | None:
        """Square root of the summed variances; None if a model does not define one.

        Exact for additive noises and speckle in any order. Photon noise after another noise is exact where that noise
        leaves no pixel below 0, because negative brightness gives no photons; `gaussian:0.2+poisson:30` is 3 %
        weaker than stated on faces.
        """
        variance = 0.0
        for model in self.models:
            sigma = model.sigma_of(clean)
            if sigma is None:
                return None
            # Speckle multiplies the noise before it, too: its variance is sigma^2 * E[(clean + noise)^2].
            multiplied = model.sigma**2 * variance if isinstance(model, Speckle) else 0.0
            variance += sigma**2 + multiplied
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
