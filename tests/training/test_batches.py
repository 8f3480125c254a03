"""What a training is fitted on: batches of noisy crops, and mixtures of noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchbox import BenchboxError, Recipe
from benchbox.registry import load_registry
from benchbox.training import TrainConfig
from benchbox.training.batches import Batches, Mixture
from benchbox.training.config import open_splits


class TestBatches:
    def make(self, config: TrainConfig, recipe: Recipe, seed: int = 0) -> Batches:
        registry = load_registry(config.plugin_files)
        fitted, _ = open_splits(config, registry, least=8)
        return Batches(fitted, Mixture(recipe.noise, registry), recipe, seed)

    def test_an_epoch_is_the_same_whenever_it_is_asked_for(self, config: TrainConfig) -> None:
        recipe = Recipe(noise=("gaussian:0..0.3", "salt-pepper:0.1"), epochs=1, batch_size=8)
        first, second = (list(self.make(config, recipe).epoch(2)) for _ in range(2))
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one.noisy, other.noisy)
            np.testing.assert_array_equal(one.clean, other.clean)
        third = next(iter(self.make(config, recipe).epoch(3)))
        assert not np.array_equal(first[0].clean, third.clean)

    def test_noise_is_drawn_once_where_the_recipe_says_so(self, config: TrainConfig) -> None:
        recipe = Recipe(noise=("gaussian:0.2",), epochs=1, batch_size=8, flips=False, fresh_noise=False, clip=True)
        batches = self.make(config, recipe)
        indices = np.arange(8)
        first, later = batches.make(indices, 0), batches.make(indices, 5)
        np.testing.assert_array_equal(first.noisy, later.noisy)
        assert first.noisy.min() >= 0 and first.noisy.max() <= 1
        fresh = self.make(config, replace(recipe, fresh_noise=True))
        assert not np.array_equal(fresh.make(indices, 0).noisy, fresh.make(indices, 5).noisy)

    def test_mirroring_keeps_clean_and_noisy_together(self, config: TrainConfig) -> None:
        batches = self.make(config, Recipe(noise=("gaussian:0.01",), epochs=1, batch_size=8))
        plain = self.make(config, Recipe(noise=("gaussian:0.01",), epochs=1, batch_size=8, flips=False))
        indices = np.arange(16)
        mirrored, straight = batches.make(indices, 0), plain.make(indices, 0)
        same = [np.array_equal(one, other) for one, other in zip(mirrored.clean, straight.clean, strict=True)]
        turned = [
            np.array_equal(one, other[:, ::-1]) for one, other in zip(mirrored.clean, straight.clean, strict=True)
        ]
        assert all(one != other for one, other in zip(same, turned, strict=True))
        assert any(same) and any(turned)
        assert float(np.abs(mirrored.noisy - mirrored.clean).max()) < 0.06

    def test_sigma_is_that_of_each_image(self, config: TrainConfig) -> None:
        recipe = Recipe(noise=("gaussian:0.1..0.3", "salt-pepper:0.1"), epochs=1, batch_size=8)
        batch = self.make(config, recipe).make(np.arange(40), 0)
        measured = (batch.noisy - batch.clean).std(axis=(1, 2))
        told = np.isfinite(batch.sigma)
        assert 5 < told.sum() < 40
        np.testing.assert_allclose(measured[told], batch.sigma[told], rtol=0.15)

    def test_an_error_in_the_thread_reaches_the_loop(
        self, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batches = self.make(config, Recipe(noise=("gaussian:0.1",), epochs=1, batch_size=8))

        def broken(*arguments: object) -> None:
            raise BenchboxError("a row is damaged")

        monkeypatch.setattr(batches, "make", broken)
        with pytest.raises(BenchboxError, match="damaged"):
            next(batches.epoch(0))


class TestMixture:
    def test_levels_fill_the_range_evenly(self) -> None:
        mixture = Mixture(("gaussian:0..0.3",), load_registry())
        rng = np.random.default_rng(0)
        clean = np.zeros((1, 1), np.float32)
        levels = np.array([mixture.draw(rng).sigma_of(clean) for _ in range(4000)], dtype=float)
        assert levels.min() < 0.003 and 0.297 < levels.max() <= 0.3
        assert levels.mean() == pytest.approx(0.15, abs=0.005)

    def test_each_noise_is_drawn_as_often_as_the_others(self) -> None:
        mixture = Mixture(("gaussian:0.1", "jpeg:5..60", "poisson:30+gaussian:0.02"), load_registry())
        rng = np.random.default_rng(0)
        names = [mixture.draw(rng).name for _ in range(3000)]
        assert {name: names.count(name) / 3000 for name in set(names)} == pytest.approx(
            {"gaussian": 1 / 3, "jpeg": 1 / 3, "composed": 1 / 3}, abs=0.03
        )

    def test_levels_for_a_card(self) -> None:
        mixture = Mixture(("gaussian:0..0.3", "gaussian:0..0.04", "jpeg:10..40", "quantize:3"), load_registry())
        assert list(mixture.levels()) == [
            "gaussian:0.01",
            "gaussian:0.02",
            "gaussian:0.04",
            "gaussian:0.05",
            "gaussian:0.1",
            "gaussian:0.2",
            "gaussian:0.3",
            "jpeg:10",
            "jpeg:20",
            "jpeg:40",
            "quantize:3",
        ]

    def test_many_noises_are_shown_at_their_defaults(self) -> None:
        texts = ("gaussian:0..0.3", "poisson:5..100", "salt-pepper:0..0.2", "poisson-gaussian:5..90,sigma=0..0.1")
        mixture = Mixture(texts, load_registry())
        assert list(mixture.levels()) == ["gaussian:0.1", "poisson-gaussian:30", "poisson:30", "salt-pepper:0.05"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("gaussian:0.3..0", "empty"),
            ("gaussian:a..b", "not a range of numbers"),
            ("gaussian:0..2", "outside"),
            ("gausian:0..1", "no noise model"),
            ("gaussian:sigm=0..1", "no option 'sigm'"),
        ],
    )
    def test_a_range_that_makes_no_sense_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(BenchboxError, match=message):
            Mixture((text,), load_registry())
