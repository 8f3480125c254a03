"""BM3D parameters for each image size, noise level and profile."""

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
    chroma : float
        Factor of the other channels of colour images over that of luminance.
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
    chroma: float = 1.0


@dataclass(frozen=True)
class Profile:
    """Parameters of both steps of BM3D.

    Attributes
    ----------
    hard, wiener : tuple of Stage
        One stage, or one of 8x8 patches and one of 4x4 whose estimates are blended, see `tiles.blend`.
    smooth : float
        Variance of the image around a pixel, over that of the noise, at which the 4x4 patches have half of their
        largest share.
    """

    hard: tuple[Stage, ...]
    wiener: tuple[Stage, ...]
    smooth: float = 1.0


Effort = Literal["fast", "normal", "high"]

SMALL_AREA = 64 * 64
"""Pixels up to which an image counts as small: its best matches lie near, and 4x4 patches fit its detail."""
STRONG = 40 / 255
"""Noise level above which groups of the first stage are larger, as in Dabov et al."""


def choose(height: int, width: int, sigma: float, effort: Effort, *, colour: bool = False) -> Profile:
    """Profile for images of a size and noise level.

    Photographs get the parameters of Dabov et al. (2007), but another balance of the stages, a threshold of
    ``2.85 sigma`` and then a noise variance of 0.85, and a limit on distances that grows with the noise. Where there is
    detail, 4x4 patches add to both stages. Small images get the same with denser 4x4 patches and other windows.

    Colour images get the same with a lower first threshold in luminance, which has more of the signal, and a higher one
    in the other two opponent channels, and 4x4 patches add to them also where there is little detail.

    Parameters
    ----------
    height, width : int
    sigma : float
        Noise standard deviation on the [0, 1] scale.
    effort : {'fast', 'normal', 'high'}
    colour : bool

    Returns
    -------
    Profile
    """
    size = 32 if sigma > STRONG else 16
    grey = _small(effort, size) if height * width <= SMALL_AREA else _photograph(effort, size)
    if not colour:
        return grey
    first, *finer = grey.hard
    return Profile(
        hard=(replace(first, factor=0.95 * first.factor, chroma=1.1), *finer),
        wiener=grey.wiener,
        smooth=min(grey.smooth, 0.2),
    )


def _photograph(effort: Effort, size: int) -> Profile:
    if effort == "fast":
        return Profile(
            hard=(Stage("bior", 8, 4, size, 12, 2.75, 2500, 2.0, 64),),
            wiener=(Stage("dct", 8, 4, 16, 12, 0.85, 400, 0.0, 64),),
        )
    step = 3 if effort == "normal" else 2
    return Profile(
        hard=(Stage("bior", 8, 2, size, 19, 2.85, 2500, 2.0, 64), Stage("dct", 4, 2, 32, 8, 2.7, 2500, 3.0, 16, 3.0)),
        wiener=(Stage("dct", 8, step, 32, 19, 0.85, 400, 0.0, 64), Stage("dct", 4, 2, 32, 7, 0.5, 400, 0.5, 16, 3.0)),
        smooth=1.6,
    )


def _small(effort: Effort, size: int) -> Profile:
    fine = Stage("dct", 4, 1 if effort == "high" else 2, 32, 7, 0.8, 400, 0.5, 16, 3.0)
    if effort == "fast":
        return Profile((Stage("bior", 8, 2, 32, 8, 2.85, 2500, 3.0, 64, 3.0),), (fine,))
    step = 3 if effort == "normal" else 2
    return Profile(
        hard=(
            Stage("bior", 8, step, size, 19, 2.85, 2500, 3.0, 64, 3.0),
            replace(fine, reach=8, factor=2.75, limit=2500, limit_slope=3.0),
        ),
        wiener=(Stage("dct", 8, step, 32, 19, 0.8, 400, 0.5, 64, 3.0), fine),
        smooth=0.1,
    )
