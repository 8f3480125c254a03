"""What a training run is asked to do, with which recipe and images, and the events that it reports."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchbox.api.dataset import ImageSet, fingerprint_of
from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.api.metric import AgreementMetric
from benchbox.api.trainable import Recipe, TrainableClassifier, TrainableDenoiser
from benchbox.engine.data import choose_dataset, limit_images
from benchbox.registry import Registry


@dataclass(frozen=True)
class TrainConfig:
    """The options of `benchbox train`; None (or no noise) leaves the choice to the recipe.

    `budget_s` includes the start, validation and the scores of the card. With it, the cosine schedule follows the clock
    when that is ahead of the epochs, so the learning rate reaches its end with the time limit on any machine. `start`
    takes the values of the denoiser's ``weights`` option. `validation` is the largest number of validation images, and
    `command` the command line, for the card.
    """

    denoiser: str
    data: str = ""
    out: Path = Path("training")
    dataset: str = ""
    white: int | None = None
    limit: int | None = None
    recipe: str = "default"
    noise: tuple[str, ...] = ()
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    patience: int | None = None
    budget_s: float | None = None
    seed: int = 0
    start: str = ""
    resume: bool = False
    validation: int = 500
    plugin_files: tuple[Path, ...] = ()
    plugin_folders: tuple[Path, ...] = ()
    command: str = ""

    def identity(self) -> dict[str, Any]:
        """The options that must not change when a training is resumed."""
        return {
            "denoiser": self.denoiser,
            "recipe": self.recipe,
            "noise": list(self.noise),
            "limit": self.limit,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "start": self.start,
            "validation": self.validation,
        }


def find_trainable(config: TrainConfig, registry: Registry) -> TrainableDenoiser:
    """Construct the denoiser to train."""
    classifiers = trainable_classifiers(registry)
    if config.denoiser not in registry.denoisers and difflib.get_close_matches(config.denoiser, classifiers):
        raise BenchboxError(
            f"there is no classifier '{config.denoiser}'", hint=did_you_mean(config.denoiser, classifiers)
        )
    entry = registry.denoiser(config.denoiser)
    if not issubclass(entry.cls, TrainableDenoiser):
        trainable = [name for name, known in registry.denoisers.items() if issubclass(known.cls, TrainableDenoiser)]
        names = ", ".join(sorted((*trainable, *classifiers)))
        raise BenchboxError(f"{config.denoiser} is not trainable", hint=f"choose one of: {names}")
    return entry.cls()


def trainable_classifiers(registry: Registry) -> dict[str, type[TrainableClassifier]]:
    """Classifiers that metrics ask and that can be trained, by name."""
    asked = (entry.cls for entry in registry.metrics.values() if issubclass(entry.cls, AgreementMetric))
    return {metric.trains.name: metric.trains for metric in asked if metric.trains is not None}


def find_recipe(config: TrainConfig, denoiser: TrainableDenoiser | TrainableClassifier) -> Recipe:
    """The recipe with the user's changes, its values checked."""
    if config.recipe not in denoiser.recipes:
        raise BenchboxError(
            f"{config.denoiser} has no recipe '{config.recipe}'", hint=did_you_mean(config.recipe, denoiser.recipes)
        )
    changes: dict[str, Any] = {
        "noise": config.noise or None,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "patience": config.patience,
    }
    recipe = replace(
        denoiser.recipes[config.recipe], **{key: value for key, value in changes.items() if value is not None}
    )
    for name in ("epochs", "batch_size", "learning_rate", "patience"):
        if not getattr(recipe, name) > 0:
            raise BenchboxError(
                f"--{name.replace('_', '-')} {getattr(recipe, name)} is not positive", hint="give a number above 0"
            )
    if config.budget_s is not None and not config.budget_s > 0:
        raise BenchboxError(f"--budget {config.budget_s:g} is not positive", hint="omit it to train all epochs")
    return recipe


