"""Wilcoxon's signed-rank test of paired differences, and Holm's correction for many tests."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

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
