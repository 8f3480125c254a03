"""Bootstrap intervals of means. All columns share the same resamples, which keeps paired scores paired."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95
FEWEST_IMAGES = 10
"""No interval is given for fewer images: for skewed scores it would cover the mean in 75 to 92 % instead of 95 %."""
_CHUNK = 2**21


def resampled_means(scores: Values, *, resamples: int = RESAMPLES, seed: int = 0) -> Values:
    """Means of columns over images drawn with replacement: from (N images, C) to (resamples, C).

    A draw is a vector of counts, so the means of all columns over all draws are one matrix product. Values that are not
    finite are left out of the mean of their column, as in `mean_of`; a draw without a finite value gives NaN.

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapters 6 and 13.
    """
    images, columns = scores.shape
    finite = np.isfinite(scores)
    gaps = np.flatnonzero(~finite.all(axis=0))
    values = np.where(finite, scores, 0.0)
    # Centred, because otherwise sums of thousands of values lose the digits that a small difference needs.
    centre = values.sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
    values = np.where(finite, scores, centre) - centre
    present = finite[:, gaps].astype(np.float64)
    means = np.empty((resamples, columns))
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // max(images, 1))
    for start in range(0, resamples, chunk):
        stop = min(start + chunk, resamples)
        counts = _counts(generator, stop - start, images)
        means[start:stop] = counts @ values / images
        with np.errstate(divide="ignore", invalid="ignore"):
            means[start:stop, gaps] *= images / (counts @ present)
    means += centre
    return means


def intervals(resampled: Values, images: NDArray[np.int_], *, level: float = LEVEL) -> tuple[Values, Values]:
    """Expanded percentile intervals of resampled means of shape (resamples, C); returns low and high, shape (C,).

    Plain percentile intervals are as narrow as normal intervals with the sample's standard deviation and cover too
    little if images are few; the tails are therefore moved out to the quantiles of Student's t. `images` counts the
    values in each column; fewer than `FEWEST_IMAGES`, or a resample without values, gives NaN.

    References
    ----------
    Hesterberg 2015, doi:10.1080/00031305.2015.1089789, section 5.3.
    """
    from scipy.special import ndtr, stdtrit

    low, high = np.full((2, resampled.shape[1]), np.nan)
    for number in np.unique(images[images >= FEWEST_IMAGES]):
        columns = images == number
        wide = math.sqrt(number / (number - 1)) * stdtrit(number - 1, (1 - level) / 2)
        tail = 100 * float(ndtr(wide))
        quantiles = np.percentile(np.ascontiguousarray(resampled[:, columns].T), (tail, 100 - tail), axis=1)
        low[columns], high[columns] = quantiles
    return low, high


def _counts(generator: np.random.Generator, draws: int, images: int) -> Values:
    """How often each image was drawn; counting indices takes half the time of `Generator.multinomial`."""
    drawn = generator.integers(0, images, size=(draws, images), dtype=np.int64)
    drawn += np.arange(draws, dtype=np.int64)[:, None] * images
    counts: Values = np.bincount(drawn.ravel(), minlength=draws * images).reshape(draws, images).astype(np.float64)
    return counts
