"""Ranks rows, by testing which of their paired mean differences are significant."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchbox.stats.summaries import FEWEST_IMAGES, student_quantile

Values: TypeAlias = NDArray[np.float64]
Chunks: TypeAlias = Iterable[NDArray[np.uint8]]

LEVEL = 0.95
RESAMPLES = 5_000
ROOM = 0.7
"""Share of the 5 % that the tests use; the rest is a margin for skewed differences of few images, see `separate`."""

_NORMAL_80 = 0.8416212335729143
"""Quantile of the normal distribution for a power of 80 %."""
_CHUNK = 2**21
_MOST_KEPT = 2**25
"""Counts of a draw, in bytes, up to which it is kept for the next table of the same images."""
_TAIL = 0.99
"""Quantile of t at which pairs are compared."""
_LEAST_VARIANCE = 1e-5
"""Variance relative to the mean square below which differences are constant up to the precision of float32."""


@dataclass(frozen=True)
class Separation:
    """Results of the tests of P paired differences."""

    difference: Values  # shape (P,); means
    error: Values  # shape (P,); standard errors of the means
    # differences of more than this many standard errors are significant; infinite if there are too few images
    critical: Values  # shape (P,)
    p: Values  # shape (P,); adjusted for all P tests; at most 5 % exactly if significant

    @property
    def apart(self) -> NDArray[np.bool_]:
        """Which differences are significant, shape (P,)."""
        significant: NDArray[np.bool_] = np.abs(self.difference) > self.half_width
        return significant

    @property
    def half_width(self) -> Values:
        """Half the width of each simultaneous 95 % confidence interval; NaN if there are too few images."""
        return np.where(np.isinf(self.critical), np.nan, self.critical) * self.error


def separate(
    values: Values, first: NDArray[np.intp], second: NDArray[np.intp], *, resamples: int = RESAMPLES, seed: int = 0
) -> Separation:
    """Test mean differences of P pairs of columns with a family-wise error rate of 5 %.

    `values` has shape (N images, K) and is finite; pair p is column `first` minus column `second`. Two tests of the
    largest studentised mean difference (max |t|) over all pairs must agree. Both resample whole images, which keeps
    the correlation between pairs.

    - Sign flips: all differences of an image change sign together. Exact for any number of images if the differences
      are symmetric about zero; up to 13 images all flips are enumerated.
    - Studentised bootstrap, each tail at half the level: valid for skewed differences, where sign flips are not.

    With skewed differences of fewer than 15 images even both together are too liberal (5 to 6 % for exponential ones),
    so each test runs at 3.5 % instead of 5 %. No test of a mean keeps its level for every distribution (Bahadur &
    Savage): for lognormal differences of few images up to 10 % remain.

    References
    ----------
    Westfall & Young, Resampling-Based Multiple Testing, 1993, chapter 2. Romano & Wolf 2005,
    doi:10.1198/016214504000000539. Beran 1988, Journal of the American Statistical Association 83, 679-686 (balance).
    Hall & Wilson 1991, doi:10.2307/2532163 (studentise and centre the bootstrap).
    Bahadur & Savage 1956, doi:10.1214/aoms/1177728077.
    """
    tests = _Tests(values, first, second, resamples)
    _resample([tests], resamples, seed)
    return tests.result()


class _Tests:
    """The tests of one table, to which resamples are given a chunk at a time."""

    def __init__(self, values: Values, first: NDArray[np.intp], second: NDArray[np.intp], resamples: int) -> None:
        self.images, self.pairs = len(values), len(first)
        differences = values[:, first] - values[:, second]
        unknown = np.full(self.pairs, np.nan)
        self._means = differences.mean(axis=0) if self.images else unknown
        self._error = differences.std(axis=0, ddof=1) / math.sqrt(self.images) if self.images > 1 else unknown
        self.possible = self.images >= FEWEST_IMAGES and self.pairs > 0
        if not self.possible:
            return
        self._first, self._second = first, second
        # |t| is the same for all signs reversed, so that one image may keep its sign.
        self.exact = 2 ** (self.images - 1) <= resamples
        # The root mean square measures each difference, because no sign flip changes it.
        self._size = np.sqrt((differences**2).mean(axis=0))
        # Subtract what all columns share, so that float32 sums keep the digits that a small difference needs.
        self._values = values - values.mean(axis=1, keepdims=True)
        self._flipped: list[NDArray[np.float32]] = []
        self._drawn: list[NDArray[np.float32]] = []

    def flip(self, flips: Chunks) -> None:
        """Take note of |t| of each of some sign flips, packed into bits, and pair; of all flips if `exact`."""
        self._flipped.append(_flipped(self._values, self._first, self._second, self._size, flips, exact=self.exact))

    def draw(self, counts: Chunks) -> None:
        """Take note of t of each of some resamples and pair."""
        sign = np.where(self._means < 0, -1.0, 1.0)
        self._drawn.append(_drawn(self._values, self._first, self._second, sign, counts))

    def result(self) -> Separation:
        """Judge what was noted."""
        means, error, images = self._means, self._error, self.images
        if not self.possible:
            return Separation(means, error, np.full(self.pairs, np.inf), np.ones(self.pairs))
        observed = np.abs(_studentised(means, self._size**2, self._size, images))
        flipped, drawn = np.concatenate(self._flipped), np.concatenate(self._drawn)
        # A pair whose t strays far, for example because one image decides it, would widen the intervals of all others,
        # so each pair is measured by its own tail.
        alpha = ROOM * (1 - LEVEL)
        scale_flip, scale_draw = _scales(flipped, images, 2), _scales(drawn, images, 1)
        critical_flip, p_flip = _judge(
            (flipped / scale_flip).max(axis=1), observed / scale_flip, alpha, exact=self.exact
        )
        largest = np.maximum((drawn / scale_draw).max(axis=1), 0.0)
        critical_draw, p_draw = _judge(largest, observed / scale_draw, alpha / 2, exact=False)
        # Both tests must reject, so the larger p counts. The bootstrap looks at one tail only, hence twice its p;
        # dividing by ROOM turns tests at 3.5 % into p-values to be compared with 5 %.
        p = np.minimum(1.0, np.maximum(p_flip, 2 * p_draw) / ROOM)
        critical = np.maximum(critical_flip * scale_flip, critical_draw * scale_draw)
        return Separation(means, error, critical, np.where(means != 0, p, 1.0))


def _resample(tables: Sequence[_Tests], resamples: int, seed: int) -> None:
    """Give the same resamples to all tables of equally many images, because they take longer to draw than to use."""
    for images in {tests.images: None for tests in tables if tests.possible}:
        alike = [tests for tests in tables if tests.possible and tests.images == images]
        exact = alike[0].exact
        flips, counts = (_kept_draw if resamples * images <= _MOST_KEPT else _draw)(images, resamples, seed, exact)
        for packed in [()] if exact else ((chunk,) for chunk in flips):
            for tests in alike:
                tests.flip(packed)
        for times in counts:
            for tests in alike:
                tests.draw((times,))


def _scales(resampled: NDArray[np.float32], images: int, sides: int) -> Values:
    """How much farther than Student's distribution the resampled t of each pair reach, at least 1; shape (P,)."""
    reach = np.quantile(resampled, _TAIL, axis=0)
    scales: Values = np.maximum(1.0, reach / student_quantile(1 - (1 - _TAIL) / sides, images - 1))
    return scales


