"""Estimates the noise level of noisy images; all denoisers share this estimator."""

from __future__ import annotations

import numpy as np

from benchbox.api.arrays import Images, Sigma

# Median magnitude of a standard normal draw, the 0.75 quantile of its distribution.
_NORMAL_MEDIAN = 0.6744897501960817


def estimate_sigma(noisy: Images) -> Sigma:
    """Estimate the noise standard deviation of each image, on the [0, 1] scale; 0 if it has no diagonal detail.

    The estimate is the median magnitude of the finest diagonal wavelet coefficients divided by 0.6745 (D. L. Donoho and
    I. M. Johnstone, Biometrika 81(3), 1994, doi:10.1093/biomet/81.3.425), with the wavelet 'db2', mirrored borders and
    zero coefficients left out, as in `skimage.restoration.estimate_sigma`. It assumes white Gaussian noise: it is too
    low for correlated noise, column noise and sparse impulses, and it mistakes fine texture for noise. Mirrored borders
    lower it by about 1 / side: 2 % at 48 x 48 pixels, where it also varies by 5 % between draws.
    """
    from benchbox.builtin.kernels import wavelet

    medians = np.empty(len(noisy), dtype=np.float64)
    wavelet.median_diagonal(np.ascontiguousarray(noisy, dtype=np.float32), medians)
    return (medians / _NORMAL_MEDIAN).astype(np.float32)
