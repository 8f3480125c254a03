"""Shared by the filters: default noise level, tuning data, and images without noise."""

from __future__ import annotations

import numpy as np

from benchbox import BenchboxError, Images, Sigma

TUNED_ON = "FER2013 Training + scikit-image photographs"
ASSUMED_SIGMA = 0.05
"""Noise level that a filter assumes where none is told: about 13 of 255 grey levels."""


def levels(noisy: Images, sigma: Sigma | None) -> Sigma:
    """Noise level of each image, `ASSUMED_SIGMA` where none is told.

    Parameters
    ----------
    noisy : ndarray of float32, shape (N, H, W)
    sigma : ndarray of float32, shape (N,), or None

    Returns
    -------
    ndarray of float32, shape (N,)
    """
    return np.full(len(noisy), ASSUMED_SIGMA, np.float32) if sigma is None else sigma


def told(name: str, sigma: Sigma | None) -> Sigma:
    """Noise level of each image, for a filter that cannot do without.

    Raises
    ------
    BenchboxError
        None is told.
    """
    if sigma is None:
        raise BenchboxError(f"{name} needs the noise level", hint="give or estimate it, or take a filter that is blind")
    return sigma


def keep_clean(result: Images, noisy: Images, sigma: Sigma) -> Images:
    """Put images whose noise level is zero back as they came.

    Parameters
    ----------
    result, noisy : ndarray of float32, shape (N, H, W)
    sigma : ndarray of float32, shape (N,)

    Returns
    -------
    ndarray of float32, shape (N, H, W)
        `result`, changed in place.
    """
    if not sigma.all():
        result[sigma == 0] = noisy[sigma == 0]
    return result


def positive(name: str, value: float | None) -> float | None:
    """Check an option that must be greater than zero where it is set.

    Raises
    ------
    ValueError
        It is zero or less.
    """
    if value is not None and not value > 0:
        raise ValueError(f"{name} must be greater than 0, got {value}")
    return value