def _studentised(mean: Values, square: Values, size: Values, images: int) -> Values:
    """Mean over its standard error, from the means of values and squares; bounded for near-constant values."""
    variance = np.maximum(square - mean**2, _LEAST_VARIANCE * size**2)
    t: Values = mean * math.sqrt(images - 1) / np.sqrt(np.where(variance > 0, variance, 1.0))
    return t


def _draw(images: int, resamples: int, seed: int, exact: bool) -> tuple[Chunks, Chunks]:
    """Sign flips, none if all are enumerated, and how often each resample holds each image.

    Both come in chunks of shape (M, ...), flips packed into bits, and must be read in this order: they share a
    generator. They depend on nothing else, so tables of the same images share them.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // images)
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]

    def flips() -> Iterator[NDArray[np.uint8]]:
        for size in () if exact else sizes:
            yield generator.integers(0, 256, (size, (images + 7) // 8), dtype=np.uint8)

    def counts() -> Iterator[NDArray[np.uint8]]:
        for size in sizes:
            times = np.empty((size, images), dtype=np.uint8)  # a resample with an image 256 times never comes up
            for row, drawn in enumerate(generator.integers(0, images, (size, images))):
                times[row] = np.bincount(drawn, minlength=images)
            yield times

    return flips(), counts()


@functools.lru_cache(maxsize=1)
def _kept_draw(images: int, resamples: int, seed: int, exact: bool) -> tuple[Chunks, Chunks]:
    """`_draw`, whose numbers take longer to draw than the tests take to compute."""
    flips, counts = _draw(images, resamples, seed, exact)
    return tuple(flips), tuple(counts)


def _flipped(
    values: Values, first: NDArray[np.intp], second: NDArray[np.intp], size: Values, flips: Chunks, *, exact: bool
) -> NDArray[np.float32]:
    """|t| of each sign flip and pair; all flips (up to a global sign) if `exact`, which ignores `flips`."""
    images = len(values)
    kind = np.dtype(np.float64 if exact else np.float32)
    columns = values.astype(kind)
    absolute = []
    for negative in _every_flip(images) if exact else _unpacked(flips, images):
        # Columns are summed, not pairs: a table of 20 rows has 190 pairs, and the sum of a difference is the difference
        # of two sums.
        sums = ((1 - 2 * negative.astype(kind)) @ columns).astype(np.float64) / images
        # Flips do not change the sum of squares.
        t = _studentised(sums[:, first] - sums[:, second], size**2, size, images)
        absolute.append(np.abs(t).astype(np.float32))
    return np.concatenate(absolute)


def _every_flip(images: int) -> Chunks:
    total, rows = 2 ** (images - 1), max(1, _CHUNK // images)
    for start in range(0, total, rows):
        yield (np.arange(start, min(start + rows, total))[:, None] >> np.arange(images) & 1).astype(np.uint8)


def _unpacked(flips: Chunks, images: int) -> Chunks:
    return (np.unpackbits(packed, axis=1)[:, :images] for packed in flips)


def _drawn(
    values: Values, first: NDArray[np.intp], second: NDArray[np.intp], sign: Values, counts: Chunks
) -> NDArray[np.float32]:
    """T of each resample of the centred differences and each pair, in the direction of the observed mean."""
    images = len(values)
    centred = values - values.mean(axis=0)
    differences = centred[:, first] - centred[:, second]
    spread = differences.std(axis=0)
    # One product with the counts gives the moments of every resample: sums of columns and of squared differences.
    columns = np.hstack((centred, differences**2)).astype(np.float32)
    directed = []
    for times in counts:
        moments = (times.astype(np.float32) @ columns).astype(np.float64) / images
        sums, squares = moments[:, : values.shape[1]], moments[:, values.shape[1] :]
        t = _studentised(sign * (sums[:, first] - sums[:, second]), squares, spread, images)
        directed.append(t.astype(np.float32))
    return np.concatenate(directed)


def _judge(largest: Values, observed: Values, alpha: float, *, exact: bool) -> tuple[float, Values]:
    """Critical value and p-values; with all flips the observation is one of them, otherwise it counts as one more."""
    # Tolerance: sums of the same values in another order may differ in their last digits.
    ordered = np.sort(largest) / (1 - 1e-5)
    beyond = len(ordered) - np.searchsorted(ordered, observed)
    if exact:
        return float(ordered[-1 - int(alpha * len(ordered))]), beyond / len(ordered)
    return float(ordered[-int(alpha * (len(ordered) + 1))]), (beyond + 1) / (len(ordered) + 1)


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
    return rank_tables([scores])[0]


def rank_tables(tables: Sequence[Values]) -> list[Ranking]:
    """Rank the rows of several tables, each as `rank_rows` does, with resamples that are drawn once for all."""
    orders = [np.argsort(-scores.mean(axis=0), kind="stable") for scores in tables]
    pairs = [np.triu_indices(scores.shape[1], 1) for scores in tables]
    tests = [
        _Tests(scores[:, order], *both, RESAMPLES) for scores, order, both in zip(tables, orders, pairs, strict=True)
    ]
    _resample(tests, RESAMPLES, 0)
    return [
        _ranking(order, one.images, *both, one.result()) for order, both, one in zip(orders, pairs, tests, strict=True)
    ]


def _ranking(
    order: NDArray[np.intp], images: int, first: NDArray[np.intp], second: NDArray[np.intp], tests: Separation
) -> Ranking:
    """Ranks of the rows of a table, in the order of their means, from the tests of all pairs."""
    rows = len(order)
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
            # A true difference of this size exceeds the critical value four times in five.
            detectable = float((tests.critical[pair] + _NORMAL_80) * tests.error[pair])
            further = None if difference == 0 else 0
            if difference > 0 and not is_apart:
                # The detectable difference falls with the square root of the number of images.
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


def kendall_tau(first: Values, second: Values) -> float:
    """Kendall's tau-b of two lists of K means: 1 for the same order, -1 for the reverse; NaN if either is constant.

    References
    ----------
    Kendall 1945, doi:10.1093/biomet/33.3.239 (ties).
    """
    above, below = np.triu_indices(len(first), 1)
    signs = [np.sign(means[above] - means[below]) for means in (first, second)]
    untied = math.sqrt(float(np.square(signs[0]).sum()) * float(np.square(signs[1]).sum()))
    return float((signs[0] * signs[1]).sum()) / untied if untied else math.nan


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
    # Warshall's algorithm: after a turn, ways through this row and all earlier ones count.
    for row in range(len(apart)):
        apart |= apart[:, row, None] & apart[row]
    return apart
