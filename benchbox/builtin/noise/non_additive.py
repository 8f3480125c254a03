"""Noise that is not added: photons, speckle, wrong pixels, and artefacts of coding."""

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
        """Draw one noisy image; see `NoiseModel.apply`."""
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
        """Draw one noisy image; see `NoiseModel.apply`."""
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
        """Draw one noisy image; see `NoiseModel.apply`."""
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


@dataclass(frozen=True)
class SaltPepper(NoiseModel):
    """Salt and pepper: a pixel becomes 0 or 1, each with probability ``amount / 2``; otherwise it is unchanged.

    In colour, each channel of a pixel is hit independently.
    With x the clean value, the error has mean ``amount * (0.5 - x)`` and mean square
    ``amount * (x**2 + (1 - x)**2) / 2``. It is not additive noise with one standard deviation, so none is defined.
    `amount` is in [0, 1].
    """

    name: ClassVar[str] = "salt-pepper"
    summary: ClassVar[str] = "random pixels set to black or white; in colour, each channel by itself"
    level_title: ClassVar[str] = "share of pixels"
    formula: ClassVar[str] = "noisy = 0 or 1 with probability amount/2 each, else clean"
    reference: ClassVar[str] = "Chan, Ho & Nikolova 2005, doi:10.1109/TIP.2005.852196"
    example: ClassVar[str] = "salt-pepper:0.05"

    amount: float = 0.05

    def __post_init__(self) -> None:
        _check_amount(self.amount)

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image; see `NoiseModel.apply`."""
        draw = rng.random(clean.shape)
        noisy = clean.copy()
        noisy[draw < self.amount] = 1
        noisy[draw < self.amount / 2] = 0
        return noisy


@dataclass(frozen=True)
class Impulse(NoiseModel):
    """Random-valued impulses: a pixel becomes a uniform draw from [0, 1) with probability `amount`.

    In colour, each channel of a pixel is hit independently.
    With x the clean value, the error has mean ``amount * (0.5 - x)`` and mean square ``amount * (1/3 - x + x**2)``. It
    is not additive noise with one standard deviation, so none is defined. `amount` is in [0, 1].
    """

    name: ClassVar[str] = "impulse"
    summary: ClassVar[str] = "random pixels replaced by random values; in colour, each channel by itself"
    level_title: ClassVar[str] = "share of pixels"
    formula: ClassVar[str] = "noisy = u ~ U(0, 1) with probability amount, else clean"
    reference: ClassVar[str] = "Garnett, Huegerich, Chui & He 2005, doi:10.1109/TIP.2005.857261"
    example: ClassVar[str] = "impulse:0.1"

    amount: float = 0.1

    def __post_init__(self) -> None:
        _check_amount(self.amount)

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image; see `NoiseModel.apply`."""
        hit = rng.random(clean.shape) < self.amount
        return np.where(hit, rng.random(clean.shape, dtype=np.float32), clean)


def _check_amount(amount: float) -> None:
    """Check that a share of pixels is in [0, 1]."""
    if not 0 <= amount <= 1:
        raise ValueError(f"amount={amount:g} is outside [0, 1]; it is the share of pixels that are replaced")


@dataclass(frozen=True)
class Quantize(NoiseModel):
    """Coarse grey levels: ``noisy = round(L * clean) / L`` with ``L = 2**bits - 1``; halves round to the even level.

    The step is ``1 / L`` and the error is at most half a step. Its often quoted variance of ``1 / (12 * L**2)`` assumes
    values spread evenly over a step, which images with few grey levels do not have, so no standard deviation is
    defined. Values outside [0, 1], which occur only in compositions, are rounded but not clipped. `bits` per pixel is
    1 to 16.
    """

    name: ClassVar[str] = "quantize"
    summary: ClassVar[str] = "rounding to 2^bits grey levels"
    level_title: ClassVar[str] = "bits per pixel"
    formula: ClassVar[str] = "noisy = round(L*clean)/L, L = 2^bits - 1"
    reference: ClassVar[str] = "Gray & Neuhoff 1998, Quantization, doi:10.1109/18.720541"
    example: ClassVar[str] = "quantize:4"

    bits: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise ValueError(f"bits={self.bits} is outside 1 to 16")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Round one image; the generator is not used."""
        levels = np.float32(2**self.bits - 1)
        noisy: Image = np.rint(clean * levels)
        noisy /= levels
        return noisy


@dataclass(frozen=True)
class Jpeg(NoiseModel):
    """JPEG: ``noisy = decode(encode(round(255 * clean), quality)) / 255`` with OpenCV's codec.

    Colour is encoded as YCbCr with chroma at half the resolution (4:2:0), as most cameras and programs do. The codec
    stores 8 bits, so values are clipped to [0, 1] and rounded to multiples of 1/255 whatever the protocol says. The
    error depends on the image and is correlated, so no standard deviation is defined. Its last bits depend on the
    codec's version, which a run records. `quality` is 1 to 100 on the scale of the Independent JPEG Group; lower is
    worse.
    """

    name: ClassVar[str] = "jpeg"
    summary: ClassVar[str] = "JPEG compression"
    level_title: ClassVar[str] = "JPEG quality"
    formula: ClassVar[str] = "noisy = decode(encode(round(255*clean), quality))/255"
    reference: ClassVar[str] = "Wallace 1992, The JPEG still picture compression standard, doi:10.1109/30.125072"
    example: ClassVar[str] = "jpeg:20"

    quality: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality={self.quality} is outside 1 to 100")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Compress and decode one image, at most 65,500 pixels per side; the generator is not used."""
        import cv2

        pixels = np.rint(np.clip(clean, 0, 1) * np.float32(255)).astype(np.uint8)
        settings = [cv2.IMWRITE_JPEG_QUALITY, self.quality]
        if pixels.ndim == 3:
            pixels = pixels[:, :, ::-1]  # OpenCV's order is blue, green, red
            settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
        written, code = cv2.imencode(".jpg", pixels, settings)
        if not written:
            raise ValueError(f"jpeg cannot encode an image of {clean.shape[0]} x {clean.shape[1]} pixels")
        decoded = cv2.imdecode(code, cv2.IMREAD_GRAYSCALE if clean.ndim == 2 else cv2.IMREAD_COLOR)
        if decoded is None:
            raise ValueError("jpeg cannot decode what it encoded")
        noisy: Image = (decoded if clean.ndim == 2 else decoded[:, :, ::-1]).astype(np.float32)
        noisy /= 255
        return noisy
