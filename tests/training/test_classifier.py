"""Training a classifier: which images and labels it gets, what it leaves behind, and what is refused."""

from __future__ import annotations

import csv
import json
import subprocess
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchbox import BenchboxError
from benchbox.training import (
    BatchDone,
    ClassifierEpoch,
    ClassifierResult,
    Event,
    TrainConfig,
    TrainingStarted,
    find_classifier,
    train,
    train_classifier,
)
from benchbox.training.classifier import quality_of

Command = Callable[..., subprocess.CompletedProcess[str]]

PLUGIN = '''
"""Tells faces apart by their mean; the best epoch is the second."""
import numpy as np

from benchbox import AgreementMetric, FitProgress, Recipe, TrainableClassifier, hookimpl


class ByMean(TrainableClassifier):
    name, label, class_names, image_size = "by_mean", "emotion", ("dark", "light"), (48, 48)
    recipes = {
        "default": Recipe(noise=(), epochs=4, batch_size=4, patience=9),
        "noisy": Recipe(noise=("gaussian:0.5",), epochs=1, batch_size=4),
    }

    def fit(self, name, recipe, fitted, validated, noise, *, seed, budget_s):
        faces, labels = fitted.stack(np.arange(len(fitted))), fitted.labels["emotion"]
        self.spread = 0.0 if noise is None else float((noise(faces, np.random.default_rng(seed)) - faces).std())
        assert set(labels.tolist()) == {0, 1}
        for epoch in range(1, recipe.epochs + 1):
            yield FitProgress(epoch, 4, 1.0)
            accuracy = (0.0, 0.5, 1.0, 0.75, 0.75)[epoch]
            if accuracy in (0.5, 1.0):
                self.edge = accuracy
            yield FitProgress(epoch, 4, 1.0 / epoch, accuracy, accuracy in (0.5, 1.0))

    def save(self, folder):
        (folder / "weights.txt").write_text(str(self.edge))
        return folder / "weights.txt"

    def probabilities(self, weights, images):
        light = (images.mean(axis=(1, 2)) > float(weights.read_text()) / 2).astype(float)
        return np.stack((0.1 + 0.8 * (1 - light), 0.1 + 0.8 * light), axis=1)

    def describe(self):
        return f"noise {self.spread:.1f}"


class Kept(AgreementMetric):
    name, class_names, trains = "kept", ByMean.class_names, ByMean

    def seen(self, images):
        return (images.mean(axis=(1, 2)) > 0.5).astype(int)


@hookimpl
def benchbox_metrics():
    return [Kept]
'''


def quiet(event: Event) -> None:
    pass


@pytest.fixture(scope="module")
def by_mean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's file; its import is tried only once."""
    file = tmp_path_factory.mktemp("plugins") / "by_mean_plugin.py"
    file.write_text(textwrap.dedent(PLUGIN), encoding="utf-8")
    return file


@pytest.fixture
def config(tmp_path: Path, cache: Path, by_mean: Path) -> TrainConfig:
    """Faces of two emotions, and one of a third."""
    rng = np.random.default_rng(0)
    lines = ["emotion,pixels,Usage"]
    faces = [rng.integers(20, 90, 48 * 48) + 140 * (place % 2) for place in range(20)]
    for place, face in enumerate(faces):
        emotion = 5 if place == 3 else place % 2
        lines.append(f"{emotion},{' '.join(map(str, face.tolist()))},{'Training' if place < 14 else 'PublicTest'}")
    (tmp_path / "fer2013.csv").write_text("\n".join([*lines, ""]), encoding="ascii")
    return TrainConfig(
        "by_mean", data=str(tmp_path / "fer2013.csv"), out=tmp_path / "out", plugin_files=(by_mean,), command="typed"
    )


def trained(config: TrainConfig, progress: Callable[[Event], None] = quiet) -> ClassifierResult:
    classifier = find_classifier(config)
    assert classifier is not None
    return train_classifier(config, classifier, progress)


