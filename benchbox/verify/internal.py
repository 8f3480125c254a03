"""Checks noise, metrics, statistics and BM3D-lite against formulas and independent implementations, without data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Image, Images
from benchbox.api.noise import NoiseModel
from benchbox.builtin.metrics import Gmsd, Psnr, Ssim
from benchbox.builtin.noise import MODELS, Gaussian
from benchbox.registry import Registry
from benchbox.stats.ranking import rank_rows
from benchbox.stats.summaries import interval_of_mean

Values = NDArray[np.float64]
_SIDE = 384
_DRAWS = 6


@dataclass(frozen=True)
class Check:
    """A measured value beside the one that is known."""

    name: str
    expected: float
    measured: float
    tolerance: float
    against: str  # what the expected value comes from
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; NaN is not."""
        return abs(self.measured - self.expected) <= self.tolerance


# Expected squared error of each pixel with value x.
_ERRORS: Mapping[str, Callable[[Any, Values], Values]] = MappingProxyType(
    {
        "gaussian": lambda model, x: np.full_like(x, model.sigma**2),
        "uniform": lambda model, x: np.full_like(x, model.sigma**2),
        "correlated": lambda model, x: np.full_like(x, model.sigma**2),
        "stripe": lambda model, x: np.full_like(x, model.sigma**2),
        "poisson": lambda model, x: x / model.peak,
        "poisson-gaussian": lambda model, x: x / model.peak + model.sigma**2,
        "speckle": lambda model, x: (model.sigma * x) ** 2,
        "salt-pepper": lambda model, x: model.amount / 2 * (x**2 + (1 - x) ** 2),
        "impulse": lambda model, x: model.amount * (x**2 - x + 1 / 3),
    }
)


def internal_checks(registry: Registry) -> Iterator[Check]:
    """Run every check that needs no data, one after another."""
    yield from noise_checks(MODELS)
    yield from metric_checks()
    yield from statistics_checks()
    yield from plain_checks(registry)


def ramp() -> Image:
    """A grey image with every brightness, shape (384, 384)."""
    image: Image = np.tile(np.linspace(0, 1, _SIDE, dtype=np.float32), (_SIDE, 1))
    return image


def noise_checks(models: list[type[NoiseModel]]) -> Iterator[Check]:
    """Compare the mean squared error of each noise model with the expectation of its formula."""
    clean = ramp()
    exact = clean.astype(np.float64)
    for kind in models:
        model: Any = kind()
        if kind.name == "quantize":
            levels = 2**model.bits - 1
            noisy = model.apply(clean, np.random.default_rng(0))
            error = float(np.abs(noisy - np.rint(exact * levels) / levels).max())
            yield Check("noise quantize", 0.0, error, 1e-6, "its formula")
        elif kind.name == "jpeg":
            yield Check("noise jpeg", 0.0, _jpeg_difference(model, clean), 0.5, "Pillow's encoder", "grey levels")
        elif kind.name in _ERRORS:
            # One noise value a column makes the error of the mean much larger for stripes.
            independent = _SIDE if kind.name == "stripe" else clean.size / (40 if kind.name == "correlated" else 1)
            draws = [model.apply(clean, np.random.default_rng(seed)) - clean for seed in range(_DRAWS)]
            measured = float(np.mean(np.square(draws, dtype=np.float64)))
            expected = float(_ERRORS[kind.name](model, exact).mean())
            spread = float(np.std(np.square(draws, dtype=np.float64))) / math.sqrt(independent * _DRAWS)
            yield Check(f"noise {kind.name}", 1.0, measured / expected, 5 * spread / expected, "its formula")
    noisy = np.stack([Gaussian(0.1).apply(clean, np.random.default_rng(seed)) for seed in range(_DRAWS)])
    decibels = float(Psnr()(np.stack([clean] * _DRAWS), noisy).mean())
    # The error of 10 log10 of a mean of n squared normals is 4.343 sqrt(2 / n) dB.
    tolerance = 5 * 4.343 * math.sqrt(2 / noisy.size)
    yield Check("gaussian:0.1, unclipped", 20.0, decibels, tolerance, "-20 log10(0.1)", "dB")


def _jpeg_difference(model: Any, clean: Image) -> float:
    """Largest difference from Pillow at the same quality, in grey levels."""
    import io

    from PIL import Image as Picture

    waves = np.sin(np.arange(_SIDE, dtype=np.float32) / 2)[:, None]
    textured: Image = (0.5 * clean + 0.25 * (1 + waves)).astype(np.float32)  # compression changes little on a ramp
    file = io.BytesIO()
    Picture.fromarray(np.rint(textured * 255).astype(np.uint8)).save(file, "JPEG", quality=model.quality)
    decoded = np.asarray(Picture.open(file), dtype=np.float64)
    return float(np.abs(model.apply(textured, np.random.default_rng(0)).astype(np.float64) * 255 - decoded).max())


