"""Summaries of scores and latencies: means of images or scenes, quantiles, complementary rows, the Pareto front."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Scenes = NDArray[np.intp]
"""Number of each image's scene, shape (N,)."""
_NODES = 64
_NEWTON = 20


@dataclass(frozen=True)
class Mean:
    """Mean of per-image scores."""

    mean: float  # over the images with a value; NaN if there are none
    images: int  # images scored
    perfect: int = 0  # images at or above `PERFECT_DB`, each counted as `PERFECT_DB`
    undefined: int = 0  # images without a value, left out of the mean
    # 95 % confidence interval of the mean; NaN for fewer than 6 images or scenes
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Latency:
    """Quantiles of latency samples, in milliseconds per call."""

    # linear interpolation between samples
    p50: float
    p90: float
    p99: float  # NaN for fewer than 100 samples, which have none in their slowest hundredth
    samples: int
    within: float  # half the width of the interval of p50, relative to p50; NaN for fewer than 6 samples


FEWEST_IMAGES = 6
"""With fewer images no difference is tested and no interval given: five have 16 sign patterns up to symmetry, so no
p-value is below 1/16, and the interval of a skewed mean would cover it too seldom."""

_PARTS = 6  # of latency samples: the fewest whose extremes are a 95 % interval of the median

PERFECT_DB = 100.0
"""Upper limit of scores in dB: an RMS error of 1e-5, or 1/400 of an 8-bit grey level."""


def counted(scores: NDArray[Any], unit: str) -> Values:
    """Scores as they enter every mean, rank and comparison, so that all rows are compared on the same images.

    An image that is restored exactly has an infinite PSNR. Leaving it out would penalise the row that restores it, so
    scores in dB are limited to `PERFECT_DB`. Other values that are not finite become NaN.
    """
    values = np.asarray(scores, dtype=np.float64)
    if unit == "dB":
        values = np.minimum(values, PERFECT_DB)
    return np.where(np.isfinite(values), values, np.nan)


def mean_of(scores: NDArray[Any], unit: str = "", scenes: Scenes | None = None, *, proportion: bool = False) -> Mean:
    """Mean of the finite scores, after `counted`, with its confidence interval, for which scenes are independent.

    The interval of a `proportion`, whose scores are 0 or 1, is Wilson's, unless scenes or repeats were averaged.
    """
    values = counted(scores, unit)
    valued = np.isfinite(values)
    finite = values[valued]
    units = by_scene(finite, None if scenes is None else scenes[valued])
    binary = proportion and bool(np.isin(units, (0.0, 1.0)).all())
    low, high = interval_of_proportion(int(units.sum()), len(units)) if binary else interval_of_mean(units)
    return Mean(
        mean=float(finite.mean()) if len(finite) else math.nan,
        images=len(values),
        perfect=int((values == PERFECT_DB).sum()) if unit == "dB" else 0,
        undefined=len(values) - len(finite),
        low=low,
        high=high,
    )


def numbered(names: NDArray[np.object_]) -> Scenes | None:
    """Number the scenes of images by their names; None if every image is a scene of its own."""
    unique, numbers = np.unique(names.astype(str), return_inverse=True)
    return None if len(unique) == len(names) else numbers.reshape(-1)


def by_scene(values: Values, scenes: Scenes | None) -> Values:
    """One value for each of S scenes instead of one for each of N images; `values` has shape (N,) or (N, K).

    Images of a scene are not independent, but scenes are. The value of a scene is ``m + S/N * sum(x - m)`` over its
    images x, with m the mean of all images: the linearised estimator of a ratio, because the mean over images is a sum
    over scenes divided by a number of images that scenes contribute to. Its mean over the scenes is m itself, its
    variance that of the estimate, also for scenes of different sizes, and it is linear, so that differences of two
    columns are the values of their differences.

    References
    ----------
    Cochran, Sampling Techniques, 3rd edition, Wiley 1977, sections 6.3 and 9A.3 (ratio estimator of cluster samples).
    """
    if scenes is None:
        return values
    _, own = np.unique(scenes, return_inverse=True)  # some scenes may have no image here
    own = own.reshape(-1)
    count = int(own.max()) + 1 if len(own) else 0
    mean = values.mean(axis=0)
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, own, values - mean)
    result: Values = mean + sums * (count / max(1, len(values)))
    return result