def test_the_best_epoch_is_kept_with_history_and_card(config: TrainConfig) -> None:
    events: list[Event] = []
    result = trained(config, events.append)
    assert result.stopped == "last epoch"
    assert result.weights.read_text(encoding="utf-8") == "1.0"
    (started,) = [event for event in events if isinstance(event, TrainingStarted)]
    assert (started.images, started.validation) == (13, 6)  # without the third emotion
    assert any("whose emotion is none of the classes" in note for note in started.notes)
    assert [event for event in events if isinstance(event, ClassifierEpoch)] == result.history
    assert all(event.seconds_left >= 0 for event in events if isinstance(event, BatchDone))
    with (config.out / "history.csv").open(encoding="utf-8") as file:
        assert [row["accuracy"] for row in csv.DictReader(file)] == ["0.5", "1.0", "0.75", "0.75"]
    card = json.loads(result.weights.with_suffix(".json").read_text(encoding="utf-8"))
    assert (card["split"], card["validated_on"], card["command"], card["epochs"]) == (
        "Training",
        "PublicTest",
        "typed",
        2,
    )
    assert (card["accuracy"], card["classes"], card["confusion"]) == (1.0, ["dark", "light"], [[3, 0], [0, 3]])
    assert card["notes"].startswith("Recipe 'default': noise 0.0")


def test_noise_is_that_of_the_recipe_or_of_the_option(config: TrainConfig) -> None:
    for changes, words in (
        ({"recipe": "noisy"}, "noise 0.5"),
        ({"noise": ("gaussian:0.2",)}, "noise 0.2"),
    ):
        result = trained(replace(config, out=config.out / words, **changes))
        card = json.loads(result.weights.with_suffix(".json").read_text(encoding="utf-8"))
        assert words in card["notes"]
        assert card["noise"].startswith("gaussian")


def test_patience_ends_it_early(config: TrainConfig) -> None:
    result = trained(replace(config, patience=1))
    assert (result.stopped, len(result.history)) == ("no improvement for 1 epochs", 3)


def test_a_folder_with_weights_is_never_overwritten(config: TrainConfig) -> None:
    trained(config)
    with pytest.raises(BenchboxError, match="training would overwrite"):
        trained(config)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"resume": True}, "--resume: a classifier is trained in one go"),
        ({"start": "weights.txt"}, "--start: a classifier is trained in one go"),
        ({"recipe": "secret"}, "by_mean has no recipe 'secret'"),
        ({"noise": ("gaussian:1..0",)}, "the range 1..0 is empty"),
        (
            {"batch_size": 14},
            "13 training images and 6 validation images with the label 'emotion' are too few for batches of 14",
        ),
        ({"data": ""}, "have no label 'emotion', which by_mean learns"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(
    config: TrainConfig, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(BenchboxError, match=reason.replace("(", r"\(")):
        trained(replace(config, **changes))  # type: ignore[arg-type]
    assert not list(config.out.glob("weights*"))


def test_the_command_trains_it_and_says_where_the_weights_are(benchbox: Command, config: TrainConfig) -> None:
    words = ["--data", config.data, "--plugin", config.plugin_files[0], "--output", config.out]
    done = benchbox("train", "by_mean", *words)
    assert "best epoch 2, 100.0 % of the validation images right" in done.stdout
    assert str(config.out / "weights.txt") in done.stdout
    assert "epoch 3: loss 0.3333; validation 75.0 % right" in done.stderr
    refused = benchbox("train", "identity", *words, code=2).stderr
    assert "by_mean" in refused
    assert "emotion_judge" in refused


def test_a_denoiser_is_no_classifier(config: TrainConfig) -> None:
    assert find_classifier(replace(config, denoiser="unet")) is None
    with pytest.raises(BenchboxError, match="by_mean"):
        train(config, quiet)


def test_quality_is_that_counted_by_hand() -> None:
    sure = np.array([[0.9, 0.1], [0.62, 0.38], [0.34, 0.66], [0.05, 0.95]])
    quality = quality_of(sure, np.array([0, 1, 1, 1]))
    assert quality["accuracy"] == 0.75
    assert quality["accuracy_by_class"] == [1.0, 0.6667]
    assert quality["confusion"] == [[1, 0], [1, 2]]
    # Bins: 0.62 and 0.66 (half right), 0.9 and 0.95 (all right).
    assert quality["expected_calibration_error"] == pytest.approx((2 * 0.14 + 2 * 0.075) / 4, abs=1e-4)
    assert quality_of(sure, np.ones(4, np.int64))["accuracy_by_class"] == [None, 0.5]
