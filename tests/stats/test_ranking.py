"""Ranks: calibrated on simulated data whose truth is known, and against Tukey's distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchbox.stats import ranking
from benchbox.stats.ranking import kendall_tau, rank_rows, rank_tables, separate

Values = NDArray[np.float64]


def drawn(kind: str, images: int, rows: int, generator: np.random.Generator) -> Values:
    """Scores without a true difference in the mean; images differ far more than rows."""
    size = (images, rows)
    if kind == "binary":  # most rows agree on most images, as the answers of a classifier do
        right = generator.normal(0, 1, (images, 1)) + generator.normal(0, 0.5, size) > -0.8
        return np.asarray(right, np.float64)
    if kind == "normal":
        own = generator.normal(0, 0.3, size)
    elif kind == "heavy":
        own = 0.2 * generator.standard_t(3, size)
    elif kind in ("skewed", "unequal skew", "opposite skew"):
        own = 0.3 * (generator.exponential(1, size) - 1)
        if kind == "unequal skew":
            own[:, ::2] = generator.normal(0, 0.03, own[:, ::2].shape)
        if kind == "opposite skew":
            own[:, ::2] *= -1
    elif kind == "tied":
        own = 0.3 * np.round(generator.normal(0, 1, size))
    elif kind == "rare":
        own = (generator.random(size) < 0.1).astype(np.float64)
    elif kind == "correlated":
        own = generator.normal(0, 0.3, (images, 1)) * np.linspace(-1, 1, rows) + generator.normal(0, 0.05, size)
    else:
        own = generator.normal(0, 0.1, size) * np.linspace(1, 8, rows)
    scores: Values = generator.normal(26, 2, (images, 1)) + own
    return scores


KINDS = ("normal", "heavy", "skewed", "unequal skew", "opposite skew", "tied", "rare", "correlated", "uneven", "binary")


def false_separations(kind: str, images: int, rows: int, trials: int) -> int:
    """Runs without a true difference in which any two rows are told apart."""
    generator = np.random.default_rng([images, rows])
    first, second = np.triu_indices(rows, 1)
    return sum(
        bool(separate(drawn(kind, images, rows, generator), first, second, resamples=1000).apart.any())
        for _ in range(trials)
    )


def holds_five_per_cent(found: int, trials: int) -> bool:
    """Whether so many false separations are no more than chance makes of 5 %, three standard errors above."""
    return found <= 0.05 * trials + 3 * math.sqrt(0.05 * 0.95 * trials)


@pytest.mark.parametrize(("images", "rows"), [(9, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_true_difference_few_runs_separate_any_rows(kind: str, images: int, rows: int) -> None:
    assert holds_five_per_cent(false_separations(kind, images, rows, 100), 100)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "rows", "trials"),
    [
        (6, 2, 1500), (8, 2, 1500), (12, 2, 1500), (20, 2, 1500), (100, 2, 600),
        (6, 6, 400), (12, 6, 400), (30, 6, 400), (30, 8, 200), (12, 20, 100),
        (60, 20, 100), (1000, 2, 100), (3589, 20, 20),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_true_difference_at_most_five_per_cent_of_runs_separate_any_rows(
    kind: str, images: int, rows: int, trials: int
) -> None:
    assert holds_five_per_cent(false_separations(kind, images, rows, trials), trials)


@pytest.mark.parametrize("rows", [2, 5, pytest.param(12, marks=pytest.mark.slow)])
def test_the_critical_value_is_that_of_the_studentised_range(rows: int) -> None:
    # For independent rows of equal spread the largest difference of all pairs has Tukey's distribution; 3.5 % of it.
    scores = np.random.default_rng(21).normal(26, 1, (1000, rows))
    first, second = np.triu_indices(rows, 1)
    critical = float(np.median(separate(scores, first, second, resamples=20_000).critical))
    tukey = scipy.stats.studentized_range.ppf(0.965, rows, np.inf) / math.sqrt(2)
    assert tukey * 0.985 <= critical <= tukey * 1.04


@settings(max_examples=30, deadline=None)
@given(st.integers(6, 14), st.integers(2, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_p_the_interval_and_the_decision_agree(images: int, rows: int, seed: int, tied: bool) -> None:
    scores = np.random.default_rng(seed).normal(np.linspace(0, 3, rows), 1, (images, rows))
    if tied:
        scores = np.round(scores)
    first, second = np.triu_indices(rows, 1)
    found = separate(scores, first, second, resamples=500)
    assert np.array_equal(found.apart, found.p <= 0.05)
    assert np.array_equal(found.apart, np.abs(found.difference) > found.half_width)


def test_six_images_with_one_sign_are_told_apart_by_all_flips() -> None:
    scores = np.column_stack((np.arange(6.0) + 5 + 0.01 * np.arange(6.0) ** 2, np.arange(6.0)))
    (p,) = separate(scores, np.array([0]), np.array([1])).p
    # 1 of the 32 flips, over the share of the 5 % that is used.
    assert p == pytest.approx(1 / 32 / 0.7)
    assert rank_rows(scores).ranks == ((1, 1), (2, 2))


def test_five_images_tell_nothing_apart() -> None:
    scores = np.random.default_rng(1).normal(26, 0.01, (5, 1)) + np.array([0.0, 14.0, 7.0])
    ranking = rank_rows(scores)
    assert not ranking.tested
    assert ranking.order == (1, 2, 0)
    assert ranking.ranks == ((1, 3), (1, 3), (1, 3))
    assert ranking.neighbours == ()
    assert all(math.isnan(one.low) for one in ranking.to_best[1:])


def test_rows_that_cannot_be_told_apart_share_their_range() -> None:
    generator = np.random.default_rng(6)
    scores = generator.normal(26, 2, (400, 1)) + generator.normal([0.0, 1.0, 1.0, -1.0], 0.3, (400, 4))
    ranking = rank_rows(scores)
    assert ranking.ranks == ((1, 2), (1, 2), (3, 3), (4, 4))
    assert set(ranking.order[:2]) == {1, 2}
    assert ranking.order[2:] == (0, 3)
    assert [one.apart for one in ranking.to_best] == [False, False, True, True]


def test_a_pair_that_one_image_decides_does_not_widen_the_others() -> None:
    """Resamples without that image have next to no spread; their t was the critical value of all pairs."""
    generator = np.random.default_rng(4)
    good = generator.normal(30, 3, 12)
    poor = good - generator.normal(5, 2.5, 12)
    same = poor - np.array([18, 20, 9, 17, 18, 13, 21, 16, 22, 14, -53, 18]) / 1000
    alone = rank_rows(np.column_stack([good, poor]))
    assert alone.ranks == ((1, 1), (2, 2))
    assert rank_rows(np.column_stack([good, poor, same])).ranks == ((1, 1), (2, 3), (2, 3))


def test_identical_rows_are_never_told_apart() -> None:
    ranking = rank_rows(np.repeat(np.random.default_rng(7).normal(size=(100, 1)), 3, axis=1))
    assert ranking.ranks == ((1, 3), (1, 3), (1, 3))
    assert ranking.neighbours[0].further_images is None
    assert ranking.to_best[1].p == 1


def test_a_constant_difference_is_told_apart() -> None:
    ranking = rank_rows(np.random.default_rng(8).normal(size=(100, 1)) + np.array([0.0, 0.5]))
    assert ranking.order == (1, 0)
    assert ranking.ranks == ((1, 1), (2, 2))


@pytest.mark.slow
def test_ends_of_ranges_do_not_fall_and_hold_the_place() -> None:
    for seed in range(40):
        generator = np.random.default_rng(seed)
        spread = generator.uniform(0.1, 1.0, 10)
        scores = generator.normal(26, 2, (40, 1)) + generator.normal(np.linspace(0, 1.5, 10), spread, (40, 10))
        ranges = rank_rows(scores).ranks
        assert all(low <= place <= high for place, (low, high) in enumerate(ranges, start=1))
        narrow = [(low, high) for low, high in ranges if high - low < 5]
        assert narrow == sorted(narrow)
        assert [high for _, high in narrow] == sorted(high for _, high in narrow)


def test_a_wild_leader_takes_no_rank_from_the_others() -> None:
    generator = np.random.default_rng(7)
    base = generator.normal(26, 1, 40)
    scores = np.column_stack((base + generator.normal(1.5, 9, 40), base + 0.5, base))
    assert rank_rows(scores).ranks == ((1, 3), (1, 2), (2, 3))


@pytest.mark.parametrize("added", ["near", "far", "equal", "wild"])
def test_another_row_does_not_collapse_the_ranks(added: str) -> None:
    # Fourteen rows on twelve images: with one row more, signed ranks under Holm's correction separate none.
    generator = np.random.default_rng(3)
    gains = np.linspace(0, 6, 14)
    scores = generator.normal(26, 2, (12, 1)) + gains + generator.normal(0, 0.25, (12, 14))
    other = {
        "near": scores[:, 6] + generator.normal(0.1, 0.25, 12),
        "far": scores[:, 0] - 10,
        "equal": scores[:, 6],
        "wild": generator.normal(26, 9, 12),
    }[added]
    before, after = rank_rows(scores), rank_rows(np.column_stack((scores, other)))
    kept = [(column, ends) for column, ends in zip(after.order, after.ranks, strict=True) if column != 14]
    assert tuple(column for column, _ in kept) == before.order
    widths = [high - low for low, high in before.ranks]
    assert sum(widths) / 14 < 5
    # Each range may grow by the added row, and a little because there are more tests.
    assert sum(high - low for _, (low, high) in kept) / 14 <= sum(widths) / 14 + 2


def test_a_known_difference_is_covered_in_ninety_five_per_cent() -> None:
    generator = np.random.default_rng(11)
    trials, truth = 300, 0.4
    covered = 0
    for _ in range(trials):
        scores = drawn("skewed", 60, 2, generator) + np.array([truth, 0.0])
        (found,) = separate(scores, np.array([0]), np.array([1]), resamples=1000).difference - truth
        covered += abs(found) <= separate(scores, np.array([0]), np.array([1]), resamples=1000).half_width[0]
    assert 0.95 - 3 * math.sqrt(0.05 * 0.95 / trials) <= covered / trials <= 0.995


@pytest.mark.slow
def test_the_detectable_difference_is_told_apart_four_times_in_five() -> None:
    generator = np.random.default_rng(13)
    detectable = float(np.mean([one.detectable for one in rank_rows(drawn("normal", 200, 4, generator)).neighbours]))
    trials, found = 50, 0
    for _ in range(trials):
        scores = drawn("normal", 200, 4, generator) + np.array([detectable, 0.0, -5.0, -10.0])
        found += rank_rows(scores).ranks == ((1, 1), (2, 2), (3, 3), (4, 4))
    assert abs(found / trials - 0.8) <= 3 * math.sqrt(0.8 * 0.2 / trials)


def test_further_images_grow_as_the_difference_shrinks() -> None:
    scores = drawn("normal", 60, 3, np.random.default_rng(14)) + np.array([0.0, 0.02, 5.0])
    far, near = rank_rows(scores).neighbours
    assert near.further_images == math.ceil(60 * (near.detectable / near.difference) ** 2) - 60
    assert near.further_images > 0
    assert far.further_images == 0


@pytest.mark.parametrize(("gained", "lost", "same"), [(7, 1, 3), (2, 9, 2), (6, 0, 7)])
def test_sign_flips_of_right_and_wrong_answers_are_mcnemars_exact_test(gained: int, lost: int, same: int) -> None:
    first = np.array([1.0] * gained + [0.0] * lost + [1.0] * same)
    second = np.array([0.0] * gained + [1.0] * lost + [1.0] * same)
    exact = scipy.stats.binomtest(gained, gained + lost).pvalue
    (p,) = separate(np.column_stack((first, second)), np.array([0]), np.array([1])).p
    # The bootstrap must agree, so the adjusted p is at least that of the flips, which run at 70 % of the level.
    assert p >= min(1.0, exact / 0.7) - 1e-9
    (flips,) = _sign_flip_p(first - second)
    assert flips == pytest.approx(exact)


def _sign_flip_p(difference: Values) -> Values:
    images = len(difference)
    size = np.sqrt((difference[:, None] ** 2).mean(axis=0))
    observed = np.abs(ranking._studentised(difference[:, None].mean(axis=0), size**2, size, images))
    table = np.column_stack((difference, np.zeros(images)))
    flipped = ranking._flipped(table, np.array([0]), np.array([1]), size, (), exact=True)
    return ranking._judge(flipped.max(axis=1), observed, 0.05, exact=True)[1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array(values, dtype=np.float64) for values in zip(*pairs, strict=True))
    assert kendall_tau(first, second) == pytest.approx(scipy.stats.kendalltau(first, second).statistic, nan_ok=True)


def test_tables_that_share_their_resamples_are_ranked_as_each_alone() -> None:
    generator = np.random.default_rng(12)
    sizes = (3, 2), (9, 3), (40, 4), (7000, 3), (40, 1), (7000, 2)  # too few, all flips, kept resamples, others
    tables = [generator.normal(size=size) + 0.2 * np.arange(size[1]) for size in sizes]
    assert list(map(repr, rank_tables(tables))) == [repr(rank_rows(table)) for table in tables]
