"""Noise whose strength depends on the image: Poisson, Poisson-Gaussian, speckle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchbox.api.arrays import Image
from benchbox.api.noise import NoiseModel
from benchbox.builtin.noise.additive import check_sigma


@dataclass(frozen=True)
class Poisson(NoiseModel):
    """Shot noise: ``noisy = P(peak * clean) / peak``, P a Poisson draw in each pixel; its variance is ``clean / peak``.

    `peak`, in (0, 1e9], is the expected photon count of a white pixel; lower is noisier. Clean values below 0, which
    occur only in compositions, count as 0.
    """

    name: ClassVar[str] = "poisson"
    summary: ClassVar[str] = "shot noise for a given photon count at white"
    level_title: ClassVar[str] = "peak photons"
    formula: ClassVar[str] = "noisy = Poisson(peak*clean)/peak; variance clean/peak"
    reference: ClassVar[str] = "Hasinoff 2014, Photon, Poisson noise, doi:10.1007/978-0-387-31439-6_482"
    example: ClassVar[str] = "poisson:30"
    white: ClassVar[bool] = True

    peak: float = 30.0

    def __post_init__(self) -> None:
        _check_peak(self.peak)

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image, shape (H, W); see `NoiseModel.apply`."""
        return _counts(clean, self.peak, rng)

    def sigma_of(self, clean: Image) -> float:
        """Root of the mean variance over the image, on the [0, 1] scale: ``sqrt(mean(clean) / peak)``."""
        return math.sqrt(_shot_variance(clean, self.peak))


@dataclass(frozen=True)
class PoissonGaussian(NoiseModel):
    """Shot noise and read-out noise of a sensor: ``noisy = P(peak * clean) / peak + sigma * n``.

    Its variance is ``clean / peak + sigma**2``. `peak` is as in `Poisson`; `sigma` is the standard deviation of the
    read-out noise on the [0, 1] scale.
    """

    name: ClassVar[str] = "poisson-gaussian"
    summary: ClassVar[str] = "shot noise and read-out noise of a sensor"
    level_title: ClassVar[str] = "peak photons"
    formula: ClassVar[str] = "noisy = Poisson(peak*clean)/peak + sigma*n, n ~ N(0, 1); variance clean/peak + sigma^2"
    reference: ClassVar[str] = "Foi, Trimeche, Katkovnik & Egiazarian 2008, doi:10.1109/TIP.2008.2001399"
    example: ClassVar[str] = "poisson-gaussian:30,sigma=0.02"
    white: ClassVar[bool] = True

    peak: float = 30.0
    sigma: float = 0.05

    def __post_init__(self) -> None:
        _check_peak(self.peak)
        check_sigma(self.sigma)

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image, shape (H, W); see `NoiseModel.apply`."""
        noisy = rng.standard_normal(clean.shape, dtype=np.float32)
        noisy *= self.sigma
        noisy += _counts(clean, self.peak, rng)
        return noisy

    def sigma_of(self, clean: Image) -> float:
        """Root of the mean variance over the image, on the [0, 1] scale: ``sqrt(mean(clean) / peak + sigma**2)``."""
        return math.sqrt(_shot_variance(clean, self.peak) + self.sigma**2)


@dataclass(frozen=True)
class Speckle(NoiseModel):
    """Multiplicative Gaussian noise: ``noisy = clean * (1 + sigma * n)``, n standard normal in each pixel.

    `sigma`, in [0, 1], is the standard deviation of the factor: a pixel of brightness x gets noise of ``sigma * x``.
    """

    name: ClassVar[str] = "speckle"
    summary: ClassVar[str] = "multiplicative Gaussian noise"
    level_title: ClassVar[str] = "standard deviation of the factor"
    formula: ClassVar[str] = "noisy = clean*(1 + sigma*n), n ~ N(0, 1); variance (sigma*clean)^2"
    reference: ClassVar[str] = "Lee 1980, multiplicative model, doi:10.1109/TPAMI.1980.4766994"
    example: ClassVar[str] = "speckle:0.2"
    white: ClassVar[bool] = True

    sigma: float = 0.2

    def __post_init__(self) -> None:
        check_sigma(self.sigma)

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image, shape (H, W); see `NoiseModel.apply`."""
        noisy: Image = rng.standard_normal(clean.shape, dtype=np.float32)
        noisy *= self.sigma
        noisy *= clean
        noisy += clean
        return noisy

    def sigma_of(self, clean: Image) -> float:
        """Root of the mean variance over the image, on the [0, 1] scale: ``sigma * sqrt(mean(clean**2))``."""
        return self.sigma * math.sqrt(float(np.square(clean).mean(dtype=np.float64)))


def _counts(clean: Image, peak: float, rng: np.random.Generator) -> Image:
    expected = np.maximum(clean, 0).astype(np.float64)
    expected *= peak
    return (rng.poisson(expected) / peak).astype(np.float32)


def _shot_variance(clean: Image, peak: float) -> float:
    return float(np.maximum(clean, 0).mean(dtype=np.float64)) / peak


def _check_peak(peak: float) -> None:
    """Check that the expected photon count of a white pixel is in (0, 1e9], which a Poisson draw can represent."""
    if not 0 < peak <= 1e9:
        raise ValueError(f"peak={peak:g} is outside (0, 1e9]; it is the expected photon count of a white pixel")
