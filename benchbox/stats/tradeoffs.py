"""Best row for each image, rows that complement each other, and the Pareto front of score and speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Two rows that complement each other."""

    # columns, the better of the two first
    first: int
    second: int
    together: float  # mean of the better of the two for each image
    gain: float  # by how much it is above the mean of the first alone


def oracle(scores: Values) -> float:
    """Mean of the best row for each image: what a perfect choice among the rows would reach."""
    return float(scores.max(axis=1).mean())


def complements(scores: Values) -> tuple[Pair, ...]:
    """Pairs of rows by what picking the better of the two for each image adds, most first."""
    means = scores.mean(axis=0)
    pairs = []
    for one in range(scores.shape[1]):
        for other in range(one + 1, scores.shape[1]):
            first, second = (one, other) if means[one] >= means[other] else (other, one)
            together = float(np.maximum(scores[:, one], scores[:, other]).mean())
            # Two sums of the same values in another order may differ in their last digit.
            pairs.append(Pair(first, second, together, max(0.0, together - float(means[first]))))
    return tuple(sorted(pairs, key=lambda pair: -pair.gain))


def pareto_front(quality: Sequence[float], cost: Sequence[float]) -> tuple[bool, ...]:
    """Which rows no other beats: none is at least as good at no more cost, and better in one of the two."""
    points = list(zip(quality, cost, strict=True))
    return tuple(
        not any(q >= own_q and c <= own_c and (q > own_q or c < own_c) for q, c in points) for own_q, own_c in points
    )
