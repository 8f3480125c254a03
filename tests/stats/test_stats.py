"""Statistics: against independent implementations, and calibrated on simulated data whose truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchbox.stats.bootstrap import intervals, resampled_means
from benchbox.stats.ranking import holm, rank_rows, wilcoxon
from benchbox.stats.summaries import average_repeats, latency_of, mean_of
from benchbox.stats.tradeoffs import complements, gap_closed, oracle, pareto_front

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
    assert (mean.mean, mean.images, mean.perfect, mean.undefined) == (2.0, 5, 1, 2)
    assert mean_of(np.array([np.inf, np.inf])).mean == math.inf
    assert math.isnan(mean_of(np.array([np.inf, np.nan])).mean)
    assert math.isnan(mean_of(np.array([])).mean)


def test_latency_quantiles_are_those_of_numpy() -> None:
    samples = np.random.default_rng(0).gamma(3, 2, 501)
    latency = latency_of(samples.tolist())
    assert [latency.p50, latency.p90, latency.p99] == pytest.approx(np.quantile(samples, [0.5, 0.9, 0.99]).tolist())
    assert latency.samples == 501


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


@given(st.integers(1, 90), st.integers(0, 2**32 - 1), st.sampled_from(["plain", "tied", "zeros"]))
def test_the_signed_rank_test_is_that_of_scipy(images: int, seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    differences = generator.normal(0.2, 1, (images, 2))
    if kind == "tied":
        differences = np.round(differences, 1)
    if kind == "zeros":
        differences[: images // 3] = 0
    for column, own, effect in zip(differences.T, *wilcoxon(differences), strict=True):
        kept = column[column != 0]
        if len(kept) == 0:
            assert own == 1
            continue
        exact = len(column) <= 50 and len(np.unique(np.abs(column))) == len(column) and (column != 0).all()
        expected = scipy.stats.wilcoxon(kept, method="exact" if exact else "approx", correction=False).pvalue
        assert own == pytest.approx(expected, rel=1e-9, abs=1e-12)
        ranks = scipy.stats.rankdata(np.abs(kept))
        assert effect == pytest.approx(float((ranks * np.sign(kept)).sum() / ranks.sum()))


def test_holm_by_hand() -> None:
    assert holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])
    assert holm(np.array([0.6, 0.9])) == pytest.approx([1.0, 1.0])
    assert len(holm(np.array([]))) == 0


def test_rows_that_cannot_be_told_apart_share_a_rank() -> None:
    scores = simulated(np.random.default_rng(6), 400, [0.0, 1.0, 1.0, -1.0])
    ranking = rank_rows(scores, resampled_means(scores))
    assert ranking.ranks == (1, 1, 3, 4)
    assert set(ranking.order[:2]) == {1, 2}
    assert ranking.order[2:] == (0, 3)
    assert [one.apart for one in ranking.to_best] == [False, False, True, True]


def test_identical_rows_are_never_told_apart() -> None:
    scores = np.repeat(np.random.default_rng(7).normal(size=(100, 1)), 3, axis=1)
    ranking = rank_rows(scores, resampled_means(scores))
    assert ranking.ranks == (1, 1, 1)
    assert ranking.neighbours[0].further_images is None
    assert ranking.to_best[1].p == 1


def test_a_constant_difference_is_told_apart() -> None:
    scores = np.random.default_rng(8).normal(size=(100, 1)) + np.array([0.0, 0.5])
    ranking = rank_rows(scores, resampled_means(scores))
    assert ranking.order == (1, 0)
    assert ranking.ranks == (1, 2)


def test_one_image_tells_nothing_apart() -> None:
    scores = np.array([[1.0, 2.0, 3.0]])
    ranking = rank_rows(scores, resampled_means(scores))
    assert ranking.ranks == (1, 1, 1)
    assert ranking.order == (2, 1, 0)


@pytest.mark.parametrize("few", [-1.9, -2.5])
def test_tests_that_disagree_tell_nothing_apart(few: float) -> None:
    # Nearly every image is a little better, a few are far worse: the signed ranks say one thing, and the mean nothing
    # or even the opposite.
    generator = np.random.default_rng(9)
    difference = np.where(np.arange(1500) < 1425, 0.1, few + generator.normal(0, 0.2, 1500))
    base = generator.normal(26, 2, 1500)
    scores = np.column_stack((base, base + difference))
    p_values, effects = wilcoxon((scores[:, 1] - scores[:, 0])[:, None])
    assert p_values[0] < 1e-6
    assert effects[0] > 0
    ranking = rank_rows(scores, resampled_means(scores))
    assert ranking.ranks == (1, 1)
    if few < -2:
        assert ranking.order == (0, 1)
        assert ranking.to_best[1].high < 0
        assert ranking.neighbours[0].further_images is None


def test_p_values_are_corrected_over_all_pairs() -> None:
    scores = simulated(np.random.default_rng(20), 150, [0.0, 0.02, 0.05, 0.08])
    ranking = rank_rows(scores, resampled_means(scores, resamples=200))
    ordered = scores[:, list(ranking.order)]
    pairs = list(itertools.combinations(range(4), 2))
    p_values = np.array([scipy.stats.wilcoxon(ordered[:, one], ordered[:, other]).pvalue for one, other in pairs])
    # Holm by its definition: the smallest times 6, the next times 5, ..., never less than the one before.
    running, expected = 0.0, {}
    for step, place in enumerate(np.argsort(p_values)):
        running = max(running, min(1.0, (len(pairs) - step) * p_values[place]))
        expected[pairs[place]] = running
    assert [one.p for one in ranking.to_best[1:]] == pytest.approx([expected[0, row] for row in (1, 2, 3)])


@pytest.mark.parametrize("rows", [2, 5, 12])
def test_the_simultaneous_interval_is_that_of_the_studentised_range(rows: int) -> None:
    # For independent rows of equal spread the largest deviation over all pairs has Tukey's distribution.
    scores = np.random.default_rng(21).normal(26, 1, (2000, rows))
    ranking = rank_rows(scores, resampled_means(scores))
    ordered = scores[:, list(ranking.order)]
    errors = (ordered[:, :-1] - ordered[:, 1:]).std(axis=0, ddof=1) / math.sqrt(2000)
    critical = np.array([step.detectable for step in ranking.neighbours]) / errors - scipy.stats.norm.ppf(0.8)
    tukey = scipy.stats.studentized_range.ppf(0.95, rows, np.inf) / math.sqrt(2)
    assert critical == pytest.approx(np.full(rows - 1, tukey), rel=0.025)


SLOW = {name: pytest.param(name, marks=pytest.mark.slow) for name in ("normal", "skewed", "heavy", "uneven")}


@pytest.mark.parametrize("shape", ["normal", SLOW["skewed"], SLOW["heavy"], SLOW["uneven"]])
def test_without_a_true_difference_groups_split_in_at_most_five_per_cent(shape: str) -> None:
    generator = np.random.default_rng(10)
    trials, rows = 300, 5
    split = 0
    for _ in range(trials):
        scores = simulated(generator, 120, [0.0] * rows, shape)
        split += max(rank_rows(scores, resampled_means(scores, resamples=800)).ranks) > 1
    # 5 % and three standard errors of a share seen in 300 trials.
    assert split / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.parametrize("shape", ["normal", SLOW["skewed"], SLOW["heavy"]])
def test_a_known_difference_is_covered_in_ninety_five_per_cent(shape: str) -> None:
    generator = np.random.default_rng(11)
    trials, truth = 600, 0.4
    covered = above = 0
    for _ in range(trials):
        scores = simulated(generator, 250, [truth, 0.0], shape)
        comparison = rank_rows(scores, resampled_means(scores, resamples=1000)).to_best[1]
        covered += comparison.low <= -truth <= comparison.high
        above += comparison.low > -truth
    assert abs(covered / trials - 0.95) <= 3 * math.sqrt(0.05 * 0.95 / trials)
    assert 0.2 <= above / (trials - covered) <= 0.8


@pytest.mark.slow
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


@pytest.mark.parametrize(("images", "trials"), [(8, 150), (20, 150), (200, 60)])
def test_the_interval_of_a_mean_covers_it_in_ninety_five_per_cent(images: int, trials: int) -> None:
    generator = np.random.default_rng(12)
    columns, covered = 20, 0
    numbers = np.full(columns, images)
    for _ in range(trials):
        resampled = resampled_means(generator.normal(26, 2, (images, columns)), resamples=1000)
        low, high = intervals(resampled, numbers)
        covered += int(((low <= 26) & (high >= 26)).sum())
    assert abs(covered / (trials * columns) - 0.95) <= 3 * math.sqrt(0.05 * 0.95 / (trials * columns))


def test_the_detectable_difference_is_told_apart_four_times_in_five() -> None:
    generator = np.random.default_rng(13)
    pilot = simulated(generator, 200, [0.0] * 4)
    detectable = float(
        np.mean([one.detectable for one in rank_rows(pilot, resampled_means(pilot, resamples=2000)).neighbours])
    )
    trials, found = 200, 0
    for _ in range(trials):
        scores = simulated(generator, 200, [detectable, 0.0, -5.0, -10.0])
        found += rank_rows(scores, resampled_means(scores, resamples=1000)).ranks == (1, 2, 3, 4)
    # The signed-rank test must agree, which costs a little of the 80 % that the mean alone has.
    assert 0.65 <= found / trials <= 0.88


def test_further_images_grow_as_the_difference_shrinks() -> None:
    scores = simulated(np.random.default_rng(14), 60, [0.0, 0.02, 5.0])
    near = rank_rows(scores, resampled_means(scores)).neighbours[-1]
    assert near.further_images is not None
    expected = 60 * (near.detectable / near.difference) ** 2 - 60
    # The signed ranks are a little less efficient than the mean where differences are normal.
    assert expected - 1 <= near.further_images <= 1.2 * expected
    far = rank_rows(scores, resampled_means(scores)).neighbours[0]
    assert far.further_images == 0


def test_further_images_are_those_of_the_test_that_fails() -> None:
    # Each image is better by about as much: the mean tells it, signed ranks of seven images cannot, among ten pairs.
    generator = np.random.default_rng(23)

    def scores(images: int) -> Values:
        gains = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
        drawn: Values = generator.normal(26, 2, (images, 1)) + gains + generator.normal(0, 0.2, (images, 5))
        return drawn

    few = scores(7)
    ranking = rank_rows(few, resampled_means(few))
    assert ranking.ranks == (1, 1, 1, 1, 1)
    further = {one.further_images for one in ranking.neighbours}
    assert all(number is not None and 1 <= number <= 10 for number in further)
    enough = scores(7 + max(number or 0 for number in further))
    assert rank_rows(enough, resampled_means(enough)).ranks == (1, 2, 3, 4, 5)


def test_oracle_and_gap_by_hand() -> None:
    scores = np.array([[20.0, 24.0, 30.0], [20.0, 28.0, 26.0]])
    assert oracle(scores) == 29
    assert gap_closed(28.0, 20.0, 29.0) == pytest.approx(8 / 9)
    assert gap_closed(20.0, 20.0, 29.0) == 0
    assert gap_closed(19.0, 20.0, 29.0) < 0
    assert math.isnan(gap_closed(20.0, 20.0, 20.0))


def test_complements_by_hand() -> None:
    best, second, *_ = complements(np.array([[20.0, 24.0, 30.0], [20.0, 28.0, 26.0]]))
    assert (best.first, best.second, best.together, best.gain) == (2, 1, 29.0, 1.0)
    assert second.gain == 0


def test_the_front_by_hand() -> None:
    quality = [30.0, 28.0, 27.0, 28.0, 20.0]
    cost = [9.0, 2.0, 3.0, 2.0, 0.1]
    assert pareto_front(quality, cost) == (True, True, False, True, True)
