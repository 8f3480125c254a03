"""The training loop: epochs, validation, early stopping, resuming."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchbox.api.arrays import Images, Sigma
from benchbox.api.dataset import ImageSet
from benchbox.api.denoiser import TrainingCard
from benchbox.api.errors import BenchboxError
from benchbox.api.trainable import Recipe, TrainableDenoiser, Trainer
from benchbox.engine.environment import environment
from benchbox.registry import load_registry
from benchbox.training.batches import Batches, Denoise, Mixture, Validation
from benchbox.training.checkpoint import PICTURES, Folder, Progress, faces
from benchbox.training.config import (
    BatchDone,
    EpochDone,
    Event,
    TrainConfig,
    TrainingStarted,
    find_recipe,
    find_trainable,
    open_splits,
)

WARM_UP = 300
"""Warm-up steps of a cosine schedule; at most a tenth of all steps."""
LAST = 1e-3
"""Learning rate at the end of a cosine schedule, relative to the highest."""

_CLOSING = 0.1  # largest share of a time limit that is kept for the PSNR at single noise levels

TRAINED_ON = "noise as trained on"
"""Key of the PSNR over the whole mixture in a training card."""


@dataclass(frozen=True)
class TrainResult:
    """The weights file, its card, the history, why the training ended, and the validation PSNR without denoising."""

    weights: Path
    card: TrainingCard
    history: list[EpochDone]
    stopped: str
    unchanged_psnr: float


def train(config: TrainConfig, progress: Callable[[Event], None]) -> TrainResult:
    """Train a denoiser, calling `progress` with every event.

    Errors are an untrainable denoiser, too few images, noise without the level that the denoiser requires, a loss that
    is not finite, a full disk, and an output folder that is in use or belongs to a different training.
    """
    begun = time.perf_counter()
    registry = load_registry(config.plugin_files, config.plugin_folders)
    denoiser = find_trainable(config, registry)
    recipe = find_recipe(config, denoiser)
    mixture = Mixture(recipe.noise, registry)
    if denoiser.capabilities.sigma == "required":
        mixture.require_sigma(config.denoiser)
    training, validating = open_splits(config, registry, least=recipe.batch_size)
    folder = Folder(config.out)
    with folder.locked():
        state = Progress(config.identity(), training.fingerprint, 0, 0, 0.0, "", [])
        if config.resume:
            arrays, saved = folder.load_state()
            saved.require_same(state, folder.path)
            state = saved
        else:
            folder.require_empty()
        trainer = denoiser.trainer(config.recipe, seed=config.seed, start=config.start)
        if config.resume:
            trainer.restore(arrays)
        state.seconds += time.perf_counter() - begun
        run = _Run(config, denoiser, recipe, mixture, folder, trainer, training, validating, progress, state)
        return run.all_epochs()


class _Run:
    """One training, from its first or resumed epoch to its last."""

    def __init__(
        self,
        config: TrainConfig,
        denoiser: TrainableDenoiser,
        recipe: Recipe,
        mixture: Mixture,
        folder: Folder,
        trainer: Trainer,
        training: ImageSet,
        validating: ImageSet,
        progress: Callable[[Event], None],
        state: Progress,
    ) -> None:
        self._config, self._denoiser, self._recipe = config, denoiser, recipe
        self._mixture, self._folder = mixture, folder
        self._trainer, self._training, self._progress, self._state = trainer, training, progress, state
        self._validating, self._validated_on = len(validating), validating.split
        self._batches = Batches(training, mixture, recipe, config.seed)
        self._validation = Validation(validating, mixture, recipe, config.seed)
        self._between_s = 0.0  # what an epoch takes besides its steps: expected, then that of the last one
        self._closing_s = 0.0  # what the PSNR at single noise levels is expected to take

    def all_epochs(self) -> TrainResult:
        """Train until the last epoch, the time limit, or the end of the patience."""
        state, recipe = self._state, self._recipe
        size, notes = len(self._training), self._training.notes
        self._progress(TrainingStarted(size, self._validating, recipe.epochs, state.epoch + 1, notes))
        if self._config.budget_s is not None:
            self._rehearse(self._config.budget_s)
        stopped = self._reason()
        while not stopped:
            self._one_epoch()
            stopped = self._reason()
        if state.best is None:
            raise BenchboxError("no epoch was trained", hint="increase --epochs or --budget")
        weights = self._folder.path / state.weights
        return TrainResult(weights, self._last_card(weights), state.history, stopped, self._unchanged[1])

    @cached_property
    def _unchanged(self) -> tuple[float, float, float]:
        """Validation without denoising."""
        return self._validation.score(_identity, self._trainer.importance)

    def _rehearse(self, budget_s: float) -> None:
        """Find out how much of the budget goes to validation, saving and the scores of the card.

        Each of them takes longest the first time, when it imports and compiles; that is over before the first epoch.
        """
        begun = time.perf_counter()
        row = EpochDone(
            epoch=0, images=0, learning_rate=1, loss=1, accuracy=0, val_loss=1, val_psnr=0, val_accuracy=0,
            images_per_s=0, seconds=0, best=True,
        )  # fmt: skip
        state = replace(self._state, history=[row])
        with TemporaryDirectory() as temporary:
            folder = Folder(Path(temporary))
            self._write(folder, state, row)
            again = time.perf_counter()
            self._write(folder, state, row)
            written = time.perf_counter()
            # The weights of the card are loaded anew, so this start is not over.
            _, levels_s = self._loaded(folder.path / state.weights)
            loaded_s = time.perf_counter() - written
        self._closing_s = loaded_s + min(_CLOSING * budget_s, levels_s * len(self._mixture.levels()))
        self._between_s = written - again + self._validation.expected_s(self._trainer.denoise)
        self._state.seconds += time.perf_counter() - begun

    def _loaded(self, weights: Path) -> tuple[Denoise, float]:
        """A denoiser that is ready, with weights from their file, and the seconds that it needs for all images."""
        denoise = type(self._denoiser)(weights=str(weights)).denoise  # type: ignore[call-arg]
        return denoise, self._validation.expected_s(denoise)

    def _last_card(self, weights: Path) -> TrainingCard:
        """Add the PSNR of the best weights at single noise levels, loaded from the file as a run does."""
        begun = time.perf_counter()
        path = weights.with_suffix(".json")
        card = TrainingCard.load(path)
        denoise, _ = self._loaded(weights)
        spent_s = self._state.seconds + time.perf_counter() - begun
        left_s = math.inf if self._config.budget_s is None else self._config.budget_s - spent_s
        levels, count = self._validation.levels(self._mixture.levels(), denoise, left_s)
        less = f" PSNR at single noise levels on {count} of them, because of the time limit."
        notes = card.notes + less if count < self._validating else card.notes
        card = replace(card, validation=card.validation | levels, notes=notes)
        self._folder.write(path.name, (json.dumps(asdict(card), indent=2) + "\n").encode())
        return card

    def _one_epoch(self) -> None:
        state, recipe = self._state, self._recipe
        begun = time.perf_counter()
        before = state.seconds
        losses: list[float] = []
        accuracies: list[float] = []
        rate = 0.0
        for batch in self._batches.epoch(state.epoch):
            rate = self._rate(len(losses))
            loss, accuracy = self._trainer.step(batch.noisy, batch.clean, batch.sigma, rate)
            self._require_finite(loss, f"epoch {state.epoch + 1}, step {len(losses) + 1}: the loss")
            losses.append(loss)
            accuracies.append(accuracy)
            took = time.perf_counter() - begun
            state.seconds = before + took
            speed = len(losses) * recipe.batch_size / took
            left = self._left(len(losses), took)
            self._progress(BatchDone(state.epoch + 1, recipe.batch_size, float(np.mean(losses)), speed, left))
            if self._time_is_over():
                break
        steps_s = time.perf_counter() - begun
        state.epoch += 1
        state.images += len(losses) * recipe.batch_size
        val_loss, val_psnr, val_accuracy = self._validation.score(self._trainer.denoise, self._trainer.importance)
        self._require_finite(val_loss, f"epoch {state.epoch}: the validation loss")
        state.seconds = before + time.perf_counter() - begun
        row = EpochDone(
            epoch=state.epoch,
            images=state.images,
            learning_rate=rate,
            loss=float(np.mean(losses)),
            accuracy=float(np.mean(accuracies)),
            val_loss=val_loss,
            val_psnr=val_psnr,
            val_accuracy=val_accuracy,
            images_per_s=len(losses) * recipe.batch_size / steps_s,
            seconds=state.seconds,
            best=state.best is None or val_loss < state.best.val_loss,
        )
        state.history.append(row)
        self._write(self._folder, state, row)
        state.seconds = before + time.perf_counter() - begun
        self._between_s = state.seconds - before - steps_s
        self._progress(row)

    def _require_finite(self, loss: float, what: str) -> None:
        if not math.isfinite(loss):
            kept = f"; the best weights so far are in {self._folder.path}" if self._state.weights else ""
            raise BenchboxError(f"{what} is {loss}{kept}", hint="use a lower --learning-rate")

    def _write(self, folder: Folder, state: Progress, row: EpochDone) -> None:
        """Write the files of an epoch; the state last, so that its weights and pictures always exist."""
        if row.best:
            state.weights = folder.save_weights(self._trainer, self._card(row))
        folder.save_history(state.history)
        shown = self._validation.shown
        denoised = self._trainer.denoise(shown.noisy.copy(), shown.sigma)
        picture = faces(shown.clean, shown.noisy, denoised)
        folder.write(f"{PICTURES}/epoch_{row.epoch:03d}.png", picture)
        folder.save_state(self._trainer.state(), state)

    def _card(self, row: EpochDone) -> TrainingCard:
        machine, unchanged = environment(), self._unchanged
        recipe = self._recipe
        notes = (
            f"Recipe '{self._config.recipe}': {self._loss()}, batch {recipe.batch_size}, learning rate "
            f"{recipe.learning_rate:g} ({recipe.schedule}), {'' if recipe.flips else 'no '}mirroring, noise "
            f"{'drawn anew each epoch' if recipe.fresh_noise else 'drawn once'}{', clipped' if recipe.clip else ''}. "
            f"Validation on {self._validating} {self._validated_on or 'held-out'} images: loss {row.val_loss:.6f}, "
            f"PSNR {row.val_psnr:.2f} dB, compared to {unchanged[0]:.6f} and {unchanged[1]:.2f} dB without denoising. "
            f"{self._trainer.describe()}"
        )
        if self._config.start:
            notes += f" Started from the weights '{self._config.start}'."
        return TrainingCard(
            dataset=self._training.dataset,
            split=self._training.split,
            fingerprint=self._training.fingerprint,
            images=len(self._training),
            noise=" | ".join(self._mixture.texts),
            seed=self._config.seed,
            epochs=round(row.images / len(self._training), 2),
            command=self._config.command,
            versions={"python": machine.python} | machine.versions,
            hardware=f"{machine.cpu}, {machine.cores} cores",
            validation={TRAINED_ON: round(row.val_psnr, 3)},
            notes=notes,
            source=self._training.source,
            validated_on=self._validated_on,
        )

    def _loss(self) -> str:
        """Name of the loss for the card."""
        weights = self._trainer.importance(np.array([0.01, 0.1], np.float32))
        return "mean squared error" if len(set(weights)) == 1 else "mean squared error weighted by noise level"

    def _rate(self, step: int) -> float:
        """Learning rate of the next step."""
        highest = self._recipe.learning_rate
        if self._recipe.schedule == "constant":
            return highest
        done = self._state.epoch * self._batches.steps + step
        total = self._recipe.epochs * self._batches.steps
        share = min(1.0, max(done / total, self._time_share()))
        cosine = LAST + (1 - LAST) * (1 + math.cos(math.pi * share)) / 2
        return highest * cosine * min(1.0, (done + 1) / min(WARM_UP, math.ceil(total / 10)))

    def _time_share(self) -> float:
        if self._config.budget_s is None:
            return 0.0
        return self._state.seconds / max(1e-9, self._config.budget_s - self._between_s - self._closing_s)

    def _time_is_over(self) -> bool:
        return self._time_share() >= 1

    def _left(self, steps: int, took: float) -> float:
        """Seconds until the end, estimated from the speed of this epoch."""
        epochs = self._recipe.epochs - self._state.epoch
        left = (self._batches.steps * epochs - steps) * took / steps + epochs * self._between_s
        return (
            left if self._config.budget_s is None else max(0.0, min(left, self._config.budget_s - self._state.seconds))
        )

    def _reason(self) -> str:
        """Why training ends; empty to continue."""
        state, best = self._state, self._state.best
        if best is not None and state.epoch - best.epoch >= self._recipe.patience:
            return f"no improvement for {self._recipe.patience} epochs"
        if state.epoch >= self._recipe.epochs:
            return "last epoch"
        # However short the budget is, there are weights in the end.
        return "time limit" if state.epoch and self._time_is_over() else ""


def _identity(noisy: Images, sigma: Sigma | None) -> Images:
    """Return the noisy images, for comparison."""
    return noisy
