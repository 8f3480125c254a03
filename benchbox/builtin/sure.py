"""PSNR estimated without clean images, by Stein's unbiased risk estimate, and when noise is not what it assumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from benchbox.api.arrays import Channels, Images, Scores, Sigma
from benchbox.api.dataset import ImageSet
from benchbox.api.metric import NoReferenceMetric
from benchbox.builtin.channels import is_colour, luminance
from benchbox.builtin.sigma import estimate_sigma

_PROBE = 0.05
_LOOKED_AT = 8
_CORRELATED = 1.15
_CLIPPED = 0.01


@dataclass(frozen=True)
class PsnrSure(NoReferenceMetric):
    """PSNR estimated from noisy images and two calls of the denoiser: Monte-Carlo SURE.

    ``mse = mean((f(y) - y)**2) - sigma**2 + 2 sigma**2 div``, with the divergence of the denoiser f, clipping included,
    estimated by ``div = mean(b (f(y + e b) - f(y))) / e``, b white Gaussian noise and ``e = 0.05 sigma``. With a
    smaller step, rounding and early stops of a denoiser are taken for sensitivity; a larger one leaves its tangent. It
    is unbiased for white Gaussian noise of a known level; an error of the level, of which 1 % is usual for an estimated
    one, enters the MSE twice. In few pixels the estimate may even be negative; it counts as at least its standard
    error, ``sigma**2 sqrt(2 / n)`` for n values, which limits the score. An image without any noise has none.
    """

    name: ClassVar[str] = "psnr_sure"
    by_default: ClassVar[bool] = True
    title: ClassVar[str] = "PSNR SURE"
    color_title: ClassVar[str] = "PSNR SURE RGB"
    channels: ClassVar[Channels] = "any"
    digits: ClassVar[int | None] = 2
    summary: ClassVar[str] = "PSNR estimated without clean images, for white Gaussian noise (Monte-Carlo SURE)"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    reference: ClassVar[str] = "Ramani, Blu & Unser 2008, doi:10.1109/TIP.2008.2001404"

    def estimate(self, noisy: Images, denoised: Images, sigma: Sigma, denoise: Callable[[Images], Images]) -> Scores:
        """Score a stack, see `NoReferenceMetric.estimate`; in dB."""
        probe = np.stack([_noise_like(image) for image in noisy])
        step = (np.float32(_PROBE) * sigma).reshape(-1, *[1] * (noisy.ndim - 1))
        moved = denoise(noisy + step * probe) - denoised
        variance = np.square(sigma, dtype=np.float64)
        divergence = _mean(probe.astype(np.float64) * moved) / np.maximum(_PROBE * sigma, np.finfo(np.float32).tiny)
        mse = _mean(np.square((denoised - noisy).astype(np.float64))) + variance * (2 * divergence - 1)
        # No estimate is below what the noise itself leaves uncertain, so that a logarithm of chance decides nothing.
        least = variance * np.sqrt(2 / noisy[0].size)
        with np.errstate(divide="ignore"):
            scores: Scores = np.where(sigma > 0, -10 * np.log10(np.maximum(mse, least)), np.nan)
        return scores


def _noise_like(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """White Gaussian noise, the same for the same image in any stack, seeded by its pixels."""
    seed = xxhash.xxh3_64_intdigest(np.ascontiguousarray(image).data)
    return np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)


def _mean(values: NDArray[np.float64]) -> Scores:
    means: Scores = values.reshape(len(values), -1).mean(axis=1)
    return means


def doubts_about(images: ImageSet) -> Iterator[str]:
    """Why the noise of noisy images may not be white and Gaussian, from a few of them, in sentences.

    The level that is estimated from every second pixel of every second row is that of the whole image if the noise is
    white, and higher if neighbours share it.
    """
    places = np.unique(np.linspace(0, len(images) - 1, _LOOKED_AT).astype(np.intp))
    ratios, clipped = [], []
    for place in places:
        stack = images.noisy_stack(np.array([place]))
        grey = luminance(stack) if is_colour(stack) else stack
        clipped.append(float(((stack <= 0) | (stack >= 1)).mean()))
        apart = np.concatenate(
            [
                grey[:, top::2, left::2][:, : grey.shape[1] // 2, : grey.shape[2] // 2]
                for top in (0, 1)
                for left in (0, 1)
            ]
        )
        if min(apart.shape[1:]) >= 32 and (whole := float(estimate_sigma(grey)[0])) > 0:
            ratios.append(float(np.median(estimate_sigma(apart))) / whole)
    if ratios and np.median(ratios) > _CORRELATED:
        yield (
            f"the noise seems correlated (its level is {np.median(ratios):.2f} times as high in every second pixel), "
            "which makes PSNR SURE too high, most of all for denoisers that keep much of it"
        )
    if np.mean(clipped) > _CLIPPED:
        yield f"{100 * np.mean(clipped):.1f} % of the values are black or white, where noise is clipped and SURE errs"
