"""Statistics: against independent implementations, and calibrated on simulated data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from benchbox.stats.bootstrap import intervals, resampled_means
from benchbox.stats.summaries import average_repeats, complements, counted, latency_of, mean_of, oracle, pareto_front

Values = NDArray[np.float64]


def simulated(generator: np.random.Generator, images: int, gains: list[float], shape: str = "normal") -> Values:
    """Scores whose images differ far more than their rows; the rows' true means differ by `gains` only."""
    difficulty = generator.normal(26, 2, (images, 1))
    size = (images, len(gains))
    own = {
        "normal": lambda: generator.normal(0, 0.3, size),
        "skewed": lambda: 0.3 * (generator.exponential(1, size) - 1),
        "heavy": lambda: 0.2 * generator.standard_t(4, size),
        "uneven": lambda: generator.normal(0, 0.1, size) * np.linspace(1, 8, len(gains)),
    }[shape]()
    scores: Values = difficulty + own + np.asarray(gains)
    return scores


def test_a_mean_leaves_out_what_is_not_finite_and_counts_it() -> None:
    mean = mean_of(np.array([1.0, np.inf, 3.0, np.nan, -np.inf]))
    assert (mean.mean, mean.images, mean.perfect, mean.undefined) == (2.0, 5, 0, 3)
    assert math.isnan(mean_of(np.array([np.inf, np.nan])).mean)
    assert math.isnan(mean_of(np.array([])).mean)


def test_an_infinite_score_in_decibels_counts_as_a_hundred() -> None:
    scores = np.array([30.0, np.inf, 120.0, np.nan, -np.inf])
    assert counted(scores, "dB").tolist()[:3] == [30.0, 100.0, 100.0]
    assert np.isnan(counted(scores, "dB")[3:]).all()
    assert counted(scores, "").tolist()[2] == 120.0
    assert np.isnan(counted(scores, "")[[1, 3, 4]]).all()
    mean = mean_of(scores, "dB")
    assert mean.mean == pytest.approx(230 / 3)
    assert (mean.perfect, mean.undefined) == (2, 2)


def test_latency_quantiles_are_those_of_numpy() -> None:
    samples = np.random.default_rng(0).gamma(3, 2, 501)
    latency = latency_of(samples.tolist())
    assert [latency.p50, latency.p90, latency.p99] == pytest.approx(np.quantile(samples, [0.5, 0.9, 0.99]).tolist())
    assert latency.samples == 501
    assert np.isnan(latency_of(samples[:99].tolist()).p99)
    assert np.isfinite(latency_of(samples[:100].tolist()).p99)


def test_resampled_means_spread_as_theory_says() -> None:
    scores = np.random.default_rng(1).normal(26, [1.0, 3.0], (400, 2))
    resampled = resampled_means(scores)
    assert resampled.shape == (10_000, 2)
    assert resampled.mean(axis=0) == pytest.approx(scores.mean(axis=0), abs=4 * 3 / 20 / 100)
    # The bootstrap's standard error of a mean is std / sqrt(N); with 10,000 resamples it is known to 0.7 %.
    assert resampled.std(axis=0) == pytest.approx(scores.std(axis=0) / 20, rel=0.03)


def test_all_columns_share_their_draws() -> None:
    scores = np.random.default_rng(2).normal(size=(50, 1))
    resampled = resampled_means(np.hstack((scores, scores + 1.5, -scores)))
    assert np.allclose(resampled[:, 1] - resampled[:, 0], 1.5, atol=1e-12)
    assert np.allclose(resampled[:, 2], -resampled[:, 0], atol=1e-12)


def test_resampling_depends_on_the_seed_alone() -> None:
    scores = np.random.default_rng(3).normal(size=(3000, 2))
    assert np.array_equal(resampled_means(scores, resamples=900), resampled_means(scores, resamples=900))
    assert not np.array_equal(resampled_means(scores, resamples=900), resampled_means(scores, resamples=900, seed=1))


