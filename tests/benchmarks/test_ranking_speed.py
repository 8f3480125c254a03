"""Speed of the statistics of a leaderboard: twelve rows on as many images as FER2013's test split."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from benchbox.stats.ranking import rank_rows
from benchbox.stats.summaries import mean_of

pytestmark = pytest.mark.slow

IMAGES, ROWS, RESAMPLES = 3589, 12, 10_000


@pytest.fixture(scope="module")
def scores() -> NDArray[np.float64]:
    """Scores of images that differ in difficulty, and rows that are 0.1 dB apart."""
    generator = np.random.default_rng(15)
    difficulty = generator.normal(28, 3, (IMAGES, 1))
    return difficulty + 0.1 * np.arange(ROWS) + generator.normal(0, 0.3, (IMAGES, ROWS))


@pytest.mark.benchmark(group="10,000 resamples of 12 rows")
def test_means_intervals_and_ranks(benchmark: BenchmarkFixture, scores: NDArray[np.float64]) -> None:
    def rank() -> None:
        for column in scores.T:
            mean_of(column, "dB")
        rank_rows(scores)

    benchmark.pedantic(rank, rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="10,000 resamples of 12 rows")
def test_the_means_alone_one_resample_at_a_time(
    benchmark: BenchmarkFixture, scores: NDArray[np.float64], measured: bool
) -> None:
    """The plain loop over the resamples, for comparison."""

    def loop() -> None:
        generator = np.random.default_rng(0)
        for _ in range(RESAMPLES if measured else 100):
            scores[generator.integers(0, IMAGES, IMAGES)].mean(axis=0)

    benchmark.pedantic(loop, rounds=1)
