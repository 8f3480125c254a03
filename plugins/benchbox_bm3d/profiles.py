"""Parameters of BM3D by image size and noise level."""

from __future__ import annotations

from dataclasses import dataclass

from benchbox_bm3d.transforms import Transform


@dataclass(frozen=True)
class Stage:
    """Parameters of one stage.

    Attributes
    ----------
    transform : {'dct', 'bior'}
        2D transform of patches.
    side : int
        Side of a patch in pixels, 4 or 8.
    step : int
        Pixels between reference patches.
    size : int
        Patches in a group at most, a power of two up to 32.
    reach : int
        Rows and columns that are searched on either side of a reference patch.
    factor : float
        Threshold over sigma, or for the Wiener stage noise variance over that of the image.
    limit, limit_slope : float
        Mean squared difference of similar patches at most: `limit`, on the scale of 255 grey levels, plus
        `limit_slope` times the noise variance.
    compared : int
        DCT coefficients that matching compares, lowest frequencies first.
    beta : float
        Of the Kaiser window that weights pixels by their place in a patch.
    """

    transform: Transform
    side: int
    step: int
    size: int
    reach: int
    factor: float
    limit: float
    limit_slope: float
    compared: int
    beta: float = 2.0


@dataclass(frozen=True)
class Profile:
    """Parameters of both steps of BM3D.

    Attributes
    ----------
    hard, wiener : tuple of Stage
        Stages whose estimates are averaged: the mean of patches of two sizes beats either.
    """

    hard: tuple[Stage, ...]
    wiener: tuple[Stage, ...]


NORMAL = Profile(
    hard=(Stage("bior", 8, 3, 16, 19, 2.7, 2500, 2.0, 64),),
    wiener=(Stage("dct", 8, 3, 32, 19, 1.0, 400, 0.0, 64),),
)

SMALL = Profile(
    hard=(Stage("bior", 8, 2, 16, 8, 2.75, 1e6, 0.0, 24, 3.0), Stage("dct", 4, 2, 32, 8, 2.65, 1e6, 0.0, 16, 3.0)),
    wiener=(Stage("dct", 8, 2, 16, 8, 0.9, 1e6, 0.0, 20, 3.0), Stage("dct", 4, 2, 16, 7, 0.9, 1e6, 0.0, 16, 3.0)),
)


def choose(height: int, width: int, sigma: float) -> Profile:
    """Profile for images of a size and noise level.

    Parameters
    ----------
    height, width : int
    sigma : float

    Returns
    -------
    Profile
    """
    return SMALL if height * width <= 96 * 96 else NORMAL
