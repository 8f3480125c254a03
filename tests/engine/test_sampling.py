"""Which calls are timed: enough for a precise p50, and never beyond the budget."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from benchbox.engine.plan import make_shards
from benchbox.engine.timing import choose_images
from benchbox.engine.timing_case import CHUNKS, SIZES, Sampling
from benchbox.stats.summaries import latency_of, median_rank


def sample(
    latency_s: Callable[[int, int], float], *, pixels: int = 48 * 48, budget_s: float = 10.0
) -> tuple[dict[int, list[float]], float, Sampling]:
    """Time a denoiser whose latency is a function of the images of a call and the number of the call."""
    samples: dict[int, list[float]] = {}
    spent_s, calls = 0.0, 0
    sampling = Sampling(pixels, 64, budget_s, latency_s(1, 0), samples)
    for size in SIZES:
        for chunk in range(len(CHUNKS)):
            images, rounds = sampling.images(size), sampling.rounds(size, chunk, spent_s)
            for number in range(rounds + (sampling.warm_ups(size, chunk) if rounds else 0)):
                calls += 1
                spent_s += latency_s(images, calls)
                if number < rounds:
                    samples.setdefault(images, []).append(1e3 * latency_s(images, calls))
    return samples, spent_s, sampling


def test_a_fast_steady_denoiser_is_timed_for_a_moment() -> None:
    samples, spent_s, _ = sample(lambda images, call: 1e-4 * images)
    assert sorted(samples) == [1, 8, 64]
    assert len(samples[1]) >= 100
    assert spent_s < 0.5


def test_a_restless_denoiser_is_timed_until_p50_is_narrow() -> None:
    rng = np.random.default_rng(0)
    noise = rng.lognormal(0, 0.1, 10_000)
    steady, _, _ = sample(lambda images, call: 0.0005 * images)
    restless, spent_s, _ = sample(lambda images, call: 0.0005 * images * float(noise[call]))
    assert len(restless[1]) > len(steady[1])
    assert latency_of(restless[1]).within <= 0.02
    assert spent_s < 10


def test_after_a_while_a_less_precise_p50_is_enough() -> None:
    noise = np.random.default_rng(0).lognormal(0, 0.2, 10_000)
    samples, spent_s, _ = sample(lambda images, call: 0.01 * images * float(noise[call]))
    assert 0.02 < latency_of(samples[1]).within <= 0.05
    assert spent_s < 6


def test_a_slow_denoiser_is_timed_no_longer_than_its_p50_needs() -> None:
    samples, _, _ = sample(lambda images, call: 0.007 * images)
    assert 6 <= len(samples[1]) < 100


def test_calls_that_follow_each_other_are_alike_and_the_interval_says_so() -> None:
    slow_at_the_end = [1.0] * 50 + [1.1] * 10
    assert latency_of(slow_at_the_end).within == pytest.approx(0.05)
    mixed = np.random.default_rng(0).permutation(slow_at_the_end)
    assert latency_of(mixed.tolist()).within == 0


@pytest.mark.parametrize("latency_s", [0.003, 0.03, 0.3, 1.0, 3.0])
def test_the_budget_is_kept_even_if_nothing_is_steady(latency_s: float) -> None:
    rng = np.random.default_rng(1)
    noise = rng.uniform(0.8, 1.2, 10_000)
    samples, spent_s, _ = sample(lambda images, call: latency_s * images * float(noise[call]))
    assert samples[1]
    assert spent_s < 10 + 2 * latency_s


@pytest.mark.parametrize(("latency_s", "calls"), [(0.9, 6), (1.1, 3), (1.9, 3)])
def test_calls_of_which_six_do_not_fit_are_timed_three_times(latency_s: float, calls: int) -> None:
    samples, _, _ = sample(lambda images, call: latency_s * images, pixels=1024 * 768)
    assert len(samples[1]) == calls


def test_one_call_that_exceeds_the_budget_is_still_timed() -> None:
    samples, _, _ = sample(lambda images, call: 60.0 * images)
    assert samples == {1: [60_000.0]}


@pytest.mark.parametrize(
    ("pixels", "latency_s", "batch"),
    [
        (48 * 48, 1e-4, 64),
        (48 * 48, 0.015, 16),  # 64 images would take 1 s
        (256 * 256, 1e-4, 16),  # as many pixels as a shard
        (257 * 256, 1e-4, 1),
        (64 * 64, 5.0, 1),
    ],
)
def test_the_batch_fits_memory_and_time(pixels: int, latency_s: float, batch: int) -> None:
    samples, _, sampling = sample(lambda images, call: latency_s * images, pixels=pixels)
    assert sampling.batch == batch
    assert sampling.some == (1 if batch == 1 else 8 if pixels == 48 * 48 else 4)
    assert sorted(samples) == sorted({1, sampling.some, batch})


def test_a_batch_that_costs_little_more_than_an_image_is_not_cut() -> None:
    """As on an accelerator, where most of a call is its overhead."""
    samples, _, sampling = sample(lambda images, call: 0.02 + 1e-5 * images)
    assert sampling.batch == 64
    assert sorted(samples) == [1, 8, 64]


@pytest.mark.parametrize(
    ("size", "chosen"),
    [((768, 1024), [1]), ((256, 256), [*range(1, 6)] * 3 + [1]), ((48, 48), ([*range(1, 6)] * 13)[:64])],
)
def test_no_more_images_are_drawn_than_a_call_takes(size: tuple[int, int], chosen: list[int]) -> None:
    shards = make_shards(np.array([(40, 40), *[size] * 5]))
    assert choose_images(shards, 64) == chosen


def test_the_interval_of_the_median_is_that_of_the_order_statistics() -> None:
    """Ranks as tabulated for the sign test, for example in Conover, Practical Nonparametric Statistics."""
    assert [median_rank(count) for count in (1, 5, 6, 8, 9, 20, 100)] == [0, 0, 1, 1, 2, 6, 40]
    assert median_rank(1000) == 469
    assert math.isnan(latency_of([1.0] * 5).within)
    assert latency_of([8.0, 9.0, 10.0, 10.0, 11.0, 14.0]).within == pytest.approx(0.3)
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(2000):
        samples = np.sort(rng.exponential(size=25))
        first = median_rank(25)
        covered += samples[first - 1] <= math.log(2) <= samples[-first]
    assert covered / 2000 > 0.94
