"""Ranks with their uncertainty: the range that each row's rank may have, and what the data could have shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchbox.stats.separation import FEWEST_IMAGES, separate

Values: TypeAlias = NDArray[np.float64]

_NORMAL_80 = 0.8416212335729143
"""Quantile of the normal distribution for a power of 80 %."""


@dataclass(frozen=True)
class Comparison:
    """A row against another one, image by image."""

    difference: float  # mean of the paired differences, this row less the other
    # simultaneous 95 % interval of this difference: it leaves out zero exactly where the two differ significantly
    low: float
    high: float
    p: float  # adjusted for all pairs of rows, see `benchbox.stats.separation.separate`
    apart: bool  # whether the two differ significantly


@dataclass(frozen=True)
class Neighbours:
    """Two rows that follow each other, and what it takes to tell them apart."""

    # columns
    better: int
    worse: int
    difference: float  # mean of the paired differences, better less worse
    detectable: float  # difference that so many images tell apart with a chance of 80 %
    # about how many images more would tell this difference apart with a chance of 80 %; 0 where the two are
    # apart, None where their means are equal
    further_images: int | None


@dataclass(frozen=True)
class Ranking:
    """Rows in their order."""

    order: tuple[int, ...]  # columns, best first
    ranks: tuple[tuple[int, int], ...]  # in this order: the best and the worst rank that each may have
    to_best: tuple[Comparison, ...]  # each row against the first, in this order
    neighbours: tuple[Neighbours, ...]  # in this order; empty where nothing was tested
    images: int
    tested: bool  # whether there are images enough to test differences; if not, every row may have every rank


def rank_rows(scores: Values) -> Ranking:
    """Order rows by their mean and give each the range of ranks that the data leave open.

    A range runs from 1 + the rows that are significantly better to K - the rows that are significantly worse. All
    pairs are tested, not just those with the best, because the best is picked by the same data; in at most 5 % of all
    rankings is any difference false, so that all ranges hold together with a confidence of 95 %.

    A range always contains the row's place by its mean. Differences vary unequally, so a row may lack a significance
    that one with a mean above or below it has; ranges are then widened until neither end falls from row to row. Only a
    row whose range spans more than half of the table has no part in that, so that one wild row does not widen all.

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
    """Widen ranges so that neither end falls along the order.

    A row whose range spans more than half of the table varies too much to say anything of the others: it keeps its own.
    """
    steady = worst - best < len(best) / 2
    best[steady] = np.minimum.accumulate(best[steady][::-1])[::-1]
    worst[steady] = np.maximum.accumulate(worst[steady])
    return best, worst


def _transitive(apart: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Better than one that is better than a third: better than the third, which costs no test."""
    for row in range(len(apart)):
        apart |= apart[:, row, None] & apart[row]
    return apart
