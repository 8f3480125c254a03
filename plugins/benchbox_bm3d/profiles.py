"""Parameters of BM3D by image size and noise level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

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


Effort = Literal["fast", "normal", "high"]

SMALL_AREA = 64 * 64
"""Pixels up to which an image counts as small: its best matches lie near, and 4x4 patches fit its detail."""
STRONG = 40 / 255
"""Noise level above which groups of the first stage are larger, as in Dabov et al."""


def choose(height: int, width: int, sigma: float, effort: Effort) -> Profile:
    """Profile for images of a size and noise level.

    Photographs get the parameters of Dabov et al. (2007), but another balance of the stages, a threshold of
    ``2.75 sigma`` and then a noise variance of 0.85, and a limit on distances that grows with the noise. Small images
    get the mean of 8x8 and 4x4 patches in both stages, dense reference patches and a near search.

    Parameters
    ----------
    height, width : int
    sigma : float
        Noise standard deviation on the [0, 1] scale.
    effort : {'fast', 'normal', 'high'}

    Returns
    -------
    Profile
    """
    size = 32 if sigma > STRONG else 16
    if height * width <= SMALL_AREA:
        return _small(effort, size)
    step, reach = {"fast": (4, 12), "normal": (3, 19), "high": (2, 19)}[effort]
    return Profile(
        hard=(Stage("bior", 8, step, size, reach, 2.75, 2500, 2.0, 64),),
        wiener=(Stage("dct", 8, step, 16 if effort == "fast" else 32, reach, 0.85, 400, 0.0, 64),),
    )


def _small(effort: Effort, size: int) -> Profile:
    step = 1 if effort == "high" else 2
    large = Stage("bior", 8, 2, size, 8, 2.85, 2500, 3.0, 64, 3.0)
    fine = Stage("dct", 4, step, 32, 7, 0.8, 400, 0.5, 16, 3.0)
    if effort == "fast":
        return Profile((replace(large, size=32),), (fine,))
    return Profile(
        hard=(large, Stage("dct", 4, step, 32, 8, 2.75, 2500, 3.0, 16, 3.0)),
        wiener=(Stage("dct", 8, 2, 32, 8, 0.8, 400, 0.5, 64, 3.0), fine),
    )
