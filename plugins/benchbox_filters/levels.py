"""What the filters share: the default noise level, the tuning data and the treatment of images without noise."""

from __future__ import annotations

import numpy as np

from benchbox import BenchboxError, Images, Sigma

TUNED_ON = "FER2013 Training + scikit-image photographs"
ASSUMED_SIGMA = 0.05
"""Noise level that a filter assumes if none is given: about 13 of 255 grey levels."""


def levels(noisy: Images, sigma: Sigma | None) -> Sigma:
    """Noise level of each image, `ASSUMED_SIGMA` if none is given."""
    return np.full(len(noisy), ASSUMED_SIGMA, np.float32) if sigma is None else sigma


def required(name: str, sigma: Sigma | None) -> Sigma:
    """Noise level of each image, for filters that cannot work without; raises `BenchboxError` if none is given."""
    if sigma is None:
        raise BenchboxError(f"{name} needs the noise level", hint="give or estimate it, or use a blind filter")
    return sigma


def keep_clean(result: Images, noisy: Images, sigma: Sigma) -> Images:
    """Replace results for images with noise level 0 by the input, in place, and return `result`."""
    if not sigma.all():
        result[sigma == 0] = noisy[sigma == 0]
    return result


def positive(name: str, value: float | None) -> float | None:
    """Check that an option is greater than 0 if it is set; raises `ValueError`."""
    if value is not None and not value > 0:
        raise ValueError(f"{name} must be greater than 0, got {value}")
    return value
