"""Training: it learns, keeps the best weights and says what is wrong; with a denoiser of one number."""

from __future__ import annotations

import csv
import errno
import importlib.util
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchbox import BenchboxError, Images, Sigma, TrainableDenoiser, Trainer
from benchbox.api.denoiser import TrainingCard
from benchbox.api.noise import NoiseModel
from benchbox.builtin.datasets.fer2013 import Fer2013
from benchbox.builtin.metrics import Accuracy
from benchbox.registry import load_registry
from benchbox.training import (
    BatchDone,
    EpochDone,
    Event,
    TrainConfig,
    TrainingStarted,
    TrainResult,
    batches,
    loop,
    train,
)
from benchbox.training.batches import Denoise, Importance, Mixture, Validation
from benchbox.training.checkpoint import Folder
from benchbox.training.config import find_recipe, find_trainable, open_splits


def quiet(event: Event) -> None:
    pass


def factor(result: TrainResult) -> float:
    return float(np.load(result.weights))


# Mean of sigma squared over gaussian:0.1..0.3.
DOING_NOTHING = (0.1**2 + 0.1 * 0.3 + 0.3**2) / 3


@pytest.mark.slow
def test_training_learns_and_leaves_everything_behind(config: TrainConfig) -> None:
    events: list[Event] = []
    result = train(config, events.append)
    assert result.stopped == "last epoch"
    rows = result.history
    assert [row.epoch for row in rows] == [1, 2, 3]
    assert min(row.val_loss for row in rows) < 0.8 * DOING_NOTHING
    # Shrinking is worth it: the factor of least squares for these noises lies well below 1.
    assert 0.2 < factor(result) < 0.95

    with (config.out / "history.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in table] == pytest.approx([row.loss for row in rows])
    assert [float(row["accuracy"]) for row in table] == pytest.approx([row.accuracy for row in rows])
    assert 0 < rows[0].accuracy < rows[-1].accuracy < 1
    for name in ("curves.png", "epochs/epoch_001.png", "epochs/epoch_003.png"):
        assert (config.out / name).read_bytes().startswith(b"\x89PNG")

    started = [event for event in events if isinstance(event, TrainingStarted)]
    assert len(started) == 1
    batches = [event for event in events if isinstance(event, BatchDone)]
    assert len(batches) == 3 * (started[0].images // 8)
    assert all(event.images_per_s > 0 and event.seconds_left >= 0 for event in batches)
    assert [event for event in events if isinstance(event, EpochDone)] == rows


@pytest.mark.slow
def test_the_card_is_true(config: TrainConfig) -> None:
    result = train(config, quiet)
    card = TrainingCard.load(result.weights.with_suffix(".json"))
    assert card == result.card
    registry = load_registry(config.plugin_files)
    fitted, validated = open_splits(config, registry, least=8)
    assert (card.fingerprint, card.images) == (fitted.fingerprint, len(fitted))
    assert (card.seed, card.noise, card.command) == (3, "gaussian:0.1..0.3", "benchbox train shrink")
    whole = registry.dataset("sample").cls().load(None)
    assert (card.source, card.validated_on) == (whole.fingerprint, "")
    best = next(row for row in reversed(result.history) if row.best)
    assert card.epochs == pytest.approx(best.images / len(fitted), abs=0.01)
    assert set(card.validation) == {"noise as trained on", "gaussian:0.1", "gaussian:0.2", "gaussian:0.3"}
    assert card.validation["noise as trained on"] == pytest.approx(best.val_psnr, abs=6e-4)
    # The figures can be recomputed from the weights.
    from benchbox.builtin.metrics import Psnr
    from benchbox.builtin.noise import Gaussian, add_noise

    clean = validated.stack(np.arange(len(validated)))
    noisy, _ = add_noise(Gaussian(0.2), "gaussian:0.2", clean, validated.ids, 0, 0)
    mean = noisy.mean(axis=(1, 2), keepdims=True)
    denoised = (mean + np.float32(factor(result)) * (noisy - mean)).clip(0, 1).astype(np.float32)
    assert card.validation["gaussian:0.2"] == pytest.approx(float(Psnr()(clean, denoised).mean()), abs=6e-4)


def test_the_card_names_the_split_that_chose_the_weights(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    usages = 16 * ["Training"] + 4 * ["PublicTest"]
    faces = [f"0,{' '.join(map(str, rng.integers(0, 256, 48 * 48).tolist()))},{usage}" for usage in usages]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *faces, ""]), encoding="ascii")
    card = train(replace(config, data=str(tmp_path / "fer2013.csv"), epochs=1), quiet).card
    assert (card.split, card.validated_on, card.source) == ("Training", "PublicTest", "")


