"""The noise level of noisy images, and what it tells without clean ones: PSNR by Stein's unbiased risk estimate.

All denoisers share this estimator of the level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from benchbox.api.arrays import Channels, Image, Images, Scores, Sigma
from benchbox.api.dataset import ImageSet
from benchbox.api.metric import NoReferenceMetric
from benchbox.builtin.channels import CHANNELS, is_colour, luminance

# White noise of variance 1 exceeds this energy in 1 of 100 patches: the 0.99 quantile of the gamma distribution of
# mean 8 and variance 12, which are the mean and variance of a patch's 16 squared central differences, summed.
_WEAK = 18.166901662465612
# The flattest patches that are always used: fewer say too little of a covariance of 16 pixels.
_FEWEST = 105
# The smallest eigenvalues that are averaged. The smallest alone varies more and is lower.
_EIGENVALUES = 4
# Square root of their mean in white noise of variance 1 with n overlapping patches: 1 - 2.6 / sqrt(n), by simulation.
_SHORTFALL = 2.6
_ITERATIONS = 8
_SMALLEST = 11
_MOST = 2**22
_TILE = 512
# Of SURE: its step over sigma, and when noise is not what it assumes.
_PROBE = 0.05
_LOOKED_AT = 8
_CORRELATED = 1.15
_CLIPPED = 0.01


def estimate_sigma(noisy: Images) -> Sigma:
    """Estimate the noise standard deviation of each image, on the [0, 1] scale; 0 if all its patches are flat.

    In weakly textured 4 x 4 patches, noise is what is left in the directions of the smallest eigenvalues of their
    covariance. A patch is weakly textured if noise of the estimated level alone could explain its gradients; this is
    iterated (X. Liu, M. Tanaka and M. Okutomi, IEEE Transactions on Image Processing 22(12), 2013,
    doi:10.1109/TIP.2013.2283400). Three changes suit small images: the mean of four eigenvalues replaces the smallest,
    the 105 flattest patches are always used, and the mean shortfall of eigenvalues for few patches is corrected. One
    suits noise that depends on brightness, which is weakest in dark, flat patches: the darker and the brighter half of
    the patches are estimated apart, and their variances averaged.

    Colour: the root mean square over the channels.

    It assumes white noise. It is too low for correlated noise and mistakes fine texture for noise. Images smaller than
    11 pixels on a side have too few patches; they get the wavelet estimate of `skimage.restoration.estimate_sigma`.
    Of images of more than 4 million pixels, it looks at tiles of 512 x 512 from all over them.

    Parameters
    ----------
    noisy : ndarray of float32, shape (N, H, W) or (N, H, W, 3)

    Returns
    -------
    ndarray of float32, shape (N,)
    """
    if is_colour(noisy):
        apart = np.stack([estimate_sigma(noisy[..., channel]) for channel in range(CHANNELS)])
        together: Sigma = np.sqrt(np.square(apart).mean(axis=0))
        return together
    stack = np.ascontiguousarray(noisy, dtype=np.float32)
    count, height, width = stack.shape
    if min(height, width) < _SMALLEST:
        return _wavelet_estimate(stack)
    if height * width > _MOST:
        return estimate_sigma(np.stack([_mosaic(image) for image in stack]))
    if count > 1 and stack.size > _MOST:  # the patches of a pixel take ten times its memory
        few = max(1, _MOST // (height * width))
        return np.concatenate([estimate_sigma(stack[start : start + few]) for start in range(0, count, few)])
    from benchbox.builtin.kernels import pixels

    energies = np.empty((count, (height - pixels.PATCH + 1) * (width - pixels.PATCH + 1)))
    brightness = np.empty_like(energies)
    pixels.texture(stack, energies, brightness)
    order = np.argsort(brightness, axis=1, kind="stable")
    half = energies.shape[1] // 2
    variances, weights = np.zeros(count), np.zeros(count)
    for others in (order[:, half:], order[:, :half]):
        own = energies.copy()
        np.put_along_axis(own, others, np.inf, axis=1)
        usable = np.isfinite(own).sum(axis=1)
        variances += usable * _variances(stack, own)
        weights += usable
    shortfall = _SHORTFALL / math.sqrt(half)
    sigma: Sigma = (np.sqrt(variances / np.maximum(weights, 1)) / (1 - shortfall)).astype(np.float32)
    return sigma


def _mosaic(image: Image) -> Image:
    """Tiles from all over a large image, put together to at most `_MOST` pixels, which tell its level as well.

    Patches across a seam have so much energy that they count as texture.
    """
    height, width = image.shape
    side = min(_TILE, height), min(_TILE, width)
    down = min(height // side[0], int(math.sqrt(_MOST)) // _TILE)
    across = min(width // side[1], _MOST // (down * side[0] * side[1]))
    tops = np.linspace(0, height - side[0], down).astype(int)
    lefts = np.linspace(0, width - side[1], across).astype(int)
    tiles = [[image[top : top + side[0], left : left + side[1]] for left in lefts] for top in tops]
    mosaic: Image = np.block(tiles)
    return mosaic


def _variances(stack: Images, energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Noise variance of each image in its patches of finite energy, shape (N,); 0 without such patches."""
    from benchbox.builtin.kernels import pixels

    fewest = min(_FEWEST, energies.shape[1]) - 1
    flattest = np.array([np.partition(energy, fewest)[fewest] for energy in energies])
    variances = np.full(len(stack), np.inf)
    covariances = np.empty((len(stack), pixels.PATCH**2, pixels.PATCH**2))
    left = np.arange(len(stack))
    for _ in range(_ITERATIONS):
        limits = np.maximum(_WEAK * variances[left], flattest[left])
        pixels.covariances(stack[left], energies[left], limits, covariances[: len(left)])
        updated = _smallest(covariances[: len(left)])
        moved = np.abs(updated - variances[left]) > 1e-3 * updated
        variances[left] = updated
        left = left[moved]
        if not len(left):
            break
    return variances


def _smallest(covariances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the smallest eigenvalues of each covariance of patches less their own means.

    A patch's mean is left out because the halves are chosen by it, so it varies less than the noise does.
    """
    less_means = covariances - covariances.mean(axis=1, keepdims=True)
    less_means -= less_means.mean(axis=2, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(less_means)  # the first is that of the mean: 0
    means: NDArray[np.float64] = eigenvalues[:, 1 : 1 + _EIGENVALUES].mean(axis=1)
    return np.clip(means, 0.0, None)


def _wavelet_estimate(stack: Images) -> Sigma:
    from skimage.restoration import estimate_sigma as of_wavelets

    estimates = [of_wavelets(image.astype(np.float64)) if min(image.shape) > 1 else 0.0 for image in stack]
    return np.nan_to_num(np.asarray(estimates, dtype=np.float32))


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