def test_values_that_are_not_finite_are_left_out_of_their_column() -> None:
    scores = np.random.default_rng(4).normal(5, 1, (60, 2))
    scores[:7, 0] = np.inf
    scores[7, 1] = np.nan
    resampled = resampled_means(scores, resamples=4000)
    assert np.isfinite(resampled).all()
    assert resampled[:, 0].mean() == pytest.approx(scores[7:, 0].mean(), abs=0.02)
    assert resampled[:, 0].std() == pytest.approx(scores[7:, 0].std() / math.sqrt(53), rel=0.08)


def test_intervals_are_percentiles_moved_out_to_those_of_student() -> None:
    resampled = np.random.default_rng(5).normal(size=(1000, 4))
    low, high = intervals(resampled, np.array([10, 10**6, 1, 10]))
    assert low[1] == pytest.approx(np.quantile(resampled[:, 1], 0.025), abs=1e-4)
    assert high[1] == pytest.approx(np.quantile(resampled[:, 1], 0.975), abs=1e-4)
    tail = scipy.stats.norm.cdf(math.sqrt(10 / 9) * scipy.stats.t.ppf(0.025, 9))
    assert tail < 0.01
    assert low[[0, 3]] == pytest.approx(np.quantile(resampled[:, [0, 3]], tail, axis=0))
    assert high[[0, 3]] == pytest.approx(np.quantile(resampled[:, [0, 3]], 1 - tail, axis=0))
    assert np.isnan([low[2], high[2]]).all()


SLOW = {name: pytest.param(name, marks=pytest.mark.slow) for name in ("normal", "skewed", "heavy", "uneven")}


def test_several_noises_an_image_fake_no_certainty() -> None:
    generator = np.random.default_rng(22)
    trials, images, repeats, truth = 400, 60, 10, 0.4
    covered = naive = 0
    for _ in range(trials):
        # How two rows differ hangs on the image first of all, and little on the noise.
        difference = truth + generator.normal(0, 0.3, (images, 1)) + generator.normal(0, 0.1, (images, repeats))
        averaged = average_repeats({"psnr": difference.ravel()}, repeats)["psnr"]
        low, high = intervals(resampled_means(averaged[:, None], resamples=1000), np.array([images]))
        covered += bool(low[0] <= truth <= high[0])
        low, high = intervals(resampled_means(difference.reshape(-1, 1), resamples=1000), np.array([images * repeats]))
        naive += bool(low[0] <= truth <= high[0])
    assert abs(covered / trials - 0.95) <= 3 * math.sqrt(0.05 * 0.95 / trials)
    assert naive / trials < 0.6


@pytest.mark.parametrize(("images", "trials"), [(10, 150), (20, 150), (200, 60)])
def test_the_interval_of_a_mean_covers_it_in_ninety_five_per_cent(images: int, trials: int) -> None:
    generator = np.random.default_rng(12)
    columns, covered = 20, 0
    numbers = np.full(columns, images)
    for _ in range(trials):
        resampled = resampled_means(generator.normal(26, 2, (images, columns)), resamples=1000)
        low, high = intervals(resampled, numbers)
        covered += int(((low <= 26) & (high >= 26)).sum())
    assert abs(covered / (trials * columns) - 0.95) <= 3 * math.sqrt(0.05 * 0.95 / (trials * columns))


def test_the_best_row_for_each_image_by_hand() -> None:
    scores = np.array([[20.0, 24.0, 30.0], [20.0, 28.0, 26.0]])
    assert oracle(scores) == 29


def test_complements_by_hand() -> None:
    best, second, *_ = complements(np.array([[20.0, 24.0, 30.0], [20.0, 28.0, 26.0]]))
    assert (best.first, best.second, best.together, best.gain) == (2, 1, 29.0, 1.0)
    assert second.gain == 0


def test_the_front_by_hand() -> None:
    quality = [30.0, 28.0, 27.0, 28.0, 20.0]
    cost = [9.0, 2.0, 3.0, 2.0, 0.1]
    assert pareto_front(quality, cost) == (True, True, False, True, True)
