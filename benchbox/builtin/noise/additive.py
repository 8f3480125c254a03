"""Additive noise that does not depend on the image: Gaussian, uniform, correlated, stripe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchbox.api.arrays import Image
from benchbox.api.noise import NoiseModel


@dataclass(frozen=True)
class Gaussian(NoiseModel):
    """White Gaussian noise: ``noisy = clean + sigma * n``, n standard normal and independent in each pixel and channel.

    `sigma` is the standard deviation on the [0, 1] scale: ``25/255`` for 25 grey levels. Without clipping, the noisy
    image has a PSNR of ``-20 log10(sigma)`` dB: 20 dB at sigma 0.1.
    """

    name: ClassVar[str] = "gaussian"
    summary: ClassVar[str] = "white Gaussian noise"
    level_title: ClassVar[str] = "noise standard deviation"
    formula: ClassVar[str] = "noisy = clean + sigma*n, n ~ N(0, 1) in each pixel"
    reference: ClassVar[str] = "Gonzalez & Woods, Digital Image Processing, section 5.2"
    example: ClassVar[str] = "gaussian:0.1"
    white: ClassVar[bool] = True
    gaussian: ClassVar[bool] = True

    sigma: float = 0.1

    def __post_init__(self) -> None:
        check_sigma(self.sigma)

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image; see `NoiseModel.apply`."""
        noisy: Image = rng.standard_normal(clean.shape, dtype=np.float32)
        noisy *= self.sigma
        noisy += clean
        return noisy

    def sigma_of(self, clean: Image) -> float:
        """Noise standard deviation: `sigma` for every image."""
        return self.sigma


@dataclass(frozen=True)
class Uniform(NoiseModel):
    """White uniform noise: ``noisy = clean + sqrt(3) * sigma * u``, u uniform on [-1, 1) in each pixel.

    `sigma` is the standard deviation on the [0, 1] scale, as in `Gaussian`; the noise spans ``+-sqrt(3) * sigma``.
    """

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = "white uniform noise"
    level_title: ClassVar[str] = "noise standard deviation"
    formula: ClassVar[str] = "noisy = clean + sqrt(3)*sigma*u, u ~ U(-1, 1) in each pixel"
    reference: ClassVar[str] = "Gonzalez & Woods, Digital Image Processing, section 5.2"
    example: ClassVar[str] = "uniform:0.1"
    white: ClassVar[bool] = True

    sigma: float = 0.1

    def __post_init__(self) -> None:
        check_sigma(self.sigma)

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image; see `NoiseModel.apply`."""
        noisy: Image = rng.random(clean.shape, dtype=np.float32)
        noisy -= 0.5
        noisy *= 2 * math.sqrt(3) * self.sigma
        noisy += clean
        return noisy

    def sigma_of(self, clean: Image) -> float:
        """Noise standard deviation: `sigma` for every image."""
        return self.sigma


@dataclass(frozen=True)
class Correlated(NoiseModel):
    """Correlated Gaussian noise: ``noisy = clean + sigma * (k (*) n)``, white noise through a Gaussian filter.

    `sigma` is the standard deviation of a pixel on the [0, 1] scale; `width`, in (0, 64], is the standard deviation of
    the filter in pixels. n is standard normal on an area that extends beyond the image by the filter's radius, so the
    noise is stationary up to the border. k is a separable Gaussian, cut off at 4 widths and scaled to
    ``sum(k**2) = 1``, so each pixel keeps the standard deviation `sigma`. The correlation of two pixels at distance r
    is about ``exp(-r**2 / (4 * width**2))``. The noise of colour channels is independent.
    """

    name: ClassVar[str] = "correlated"
    summary: ClassVar[str] = "Gaussian noise correlated between neighbouring pixels"
    level_title: ClassVar[str] = "noise standard deviation"
    formula: ClassVar[str] = "noisy = clean + sigma*(k (*) n), n ~ N(0, 1), k Gaussian of width pixels, sum(k^2) = 1"
    reference: ClassVar[str] = "Mäkinen, Azzari and Foi 2020, doi:10.1109/TIP.2020.3014721"
    example: ClassVar[str] = "correlated:0.1,width=1.5"

    sigma: float = 0.1
    width: float = 1.0

    def __post_init__(self) -> None:
        check_sigma(self.sigma)
        if not 0 < self.width <= 64:
            raise ValueError(f"width={self.width:g} is outside (0, 64] pixels; for white noise use gaussian")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image; see `NoiseModel.apply`."""
        from scipy.ndimage import correlate1d

        radius = math.ceil(4 * self.width)
        taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / self.width) ** 2)
        taps /= math.sqrt(float(np.square(taps).sum()))
        height, width = clean.shape[:2]
        white = rng.standard_normal((height + 2 * radius, width + 2 * radius, *clean.shape[2:]), dtype=np.float32)
        rows = correlate1d(white, taps, axis=0)[radius : radius + height]
        noisy: Image = correlate1d(rows, taps, axis=1)[:, radius : radius + width]
        noisy *= self.sigma
        noisy += clean
        return noisy

    def sigma_of(self, clean: Image) -> float:
        """Noise standard deviation of a pixel: `sigma` for every image."""
        return self.sigma


@dataclass(frozen=True)
class Stripe(NoiseModel):
    """Column noise: ``noisy[i, j] = clean[i, j] + sigma * n[j]``, one standard normal n[j] for each column.

    In colour, every channel of a column has an offset of its own. Sensors whose columns have different offsets produce
    it. `sigma` is the standard deviation of the offsets on the [0, 1] scale.
    """

    name: ClassVar[str] = "stripe"
    summary: ClassVar[str] = "column noise: one Gaussian offset per column"
    level_title: ClassVar[str] = "noise standard deviation"
    formula: ClassVar[str] = "noisy[i,j] = clean[i,j] + sigma*n[j], n[j] ~ N(0, 1) for each column"
    reference: ClassVar[str] = "EMVA Standard 1288, release 4.0: column noise"
    example: ClassVar[str] = "stripe:0.1"

    sigma: float = 0.1

    def __post_init__(self) -> None:
        check_sigma(self.sigma)

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image; see `NoiseModel.apply`."""
        offsets = rng.standard_normal(clean.shape[1:], dtype=np.float32)
        offsets *= self.sigma
        noisy: Image = clean + offsets
        return noisy

    def sigma_of(self, clean: Image) -> float:
        """Noise standard deviation of a pixel over draws: `sigma` for every image."""
        return self.sigma


def check_sigma(sigma: float) -> None:
    """Check that a noise standard deviation is in [0, 1]."""
    if not 0 <= sigma <= 1:
        scale = f"; write {sigma:g}/255 for grey levels" if 1 < sigma <= 255 else ""
        raise ValueError(f"sigma={sigma:g} is outside [0, 1], the scale of the images{scale}")