def interval_of_mean(values: Values, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the mean of N values: the union of Student's interval and that of Hall's transformed *t*.

    Student's interval covers the mean too seldom if values are skewed (in 88 to 90 % for 10 exponential values); the
    bootstrap's percentiles are no better with so few. Hall's transformation removes the effect of skewness on *t*,
    but is too narrow for symmetric values with heavy tails, for which Student's interval is right. In simulations the
    union covered normal, heavy-tailed (Student, 3 degrees of freedom) and exponential means in 94 to 97 % from 6
    values to 200, and lognormal ones (sigma 1) in 90 to 96 %. NaN for fewer than `FEWEST_IMAGES` values.

    References
    ----------
    Hall 1992, doi:10.1111/j.2517-6161.1992.tb01872.x (removal of skewness by transformation).
    """
    count = len(values)
    if count < FEWEST_IMAGES:
        return math.nan, math.nan
    mean, deviation = float(values.mean()), float(values.std())
    error = deviation / math.sqrt(count - 1)
    student = student_quantile((1 + level) / 2, count - 1)
    low, high = -student, student
    if deviation > 1e-9 * abs(mean):
        skewness = float((((values - mean) / deviation) ** 3).mean()) * math.sqrt(count * (count - 1)) / (count - 2)
        slope = skewness / math.sqrt(count) / 3
        if abs(slope) > 1e-6:
            low, high = ((np.cbrt(1 + 3 * slope * (t - slope / 2)) - 1) / slope for t in (low, high))
    return mean - error * max(student, float(high)), mean + error * max(student, -float(low))


@functools.cache
def student_quantile(level: float, degrees: int) -> float:
    """Quantile of Student's distribution for a `level` from 0.5 to 0.999 and 5 `degrees` of freedom or more.

    By Newton's method on the integral of the density. SciPy has it, too, but takes a third of a second to import.
    """
    half = (degrees + 1) / 2
    constant = math.exp(math.lgamma(half) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    nodes, weights = _nodes()
    quantile = 0.0
    for _ in range(_NEWTON):
        points = quantile * nodes
        share = constant * quantile * float(weights @ (1 + points * points / degrees) ** -half)
        quantile += (level - 0.5 - share) / (constant * (1 + quantile * quantile / degrees) ** -half)
    return quantile


@functools.cache
def _nodes() -> tuple[Values, Values]:
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return (nodes + 1) / 2, weights / 2


def interval_of_proportion(successes: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's confidence interval of a proportion; NaN for fewer than `FEWEST_IMAGES` values.

    Unlike an interval from the standard error it stays within [0, 1] and has a width if all values are equal.

    References
    ----------
    Wilson 1927, doi:10.1080/01621459.1927.10502953. Brown, Cai & DasGupta 2001, doi:10.1214/ss/1009213286 (coverage).
    """
    from statistics import NormalDist

    if count < FEWEST_IMAGES:
        return math.nan, math.nan
    square = NormalDist().inv_cdf((1 + level) / 2) ** 2
    share = successes / count
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = math.sqrt(square * (share * (1 - share) / count + square / (4 * count**2))) / (1 + square / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def average_repeats(columns: Mapping[str, NDArray[Any]], repeats: int) -> dict[str, NDArray[Any]]:
    """Average the repeats of each image: columns of shape (N * repeats,), ordered by image, become (N,).

    Images are the unit of every comparison and of resampling, so repeats never feign certainty. Values that are not
    finite are left out, and kept if an image has no other.
    """
    if repeats == 1:
        return dict(columns)
    averaged = {}
    for name, values in columns.items():
        rows = values.reshape(-1, repeats)
        finite = np.isfinite(rows)
        counts = finite.sum(axis=1)
        sums = np.where(finite, rows, 0).sum(axis=1, dtype=np.float64)
        averaged[name] = np.where(counts > 0, sums / np.maximum(counts, 1), rows[:, 0]).astype(values.dtype)
    return averaged


def latency_of(samples_ms: Sequence[float]) -> Latency:
    """Quantiles of latency samples, in the order in which they were taken.

    Calls that follow each other are alike, so the order statistics, exact for independent samples, promise too much.
    The interval of p50 therefore also covers the medians of six consecutive parts, whose extremes would contain the
    median in 97 % of cases if the parts were independent.
    """
    samples = np.asarray(samples_ms, dtype=np.float64)
    ordered = np.sort(samples)
    p50, p90, p99 = np.percentile(ordered, (50, 90, 99))
    within = math.nan
    if first := median_rank(len(ordered)):
        parts = [float(np.median(part)) for part in np.array_split(samples, _PARTS)]
        low, high = min(ordered[first - 1], *parts), max(ordered[-first], *parts)
        within = float(high - low) / 2 / float(p50)
    return Latency(float(p50), float(p90), float(p99) if len(ordered) >= 100 else math.nan, len(ordered), within)


@functools.cache
def median_rank(count: int) -> int:
    """Rank of the sample at which the 95 % interval of the median begins; the interval ends at that rank from the top.

    Exact for any distribution: each sample is below the median with probability one half. 0 for fewer than 6 samples,
    of which even the extremes cover the median less often.
    """
    below, rank = 0.5**count, 0  # probability that at most `rank` samples are below the median
    term = below
    while below <= 0.025:
        rank += 1
        term *= (count - rank + 1) / rank
        below += term
    return rank


@dataclass(frozen=True)
class Pair:
    """Two complementary rows."""

    # columns, the better one first
    first: int
    second: int
    together: float  # mean of the better score for each image
    gain: float  # improvement over the mean of the first alone


def oracle(scores: Values) -> float:
    """Mean score of a perfect choice among the rows for each image; `scores` has shape (N images, K rows)."""
    return float(scores.max(axis=1).mean())


def complements(scores: Values) -> tuple[Pair, ...]:
    """All pairs of rows, sorted by the gain from picking the better one for each image; scores as in `oracle`."""
    means = scores.mean(axis=0)
    pairs = []
    for left, right in itertools.combinations(range(scores.shape[1]), 2):
        first, second = (left, right) if means[left] >= means[right] else (right, left)
        together = float(np.maximum(scores[:, left], scores[:, right]).mean())
        # Not below zero: sums of the same values in another order may differ in their last digit.
        pairs.append(Pair(first, second, together, max(0.0, together - float(means[first]))))
    return tuple(sorted(pairs, key=lambda pair: -pair.gain))


def pareto_front(quality: Sequence[float], cost: Sequence[float]) -> tuple[bool, ...]:
    """Which rows are Pareto-optimal: no other row is at least as good in both quality and cost and better in one."""
    points = list(zip(quality, cost, strict=True))
    return tuple(
        not any(q >= own_q and c <= own_c and (q > own_q or c < own_c) for q, c in points) for own_q, own_c in points
    )
