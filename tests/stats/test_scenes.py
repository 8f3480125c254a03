"""Scenes as the unit of statistics: what the values of scenes keep, and that crops of one scene feign nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchbox.stats.ranking import separate
from benchbox.stats.summaries import by_scene, interval_of_mean, mean_of, numbered

Values = NDArray[np.float64]
SCENES, CROPS, ROWS = 40, 32, 4


def drawn(generator: np.random.Generator, share: float, *, unequal: bool = False) -> tuple[Values, NDArray[np.intp]]:
    """Scores of equal rows on crops of scenes, shape (N, ROWS), whose differences have this correlation in a scene."""
    counts = generator.integers(1, 2 * CROPS, SCENES) if unequal else np.full(SCENES, CROPS)
    scenes = np.repeat(np.arange(SCENES), counts)
    of_scenes = generator.normal(0, np.sqrt(share), (SCENES, ROWS))[scenes]
    of_crops = generator.normal(0, np.sqrt(1 - share), (len(scenes), ROWS))
    common = generator.normal(30, 3, SCENES)[scenes, None]  # easy and hard scenes, the same for all rows
    return common + of_scenes + of_crops, scenes


def test_images_that_are_scenes_stay_as_they_are() -> None:
    values = np.random.default_rng(0).normal(size=(9, 2))
    assert by_scene(values, None) is values
    assert numbered(np.array(list("abc"), dtype=object)) is None
    assert by_scene(values, np.arange(9)) == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize("unequal", [False, True])
def test_the_mean_is_that_of_all_images_and_differences_are_kept(unequal: bool) -> None:
    values, scenes = drawn(np.random.default_rng(1), 0.5, unequal=unequal)
    own = by_scene(values, scenes)
    assert own.shape == (SCENES, ROWS)
    assert own.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=1e-10)
    differences = by_scene(values[:, 0] - values[:, 1], scenes)
    assert own[:, 0] - own[:, 1] == pytest.approx(differences, abs=1e-10)
    if not unequal:
        assert own == pytest.approx(values.reshape(SCENES, CROPS, ROWS).mean(axis=1), abs=1e-10)


def test_the_variance_is_that_of_a_ratio_estimator() -> None:
    """Against the formula of Cochran, sections 6.3 and 9A.3, written out."""
    values, scenes = drawn(np.random.default_rng(2), 0.5, unequal=True)
    x = values[:, 0]
    totals = np.bincount(scenes, x)
    sizes = np.bincount(scenes)
    ratio = totals.sum() / sizes.sum()
    variance = ((totals - ratio * sizes) ** 2).sum() / (SCENES - 1) / SCENES / sizes.mean() ** 2
    assert by_scene(x, scenes).var(ddof=1) / SCENES == pytest.approx(variance, rel=1e-10)


def test_scenes_without_a_value_do_not_count() -> None:
    values, scenes = drawn(np.random.default_rng(3), 0.5)
    values[scenes < 36] = np.nan
    assert np.isnan(mean_of(values[:, 0], scenes=scenes).low), "four scenes are too few"
    assert not np.isnan(mean_of(values[:, 0]).low)


def splits(table: Values) -> bool:
    """Whether the tests tell any two rows apart."""
    first, second = np.triu_indices(ROWS, 1)
    return bool(separate(table, first, second, resamples=1000).apart.any())


@pytest.mark.slow
@pytest.mark.parametrize("unequal", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_crops_split_equal_rows_in_at_most_five_per_cent(share: float, unequal: bool) -> None:
    trials, few = 300, 10
    tables = [drawn(np.random.default_rng(trial), share, unequal=unequal) for trial in range(trials)]
    false = sum(splits(by_scene(values, scenes)) for values, scenes in tables)
    assert false <= 0.05 * trials
    assert sum(splits(values) for values, _ in tables[:few]) >= 3, (
        "with crops as the unit, every third table would split"
    )


@pytest.mark.slow
@pytest.mark.parametrize("unequal", [False, True])
def test_intervals_cover_the_mean(unequal: bool) -> None:
    trials, covered = 1000, {"scenes": 0, "crops": 0}
    for trial in range(trials):
        values, scenes = drawn(np.random.default_rng(trial), 0.3, unequal=unequal)
        for unit, low_high in (
            ("scenes", interval_of_mean(by_scene(values[:, 0], scenes))),
            ("crops", interval_of_mean(values[:, 0])),
        ):
            covered[unit] += low_high[0] <= 30 <= low_high[1]
    assert 0.93 <= covered["scenes"] / trials <= 0.98
    assert covered["crops"] / trials < 0.5
