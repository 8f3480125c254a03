"""Ranks with their uncertainty: the range of ranks of each row, and the differences that the data could detect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchbox.stats.separation import separate
from benchbox.stats.summaries import FEWEST_IMAGES

Values: TypeAlias = NDArray[np.float64]

_NORMAL_80 = 0.8416212335729143
"""Quantile of the normal distribution for a power of 80 %."""


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of a row with the best one."""

    difference: float  # mean of the paired differences, this row minus the best
    # simultaneous 95 % confidence interval; it excludes zero exactly if the two differ significantly
    low: float
    high: float
    p: float  # adjusted for all pairs of rows, see `separate`
    apart: bool  # whether the two differ significantly


@dataclass(frozen=True)
class Neighbours:
    """Two adjacent rows, and the images needed to tell them apart."""

    # columns of the scores
    better: int
    worse: int
    difference: float  # mean of the paired differences, better minus worse
    detectable: float  # difference that this number of images detects with 80 % power
    # about how many more images would detect this difference with 80 % power; 0 if the rows already differ
    # significantly, None if their means are equal
    further_images: int | None


@dataclass(frozen=True)
class Ranking:
    """Rows, best first, with the ranges of their ranks."""

    order: tuple[int, ...]  # columns, best first
    ranks: tuple[tuple[int, int], ...]  # best and worst rank of each row, in this order
    to_best: tuple[Comparison, ...]  # each row compared with the first, in this order
    neighbours: tuple[Neighbours, ...]  # in this order; empty if nothing was tested
    images: int
    tested: bool  # false if there are too few images, in which case every row may have every rank


def rank_rows(scores: Values) -> Ranking:
    """Order rows by their mean and give each the range of ranks that the data support.

    `scores` has shape (N images, K rows), is finite, and higher is better. A range runs from 1 + the number of
    significantly better rows to K - the number of significantly worse rows. All pairs are tested, not only those with
    the best row, because the best is chosen by the same data. The family-wise error rate is 5 %, so all ranges hold
    simultaneously with 95 % confidence.

    A range always contains the row's position by mean. Because variances differ, a row may lack a significant
    difference that a row with a mean closer to the other has; ranges are then widened until neither end decreases down
    the table. A row with a range of more than half of the table is left out of the widening, so that one erratic row
    does not widen all ranges.

    References
    ----------
    Mogstad, Romano, Shaikh & Wilhelm 2024, doi:10.1093/restud/rdad006 (confidence sets for ranks).
    """
    images, rows = scores.shape
    order = np.argsort(-scores.mean(axis=0), kind="stable")
    first, second = np.triu_indices(rows, 1)
    tests = separate(scores[:, order], first, second)
    apart = np.zeros((rows, rows), dtype=bool)
    apart[first, second] = tests.apart
    apart = _transitive(apart)
    best, worst = _monotone(1 + apart.sum(axis=0), rows - apart.sum(axis=1))
    half = tests.half_width
    to_best = [Comparison(0.0, 0.0, 0.0, 1.0, False)]
    neighbours = []
    for pair, (above, below) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        difference, is_apart = float(tests.difference[pair]), bool(tests.apart[pair])
        if above == 0:
            low, high = -difference - float(half[pair]), -difference + float(half[pair])
            to_best.append(Comparison(-difference, low, high, float(tests.p[pair]), is_apart))
        if below == above + 1 and images >= FEWEST_IMAGES:
            detectable = (tests.critical + _NORMAL_80) * float(tests.error[pair])
            further = None if difference == 0 else 0
            if difference > 0 and not is_apart:
                further = max(1, math.ceil(images * (detectable / difference) ** 2) - images)
            neighbours.append(Neighbours(int(order[above]), int(order[below]), difference, detectable, further))
    return Ranking(
        order=tuple(order.tolist()),
        ranks=tuple(zip(best.tolist(), worst.tolist(), strict=True)),
        to_best=tuple(to_best),
        neighbours=tuple(neighbours),
        images=images,
        tested=images >= FEWEST_IMAGES,
    )


def _monotone(best: NDArray[np.int_], worst: NDArray[np.int_]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Widen ranges so that neither end decreases along the order.

    A row with a range of more than half of the table varies too much to say anything about others and keeps its range.
    """
    steady = worst - best < len(best) / 2
    best[steady] = np.minimum.accumulate(best[steady][::-1])[::-1]
    worst[steady] = np.maximum.accumulate(worst[steady])
    return best, worst


def _transitive(apart: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Transitive closure: if A beats B and B beats C, then A beats C, without another test."""
    for row in range(len(apart)):
        apart |= apart[:, row, None] & apart[row]
    return apart