def test_fitted_and_validated_images_differ(config: TrainConfig) -> None:
    fitted, validated = open_splits(config, load_registry(config.plugin_files), least=8)
    assert not set(fitted.ids) & set(validated.ids)


def test_a_part_of_training_validates_where_no_split_does(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in folders ``train`` and ``test``, in which PublicTest and PrivateTest are merged."""
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 12)):
        for number in range(count):
            folder = tmp_path / "faces" / split / ("happy", "sad")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (48, 48), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"im{number}.png")
    config = replace(config, data=str(tmp_path / "faces"), epochs=1)
    fitted, validated = open_splits(config, load_registry(config.plugin_files), least=8)
    assert (len(fitted), len(validated)) == (36, 4)
    assert not set(fitted.ids) & set(validated.ids)
    assert {name.partition("/")[0] for name in (*fitted.ids, *validated.ids)} == {"train"}
    assert open_splits(replace(config, seed=4), load_registry(config.plugin_files), least=8)[1].ids != validated.ids
    events: list[Event] = []
    card = train(config, events.append).card
    (started,) = (event for event in events if isinstance(event, TrainingStarted))
    assert started.notes == (
        "there is no PublicTest for validation: one in 10 Training images is held out, drawn with seed 3",
    )
    assert (card.split, card.validated_on, card.images) == ("Training", "", 36)
    assert card.source == Fer2013().load(Path(config.data), split="Training").fingerprint
    assert "Validation on 4 held-out images" in card.notes


def test_colour_pictures_are_trained_on_in_grey(config: TrainConfig, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(20):
        pixels = generator.integers(0, 256, (40, 60 + number % 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    config = replace(config, data=str(tmp_path / "photos"), epochs=1)
    events: list[Event] = []
    assert train(config, events.append).card.images == 18
    (started,) = (event for event in events if isinstance(event, TrainingStarted))
    assert "colour: 20 of 20 images, converted to luminance (ITU-R BT.601)" in started.notes


@pytest.mark.slow
def test_a_denoiser_that_is_told_the_level_is_not_trained_on_noise_without_one(config: TrainConfig) -> None:
    mixed = replace(config, noise=("gaussian:0..0.3", "poisson:30+salt-pepper:0..0.1"), epochs=1)
    assert len(train(mixed, quiet).history) == 1  # it is blind
    told = replace(mixed, denoiser="ffdnet", out=config.out / "told")
    with pytest.raises(BenchboxError, match=r"ffdnet requires the noise level, but 'poisson:30.*' has none"):
        train(told, quiet)
    assert not told.out.exists()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_keeps_the_best_weights(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    train(replace(config, epochs=1), quiet)
    monkeypatch.setattr("benchbox.training.loop._Run._rate", lambda *_: 1e200)
    with pytest.raises(BenchboxError, match=r"loss is (nan|inf)") as caught, np.errstate(all="ignore"):
        train(replace(config, resume=True), quiet)
    assert "the best weights so far are in" in caught.value.message and "--learning-rate" in caught.value.hint
    assert (config.out / "weights.npy").is_file()


def test_no_weights_are_promised_where_the_first_epoch_fails(config: TrainConfig) -> None:
    with (
        pytest.raises(BenchboxError, match=r"epoch 1, step 2: the loss is (nan|inf)") as caught,
        np.errstate(all="ignore"),
    ):
        train(replace(config, recipe="exploding"), quiet)
    assert caught.value.hint == "use a lower --learning-rate"


@pytest.mark.slow
def test_a_full_disk_keeps_the_best_weights(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    train(config, quiet)
    before = (config.out / "weights.npy").read_bytes()

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BenchboxError, match="No space left") as caught:
        train(replace(config, resume=True, epochs=4), quiet)
    assert "--resume" in caught.value.hint
    monkeypatch.undo()
    assert len((config.out / "weights.npy").read_bytes()) == len(before)
    assert not list(config.out.glob("*.part"))
    assert train(replace(config, resume=True, epochs=4), quiet).history[-1].epoch == 4


@pytest.mark.slow
def test_it_stops_when_nothing_gets_better(config: TrainConfig) -> None:
    result = train(replace(config, learning_rate=1e-12, patience=2, epochs=50, recipe="once"), quiet)
    assert result.stopped == "no improvement for 2 epochs"
    assert [row.best for row in result.history] == [True, False, False]


@pytest.mark.slow
def test_it_stops_when_the_time_is_over(config: TrainConfig) -> None:
    events: list[Event] = []
    result = train(replace(config, budget_s=6e-5, epochs=50), events.append)
    assert result.stopped == "time limit"
    assert [event.seconds_left for event in events if isinstance(event, BatchDone)] == [0]
    assert len(result.history) == 1
    assert result.history[0].images == 8


@pytest.mark.slow
@pytest.mark.parametrize(("budget_s", "level_images"), [(90.0, 1.0), (30.0, 0.5)])
def test_the_time_limit_includes_start_and_end(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, budget_s: float, level_images: float
) -> None:
    """By a clock of the test: 6 s to start, 2 s to validate, 1 s a step, 2 s for each of three noise levels.

    The files of an epoch take 1 s, the first time 4 s, and loading the weights for the card 3 s, each time.
    """
    now = 0.0
    counted: list[int] = []
    written: list[Path] = []
    real_score, real_levels, real_loaded = Validation.score, Validation.levels, loop._Run._loaded

    def clock() -> float:
        nonlocal now
        now += 1e-6
        return now

    def load(*args: Any) -> Any:
        nonlocal now
        now += 6
        return load_registry(*args)

    def score(self: Validation, denoise: Denoise, importance: Importance) -> tuple[float, float, float]:
        nonlocal now
        now += 0 if denoise is loop._identity else 2
        return real_score(self, denoise, importance)

    def levels(
        self: Validation, noises: dict[str, NoiseModel], denoise: Denoise, left_s: float
    ) -> tuple[dict[str, float], int]:
        def slow(noisy: Images, sigma: Sigma | None) -> Images:
            nonlocal now
            now += 2 * len(noisy) / len(self._images)
            return denoise(noisy, sigma)

        psnr, count = real_levels(self, noises, slow, left_s)
        counted.append(count)
        return psnr, count

    def on_event(event: Event) -> None:
        nonlocal now
        now += isinstance(event, BatchDone)

    def write(self: Folder, history: list[EpochDone]) -> None:
        nonlocal now
        now += 1 if written else 4
        written.append(self.path)

    def load_weights(self: Any, weights: Path) -> tuple[Denoise, float]:
        nonlocal now
        now += 3
        return real_loaded(self, weights)

    for module in (loop, batches):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=clock))
    monkeypatch.setattr(loop, "load_registry", load)
    monkeypatch.setattr(batches, "_STACK", 2)
    monkeypatch.setattr(Validation, "expected_s", lambda self, denoise: 2.0)
    monkeypatch.setattr(Validation, "score", score)
    monkeypatch.setattr(Validation, "levels", levels)
    monkeypatch.setattr(Folder, "save_history", write)
    monkeypatch.setattr(loop._Run, "_loaded", load_weights)
    result = train(replace(config, budget_s=budget_s, epochs=500, patience=500), on_event)
    assert result.stopped == "time limit"
    assert 0.9 * budget_s < now <= 1.1 * budget_s
    validating = len(open_splits(config, load_registry(config.plugin_files), least=8)[1])
    assert level_images - 0.3 < counted[0] / validating <= level_images
    said = f"PSNR at single noise levels on {counted[0]} of them, because of the time limit."
    assert (said in result.card.notes) == (counted[0] < validating)


def test_too_few_images_are_refused(config: TrainConfig) -> None:
    with pytest.raises(BenchboxError, match="too few") as caught:
        train(replace(config, limit=5), quiet)
    assert "--batch-size" in caught.value.hint


def test_what_cannot_be_trained_says_what_can(config: TrainConfig) -> None:
    with pytest.raises(BenchboxError, match="median is not trainable") as caught:
        find_trainable(replace(config, denoiser="median"), load_registry(config.plugin_files))
    assert "shrink" in caught.value.hint and "unet" in caught.value.hint
    with pytest.raises(BenchboxError, match="no classifier 'emotions_judge'") as caught:
        find_trainable(replace(config, denoiser="emotions_judge"), load_registry(config.plugin_files))
    assert "emotion_judge" in caught.value.hint
    with pytest.raises(BenchboxError, match="no denoiser 'shrnk'") as caught:
        find_trainable(replace(config, denoiser="shrnk"), load_registry(config.plugin_files))
    assert "shrink" in caught.value.hint


def test_the_user_changes_a_recipe(config: TrainConfig) -> None:
    denoiser = find_trainable(config, load_registry(config.plugin_files))
    changed = find_recipe(replace(config, epochs=7, noise=("speckle:0.1",)), denoiser)
    assert (changed.epochs, changed.noise, changed.batch_size) == (7, ("speckle:0.1",), 8)
    with pytest.raises(BenchboxError, match="no recipe 'orignal'"):
        find_recipe(replace(config, recipe="orignal"), denoiser)
    with pytest.raises(BenchboxError, match="is not positive"):
        find_recipe(replace(config, learning_rate=-1.0), denoiser)


@pytest.mark.slow
def test_the_command_trains_resumes_and_explains(
    benchbox: Callable[..., subprocess.CompletedProcess[str]], config: TrainConfig
) -> None:
    plugin = ("--plugin", config.plugin_files[0])
    trained = benchbox("train", "shrink", *plugin, "--output", "mine", "--epochs", 2)
    found = re.search(r"validation PSNR ([0-9.]+) dB, ([0-9.]+) dB without denoising", trained.stdout)
    assert found
    said = "worse than doing nothing: train longer" in trained.stdout
    assert said == (float(found[1]) < float(found[2]))
    (tried,) = re.findall(r"^try: benchbox (.*)$", trained.stdout, flags=re.MULTILINE)
    assert "identity" in benchbox(*shlex.split(tried), "--no-timing", "--limit", "4").stdout
    assert "best epoch" in trained.stdout and "mine/weights.npy" in trained.stdout
    assert "epoch 2: loss" in trained.stderr
    again = benchbox("train", "shrink", *plugin, "--output", "mine", code=2)
    assert "hint: continue it with --resume" in again.stderr
    benchbox("train", "shrink", *plugin, "--output", "mine", "--epochs", 3, "--resume")
    score = ("shrink:weights=mine/weights.npy", *plugin, "--noise", "gaussian:0.2", "--no-timing", "--limit", 8)
    assert "shrink:weights=mine/weights.npy" in benchbox("run", *score).stdout


def test_fitting_and_scoring_call_the_same_pixels_accurate() -> None:
    assert pytest.approx(Accuracy().tolerance / 255) == Trainer.tolerance


@pytest.mark.slow
@pytest.mark.parametrize("denoiser", ["unet", "ffdnet"])
@pytest.mark.parametrize("size", [(48, 48), (43, 45)])
def test_a_step_tells_loss_and_accuracy_of_its_batch(denoiser: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    clean = load_registry().dataset("sample").cls().load(None).stack(np.arange(16))[:, : size[0], : size[1]]
    sigma = np.linspace(0.01, 0.1, 16, dtype=np.float32)
    noisy = clean + sigma[:, np.newaxis, np.newaxis] * rng.standard_normal(clean.shape, np.float32)
    cls = load_registry().denoiser(denoiser).cls
    assert issubclass(cls, TrainableDenoiser)
    trainer = cls().trainer("default", seed=0)
    loss, accuracy = trainer.step(noisy, clean, sigma, 1e-4)  # it starts by doing nothing
    weights = trainer.importance(sigma)
    assert (weights == 1).all() if denoiser == "unet" else weights[0] == pytest.approx(10 * weights[-1])
    assert loss == pytest.approx(float((np.square(noisy - clean).mean(axis=(1, 2)) * weights).mean()), rel=1e-3)
    assert accuracy == pytest.approx(float((abs(noisy - clean) <= 8 / 255).mean()), abs=5e-3)  # bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("denoiser", ["unet", "ffdnet"])
def test_a_network_resumes_where_it_was_and_learns(tmp_path: Path, denoiser: str) -> None:
    config = TrainConfig(denoiser, out=tmp_path / "whole", epochs=3, limit=160, batch_size=4, seed=1)
    whole = train(config, quiet)
    registry = load_registry()
    trained = find_trainable(config, registry)
    recipe = find_recipe(config, trained)
    validation = Validation(open_splits(config, registry, least=4)[1], Mixture(recipe.noise, registry), recipe, 1)
    importance = trained.trainer("default", seed=0).importance
    nothing, _, _ = validation.score(lambda noisy, _: noisy, importance)
    assert whole.history[-1].val_loss < 0.9 * nothing
    part = replace(config, out=tmp_path / "part")

    def killer(event: Event) -> None:
        if isinstance(event, BatchDone) and event.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(part, killer)
    resumed = train(replace(part, resume=True), quiet)
    assert [row.loss for row in resumed.history] == pytest.approx([row.loss for row in whole.history], rel=1e-3)
    for name in ("weights.npz", "weights.tflite", "weights.json"):
        assert (tmp_path / "part" / name).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("denoiser", ["unet", "ffdnet"])
def test_a_network_is_trained_and_run_on_another_keras_backend(
    benchbox: Callable[..., subprocess.CompletedProcess[str]], denoiser: str
) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed: pip install torch")
    torch = {"KERAS_BACKEND": "torch"}
    small = ("--limit", 8, "--batch-size", 4, "--epochs", 1, "--output", "mine")
    assert "best epoch 1" in benchbox("train", denoiser, *small, **torch).stdout
    scored = benchbox("run", f"{denoiser}:weights=mine/weights.npz", "--no-timing", "--limit", 4, **torch)
    assert f"{denoiser}:weights=mine/weights.npz" in scored.stdout
    assert "failed" not in scored.stdout
