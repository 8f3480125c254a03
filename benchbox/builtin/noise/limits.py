"""Validates noise parameters; every check raises `ValueError` and also rejects NaN."""

from __future__ import annotations


def check_sigma(sigma: float) -> None:
    """Check that a noise standard deviation is in [0, 1]."""
    if not 0 <= sigma <= 1:
        scale = f"; write {sigma:g}/255 for grey levels" if 1 < sigma <= 255 else ""
        raise ValueError(f"sigma={sigma:g} is outside [0, 1], the scale of the images{scale}")


def check_peak(peak: float) -> None:
    """Check that the expected photon count of a white pixel is in (0, 1e9], which a Poisson draw can represent."""
    if not 0 < peak <= 1e9:
        raise ValueError(f"peak={peak:g} is outside (0, 1e9]; it is the expected photon count of a white pixel")


def check_amount(amount: float) -> None:
    """Check that a share of pixels is in [0, 1]."""
    if not 0 <= amount <= 1:
        raise ValueError(f"amount={amount:g} is outside [0, 1]; it is the share of pixels that are replaced")
