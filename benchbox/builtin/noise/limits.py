"""Validates noise parameters, with errors that name the mistake."""

from __future__ import annotations


def check_sigma(sigma: float) -> None:
    """Hold a noise standard deviation to the [0, 1] scale.

    Parameters
    ----------
    sigma : float

    Raises
    ------
    ValueError
        It is negative, above 1 or not a number.
    """
    if not 0 <= sigma <= 1:
        scale = f"; write {sigma:g}/255 for grey levels" if 1 < sigma <= 255 else ""
        raise ValueError(f"sigma={sigma:g} is outside [0, 1], the scale of the images{scale}")


def check_peak(peak: float) -> None:
    """Hold a peak count to what a Poisson draw can represent.

    Parameters
    ----------
    peak : float
        Expected count of a white pixel.

    Raises
    ------
    ValueError
        It is not positive, above 1e9 or not a number.
    """
    if not 0 < peak <= 1e9:
        raise ValueError(f"peak={peak:g} is outside (0, 1e9]; it is the expected photon count of a white pixel")


def check_amount(amount: float) -> None:
    """Hold a share of pixels to [0, 1].

    Parameters
    ----------
    amount : float

    Raises
    ------
    ValueError
        It is outside [0, 1] or not a number.
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"amount={amount:g} is outside [0, 1]; it is the share of pixels that are hit")