HELD_OUT = 10
"""In data without splits, one image in ten, drawn with the seed, is used for validation."""


def open_splits(config: TrainConfig, registry: Registry, least: int) -> tuple[ImageSet, ImageSet]:
    """Open the training images, at least `least` of them (one batch), and the validation images.

    FER2013 has a split for each; PrivateTest is never opened. Data without splits are divided at random, with the seed,
    and so is the training split if there is none for validation, as in a folder whose test splits are merged.
    """
    datasets = {name: entry.cls() for name, entry in registry.datasets.items()}
    path = Path(config.data) if config.data else None
    dataset = choose_dataset(path, config.dataset or None, datasets).colored("grey")  # trainers take grey images
    if config.white is not None:
        dataset = dataset.scaled(config.white)
    if dataset.fitted and dataset.validated:
        fitted = dataset.load(path, split=dataset.fitted)
        try:
            validated = dataset.load(path, split=dataset.validated)
        except BenchboxError:
            note = (
                f"there is no {dataset.validated} for validation: one in {HELD_OUT} {dataset.fitted} images is held "
                f"out, drawn with seed {config.seed}"
            )
            fitted, validated = _divide(fitted, config.seed)
            fitted, validated = replace(fitted, notes=(*fitted.notes, note)), replace(validated, split="")
    else:
        fitted, validated = _divide(dataset.load(path), config.seed)
    if config.limit is not None:
        fitted = limit_images(fitted, config.limit, config.seed)
    if len(fitted) < least or not len(validated):
        raise BenchboxError(
            f"{config.data or 'the built-in sample'}: {len(fitted)} training images and {len(validated)} validation "
            f"images are too few for batches of {least}",
            hint="use more images, or a smaller --batch-size",
        )
    return fitted, limit_images(validated, min(config.validation, len(validated)), config.seed)


def _divide(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    count = len(images)
    if count < 2:
        return images, replace(images, ids=())
    validated = limit_images(images, max(1, count // HELD_OUT), seed)
    held = set(validated.ids)
    rest = np.array([index for index, name in enumerate(images.ids) if name not in held])
    fitted = images.subset(rest, fingerprint_of([images.ids[index] for index in rest], [images.fingerprint]))
    return fitted, validated


@dataclass(frozen=True)
class TrainingStarted:
    """The images are open and the network is built; `epochs` is the maximum, `first_epoch` counts from 1."""

    images: int
    validation: int
    epochs: int
    first_epoch: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchDone:
    """One step is done: its number of images, and mean loss and speed since the start of the epoch.

    `seconds_left` is the time until the last epoch or the time limit, whichever comes first.
    """

    epoch: int
    images: int
    loss: float
    images_per_s: float
    seconds_left: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch was trained and validated; its fields are the columns of the history.

    `images` and `seconds` (start-up and validation included) count from the start of the training. `loss` is the mean
    squared error weighted by `Trainer.importance`; `accuracy` is the share of pixels restored to within
    `Trainer.tolerance`, on training images, and the metric of that name on validation images. `learning_rate`
    is that of the last step, `val_psnr` is in dB, and `best` marks an epoch with the lowest `val_loss` so far.
    """

    epoch: int
    images: int
    learning_rate: float
    loss: float
    accuracy: float
    val_loss: float
    val_psnr: float
    val_accuracy: float
    images_per_s: float
    seconds: float
    best: bool


@dataclass(frozen=True)
class ClassifierEpoch:
    """An epoch of a classifier; its fields are the columns of the history.

    `loss` is its mean over the training images, `accuracy` the share of validation images whose class is right,
    `seconds` counts from the start of the training, and `best` marks the highest accuracy so far.
    """

    epoch: int
    loss: float
    accuracy: float
    seconds: float
    best: bool


Event: TypeAlias = TrainingStarted | BatchDone | EpochDone | ClassifierEpoch