def metric_checks() -> Iterator[Check]:
    """Compare PSNR and SSIM with scikit-image, and GMSD with the formula of its paper."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    rng = np.random.default_rng(7)
    for channels in ((), (3,)):
        waves = 0.5 + 0.3 * np.sin(np.arange(60)[:, None] / 5 + np.arange(72) / 3)
        spread = np.broadcast_to(waves.reshape(waves.shape + (1,) * len(channels)), waves.shape + channels)
        clean: Images = np.ascontiguousarray(spread, dtype=np.float32)
        other: Images = (clean + 0.1 * rng.standard_normal(clean.shape)).clip(0, 1).astype(np.float32)
        first, second = clean.astype(np.float64), other.astype(np.float64)
        words = "colour" if channels else "grey"
        known = peak_signal_noise_ratio(first, second, data_range=1)
        yield Check(
            f"PSNR, {words}", float(known), float(Psnr()(clean[None], other[None])[0]), 1e-4, "scikit-image", "dB"
        )
        known = structural_similarity(
            first,
            second,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=-1 if channels else None,
        )
        yield Check(f"SSIM, {words}", float(known), float(Ssim()(clean[None], other[None])[0]), 1e-5, "scikit-image")
        if not channels:
            known = plain_gmsd(255 * first, 255 * second)
            yield Check("GMSD, c = 170", known, float(Gmsd()(clean[None], other[None])[0]), 1e-5, "Xue et al. 2014")


def plain_gmsd(clean: Values, other: Values) -> float:
    """GMSD of two images in [0, 255], as in the paper: halved, Prewitt gradients, c = 170, deviation of the map."""
    from scipy.ndimage import correlate

    kernel = np.array([[1, 0, -1]] * 3) / 3
    magnitudes = []
    for image in (clean, other):
        half = image.reshape(len(image) // 2, 2, -1, 2).mean(axis=(1, 3))
        magnitudes.append(np.hypot(*(correlate(half, each, mode="constant") for each in (kernel, kernel.T))))
    first, second = magnitudes
    return float(((2 * first * second + 170) / (first**2 + second**2 + 170)).std(ddof=1))


def statistics_checks(trials: int = 400, tables: int = 60) -> Iterator[Check]:
    """Simulate how often intervals cover the mean, and how often equal rows are declared different."""
    rng = np.random.default_rng(11)
    bounds = [interval_of_mean(rng.standard_normal(30)) for _ in range(trials)]
    covered = float(np.mean([low <= 0 <= high for low, high in bounds]))
    error = 4 * math.sqrt(0.95 * 0.05 / trials)
    yield Check("coverage of 95 % intervals", 0.95, covered, error, f"{trials} simulations")
    # Equal rows: a rank that is not shared by all is a false alarm, in at most 5 % of the tables.
    alarms = 0
    for _ in range(tables):
        ranks = rank_rows(rng.standard_normal((40, 1)) + 0.3 * rng.standard_normal((40, 4))).ranks
        alarms += any(rank != (1, 4) for rank in ranks)
    beyond, error = max(0.0, alarms / tables - 0.05), 4 * math.sqrt(0.05 * 0.95 / tables)
    yield Check("false ranks beyond 5 %", 0.0, beyond, error, f"{tables} simulations of equal rows")
    means = np.array([0.0, 1.0, 2.0, 3.0])
    ranked = rank_rows(means + 0.3 * rng.standard_normal((40, 4)))
    found = sum(rank == (place, place) for place, rank in enumerate(ranked.ranks, 1))
    yield Check("ranks of 4 distinct rows", 4.0, float(found), 0.0, "the means that were simulated")


def plain_checks(registry: Registry) -> Iterator[Check]:
    """Compare denoisers with the plain version of themselves, where they have one as a method ``plain``."""
    y, x = np.mgrid[:24, :26]
    scene = (0.3 + 0.2 * np.sin(1.1 * x) * (y > 12) + 0.3 * (x + y > 25)).astype(np.float32)
    noisy: Images = (scene + 0.1 * np.random.default_rng(1).standard_normal(scene.shape)).astype(np.float32)[None]
    sigma = np.full(1, 0.1, np.float32)
    for name, entry in sorted(registry.denoisers.items()):
        if hasattr(entry.cls, "plain"):
            denoiser: Any = entry.cls()
            denoiser.setup(noisy.shape)
            expected = denoiser.plain(noisy, sigma)
            difference = float(np.abs(denoiser.denoise(noisy.copy(), sigma) - expected).max())
            yield Check(f"{name}, difference", 0.0, difference, 1e-4, "plain NumPy, largest")
