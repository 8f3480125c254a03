"""Rank groups: which rows are significantly different, and how large a difference the data can show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchbox.stats.bootstrap import LEVEL, intervals

Values = NDArray[np.float64]

EXACT_UP_TO = 50


def wilcoxon(differences: Values) -> tuple[Values, Values]:
    """Test the hypothesis that paired differences are symmetric about zero, two-sided.

    Differences of zero are dropped and equal ones share the mean of their ranks. Up to 50 differences without ties the
    distribution is exact, else normal with the variance corrected for ties; as ``scipy.stats.wilcoxon`` does.

    Parameters
    ----------
    differences : ndarray of float64, shape (N, P)
        One column a pair.

    Returns
    -------
    p_values : ndarray of float64, shape (P,)
        1 where all differences are zero.
    effects : ndarray of float64, shape (P,)
        Rank-biserial correlation, from -1 (every difference is negative) to 1 (every one is positive).

    References
    ----------
    Wilcoxon 1945, doi:10.2307/3001968. Pratt & Gibbons, Concepts of Nonparametric Theory, 1981, chapter 3.
    """
    tests = np.array([_wilcoxon(column) for column in np.ascontiguousarray(differences.T)]).reshape(-1, 2)
    return tests[:, 0], tests[:, 1]


def holm(p_values: Values) -> Values:
    """Adjust p-values so that the chance of any false alarm among them is kept.

    Parameters
    ----------
    p_values : ndarray of float64, shape (P,)

    Returns
    -------
    ndarray of float64, shape (P,)

    References
    ----------
    Holm 1979, https://www.jstor.org/stable/4615733.
    """
    order = np.argsort(p_values)
    steps = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * steps))
    return adjusted


def _wilcoxon(differences: Values) -> tuple[float, float]:
    kept = differences[differences != 0]
    count = len(kept)
    if count == 0:
        return 1.0, 0.0
    sizes = np.abs(kept)
    order = np.argsort(sizes)
    ordered = sizes[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ties = np.diff(np.append(starts, count))
    # Equal sizes share the mean of the ranks that they fill.
    ranks = np.repeat(starts + (ties + 1) / 2, ties)
    positive = float(ranks[kept[order] > 0].sum())
    total = count * (count + 1) / 2
    smaller = min(positive, total - positive)
    effect = 2 * positive / total - 1
    if count <= EXACT_UP_TO and count == len(differences) and len(ties) == count:
        return min(1.0, 2 * float(_distribution(count)[: int(smaller) + 1].sum())), effect
    variance = count * (count + 1) * (2 * count + 1) / 24 - float((ties.astype(np.float64) ** 3 - ties).sum()) / 48
    return math.erfc((total / 2 - smaller) / math.sqrt(variance) / math.sqrt(2)), effect


def _distribution(count: int) -> Values:
    """Probabilities of the sum of positive ranks, 0 up to ``count (count + 1) / 2``."""
    chances = np.ones(1)
    for rank in range(1, count + 1):
        longer = np.zeros(len(chances) + rank)
        longer[: len(chances)] += chances / 2
        longer[rank:] += chances / 2
        chances = longer
    return chances


_NORMAL_80 = 0.8416212335729143
"""Quantile of the normal distribution for a power of 80 %."""


@dataclass(frozen=True)
class Comparison:
    """A row against another one, image by image.

    Attributes
    ----------
    difference : float
        Mean of the paired differences, this row less the other.
    low, high : float
        Bootstrap interval of this difference at 95 %.
    p : float
        Wilcoxon signed-rank, two-sided, with Holm's correction over all pairs of rows.
    apart : bool
        Whether the two are told apart, see `rank_rows`.
    """

    difference: float
    low: float
    high: float
    p: float
    apart: bool


@dataclass(frozen=True)
class Neighbours:
    """Two rows that follow each other, and what it takes to tell them apart.

    Attributes
    ----------
    better, worse : int
        Columns.
    difference : float
        Mean of the paired differences, better less worse.
    detectable : float
        Difference that so many images tell apart with a chance of 80 %.
    further_images : int or None
        About how many images more would tell this difference apart with a chance of 80 %; 0 where they are apart,
        None where that cannot be said: the means do not differ, or a test finds the row of the lower mean better.
    """

    better: int
    worse: int
    difference: float
    detectable: float
    further_images: int | None


@dataclass(frozen=True)
class Ranking:
    """Rows in their order.

    Attributes
    ----------
    order : tuple of int
        Columns, best first.
    ranks : tuple of int
        Ranks in this order: 1, 1, 3, ...
    to_best : tuple of Comparison
        Each row against the first, in this order.
    neighbours : tuple of Neighbours
        In this order.
    images : int
    """

    order: tuple[int, ...]
    ranks: tuple[int, ...]
    to_best: tuple[Comparison, ...]
    neighbours: tuple[Neighbours, ...]
    images: int


def rank_rows(scores: Values, resampled: Values, *, level: float = LEVEL) -> Ranking:
    """Order rows by their mean and give one rank to those that cannot be told apart.

    Two rows are told apart when two tests find the same one better, each of which keeps the chance of any false alarm
    among all pairs of rows at 5 %: the simultaneous bootstrap interval of the mean difference (largest studentised
    deviation over all pairs) leaves out zero, and Wilcoxon's signed-rank test with Holm's correction is below 5 %. A
    row shares the rank of the first row of the group above it unless it is told apart from that row. All pairs count,
    and not just those with the best, because the best is picked by the same data.

    Parameters
    ----------
    scores : ndarray of float64, shape (N, K)
        Finite; higher is better.
    resampled : ndarray of float64, shape (R, K)
        Resampled means of the same columns and images, from `resampled_means`.
    level : float

    Returns
    -------
    Ranking

    References
    ----------
    Westfall & Young, Resampling-Based Multiple Testing, 1993. Holm 1979.
    """
    images, rows = scores.shape
    means = scores.mean(axis=0)
    order = np.argsort(-means, kind="stable")
    if images < 2 or rows < 2:
        nothing = Comparison(0.0, math.nan, math.nan, 1.0, False)
        return Ranking(tuple(int(column) for column in order), (1,) * rows, (nothing,) * rows, (), images)
    scores, resampled = scores[:, order], resampled[:, order]
    first, second = np.triu_indices(rows, 1)
    differences = scores[:, first] - scores[:, second]
    centre = differences.mean(axis=0)
    error = differences.std(axis=0, ddof=1) / math.sqrt(images)
    critical, beyond = _simultaneous(resampled[:, first] - resampled[:, second], centre, error, level)
    raw_p_values, effects = wilcoxon(differences)
    p_values = holm(raw_p_values)
    # The two tests agree only if they find the same row better.
    signed, same = p_values < 1 - level, effects * centre > 0
    disagree = (beyond | signed) & ~same
    apart = np.zeros((rows, rows), dtype=bool)
    apart[first, second] = beyond & signed & same
    with_best = first == 0
    low, high = intervals(resampled[:, 1:] - resampled[:, :1], np.full(rows - 1, images), level=level)
    to_best = [Comparison(0.0, 0.0, 0.0, 1.0, False)]
    to_best += [
        Comparison(-float(centre[pair]), float(low[row - 1]), float(high[row - 1]), float(p_values[pair]), bool(told))
        for pair, row, told in zip(np.flatnonzero(with_best), second[with_best], apart[0, 1:], strict=True)
    ]
    neighbours = []
    for pair in np.flatnonzero(second == first + 1):
        above, below = int(first[pair]), int(second[pair])
        detectable = (critical + _NORMAL_80) * float(error[pair])
        further = None if disagree[pair] or centre[pair] == 0 else 0
        if further == 0 and not beyond[pair]:
            further = math.ceil(images * (detectable / float(centre[pair])) ** 2) - images
        if further is not None and same[pair] and not signed[pair]:
            further = max(further, _signed_rank_images(float(effects[pair]), len(first), level) - images)
        if further is not None and not apart[above, below]:
            further = max(1, further)
        neighbours.append(Neighbours(int(order[above]), int(order[below]), float(centre[pair]), detectable, further))
    return Ranking(tuple(int(column) for column in order), _groups(apart), tuple(to_best), tuple(neighbours), images)


def _simultaneous(resampled: Values, centre: Values, error: Values, level: float) -> tuple[float, NDArray[np.bool_]]:
    """Critical value for the largest studentised deviation of all pairs, and which differences go beyond it."""
    varies = error > 0
    if not varies.any():
        return 0.0, centre != 0
    deviations = np.abs(resampled[:, varies] - centre[varies]) / error[varies]
    critical = float(np.quantile(deviations.max(axis=1), level))
    return critical, np.abs(centre) > critical * error


def _groups(apart: NDArray[np.bool_]) -> tuple[int, ...]:
    leader, ranks = 0, [1]
    for row in range(1, len(apart)):
        if apart[leader, row]:
            leader = row
        ranks.append(leader + 1)
    return tuple(ranks)


def _signed_rank_images(effect: float, pairs: int, level: float) -> int:
    """Images of which the signed-rank test finds an effect among many pairs, four times in five.

    The statistic is about ``effect * sqrt(3 N / 4)`` deviations from its mean, and spreads by ``sqrt(1 - effect**2)``.
    """
    needed = NormalDist().inv_cdf(1 - (1 - level) / (2 * pairs)) + _NORMAL_80 * math.sqrt(1 - effect**2)
    return math.ceil(4 / 3 * (needed / effect) ** 2)
