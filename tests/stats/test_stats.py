"""Statistics: against independent implementations, and calibrated on simulated data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from benchbox.stats.summaries import (
    average_repeats,
    complements,
    counted,
    interval_of_mean,
    interval_of_proportion,
    latency_of,
    mean_of,
    oracle,
    pareto_front,
    student_quantile,
)

Values = NDArray[np.float64]


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


@pytest.mark.parametrize("degrees", [5, 6, 9, 30, 141, 3588, 35886])
def test_quantiles_of_student_are_those_of_scipy(degrees: int) -> None:
    for level in (0.5, 0.6, 0.9, 0.975, 0.99, 0.995, 0.999):
        expected = scipy.stats.t.ppf(level, degrees)
        assert student_quantile(level, degrees) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_an_interval_of_values_without_skewness_is_that_of_student() -> None:
    values = np.array([1.0, 2.0, 4.0, 7.0, 9.0, 10.0])
    expected = scipy.stats.t.interval(0.95, 5, values.mean(), scipy.stats.sem(values))
    assert interval_of_mean(values) == pytest.approx(expected)
    assert interval_of_mean(np.full(6, 3.5)) == (3.5, 3.5)
    assert np.isnan(interval_of_mean(values[:5])).all()


def test_an_interval_of_skewed_values_solves_halls_cubic() -> None:
    values = np.random.default_rng(5).exponential(size=12)
    low, high = interval_of_mean(values)
    skewness, count = float(scipy.stats.skew(values, bias=False)), len(values)

    def transformed(mean: float) -> float:
        t = (values.mean() - mean) / scipy.stats.sem(values)
        a = skewness / math.sqrt(count)
        return float(t + a / 3 * t**2 + a**2 / 27 * t**3 + a / 6)

    critical = scipy.stats.t.ppf(0.975, count - 1)
    assert transformed(high) == pytest.approx(-critical)
    assert low == pytest.approx(values.mean() - critical * scipy.stats.sem(values))
    mirrored = interval_of_mean(-values)
    assert mirrored == pytest.approx((-high, -low))


@pytest.mark.parametrize("images", [6, *(pytest.param(count, marks=pytest.mark.slow) for count in (10, 30)), 200])
@pytest.mark.parametrize(("kind", "least"), [("normal", 0.94), ("heavy", 0.94), ("skewed", 0.93), ("lognormal", 0.89)])
def test_an_interval_covers_the_mean(images: int, kind: str, least: float) -> None:
    generator = np.random.default_rng(12)
    trials = 2000
    samples, truth = {
        "normal": (generator.normal(26, 2, (trials, images)), 26.0),
        "heavy": (generator.standard_t(3, (trials, images)), 0.0),
        "skewed": (generator.exponential(1, (trials, images)), 1.0),
        "lognormal": (generator.lognormal(0, 1, (trials, images)), math.exp(0.5)),
    }[kind]
    found = [interval_of_mean(sample) for sample in samples]
    covered = sum(low <= truth <= high for low, high in found) / trials
    spread = 3 * math.sqrt(0.05 * 0.95 / trials)
    assert least - spread <= covered <= 0.975 + spread


def test_several_noises_an_image_fake_no_certainty() -> None:
    generator = np.random.default_rng(22)
    trials, images, repeats, truth = 400, 60, 10, 0.4
    covered = naive = 0
    for _ in range(trials):
        # How two rows differ hangs on the image first of all, and little on the noise.
        difference = truth + generator.normal(0, 0.3, (images, 1)) + generator.normal(0, 0.1, (images, repeats))
        averaged = average_repeats({"psnr": difference.ravel()}, repeats)["psnr"]
        low, high = interval_of_mean(averaged)
        covered += low <= truth <= high
        low, high = interval_of_mean(difference.ravel())
        naive += low <= truth <= high
    assert abs(covered / trials - 0.95) <= 3 * math.sqrt(0.05 * 0.95 / trials)
    assert naive / trials < 0.6


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


@pytest.mark.parametrize(("right", "count"), [(0, 6), (6, 6), (1, 9), (300, 400), (3588, 3589)])
def test_the_interval_of_a_proportion_is_wilsons(right: int, count: int) -> None:
    scores = np.array([1.0] * right + [0.0] * (count - right))
    mean = mean_of(scores, proportion=True)
    wilson = scipy.stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert (mean.low, mean.high) == pytest.approx((wilson.low, wilson.high), abs=1e-12)
    assert mean.low < mean.high


def test_averaged_answers_and_few_ones_have_no_wilson_interval() -> None:
    assert math.isnan(mean_of(np.ones(5), proportion=True).low)
    halves = np.array([0.0, 0.5, 1.0, 0.5, 1.0, 1.0, 0.5])
    assert mean_of(halves, proportion=True) == mean_of(halves)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("count", [30, 400])
def test_wilsons_interval_covers_the_proportion_in_ninety_five_per_cent_on_average(count: int, share: float) -> None:
    # Exactly, over the binomial distribution; it swings around 95 % because successes are whole.
    successes = np.arange(count + 1)
    intervals = [interval_of_proportion(int(right), count) for right in successes]
    covers = np.array([low <= share <= high for low, high in intervals])
    coverage = scipy.stats.binom.pmf(successes, count, share)[covers].sum()
    assert 0.93 <= coverage <= 0.985
