"""The Anscombe transform, which makes Poisson noise nearly Gaussian for denoisers that expect Gaussian noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchbox import Images, Sigma

_SHIFT = 3 / 8
_BYTE = 255
_TABLE_END = 50.0
"""Count up to which the exact inverse is tabulated; beyond, its asymptote is within 1e-3."""


def stabilized(denoise: Callable[[Images, Sigma], Images], noisy: Images, peaks: NDArray[np.float64]) -> Images:
    """Denoise images with Poisson noise by a denoiser for Gaussian noise.

    Parameters
    ----------
    denoise : callable
        Takes a stack and its noise levels.
    noisy : ndarray of float32, shape (N, H, W) or (N, H, W, 3)
    peaks : ndarray of float64, shape (N,)
        Expected photon count of a white pixel, greater than zero.

    Returns
    -------
    ndarray of float32, same shape
    """
    scale = peaks.reshape(-1, *(1,) * (noisy.ndim - 1))
    # White stays 1, so that parameters that depend on the noise level see the scale they were tuned for.
    span = 2 * np.sqrt(scale + _SHIFT)
    stable = 2 * np.sqrt(np.maximum(noisy * scale + _SHIFT, 0)) / span
    denoised = denoise(stable.astype(np.float32), (1 / span.ravel()).astype(np.float32))
    return (unbiased_inverse(denoised * span) / scale).astype(np.float32)


def peaks_of(noisy: Images, sigma: Sigma) -> NDArray[np.float64]:
    """Expected photon count of a white pixel, from each image's mean and noise level; 0 if the mean is not above 0.

    Poisson noise has variance ``clean / peak``, so the peak follows from the mean variance ``sigma**2``, which must be
    greater than 0.
    """
    means = noisy.mean(tuple(range(1, noisy.ndim)), dtype=np.float64)
    peaks: NDArray[np.float64] = np.maximum(means, 0) / sigma.astype(np.float64) ** 2
    return peaks


def peak_of_counts(image: NDArray[np.float32], peak: float) -> float:
    """Exact photon count of a white pixel, from the step between the values of an image of whole counts.

    Pure Poisson noise gives whole counts. Other quantized images are excluded by the noise level, which must match the
    step, and a step of 1/255 is never interpreted as photons, because it is that of 8-bit images. `peak` comes from
    `peaks_of` and is often wrong by a third if the noise level is estimated. Returns 0 if there are no whole counts, or
    if the count is not between half and twice `peak`.
    """
    values = np.unique(image.astype(np.float64))
    # An image with two values is just black and white; their difference says nothing about photons.
    if len(values) < 3 or values[0] < 0:
        return 0.0
    count = 1 / float(np.diff(values).min())
    counts = values * count
    if abs(count - _BYTE) < 0.5 or np.abs(counts - np.rint(counts)).max() > 0.02:
        return 0.0
    return count if 0.5 * peak < count < 2 * peak else 0.0


def unbiased_inverse(stable: NDArray[np.floating]) -> NDArray[np.float64]:
    """Count whose transformed draws have this mean: the exact unbiased inverse [1]_.

    Parameters
    ----------
    stable : ndarray
        ``2 sqrt(count + 3/8)``, denoised.

    Returns
    -------
    ndarray of float64
        Counts, at least 0.

    References
    ----------
    .. [1] M. Makitalo and A. Foi, Optimal inversion of the Anscombe transformation in low-count Poisson image
       denoising, IEEE Transactions on Image Processing 20(1), 2011, doi:10.1109/TIP.2010.2056693
    """
    means, counts = _table()
    value = np.asarray(stable, np.float64)
    inside = np.interp(value, means, counts)
    result: NDArray[np.float64] = np.where(value > means[-1], value**2 / 4 - 1 / 8, inside)
    return result


@cache
def _table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Mean of the transformed Poisson draws for each expected count, sampled more densely where the curve bends.
    expected = np.linspace(0, np.sqrt(_TABLE_END), 1500) ** 2
    draws = np.arange(200)
    logs = np.cumsum(np.log(np.maximum(draws, 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.where(draws == 0, 0.0, draws * np.log(expected)[:, None])
    chances = np.exp(power - logs - expected[:, None])
    return chances @ (2 * np.sqrt(draws + _SHIFT)), expected
