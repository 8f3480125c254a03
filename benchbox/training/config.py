"""Configuration of a training run: recipe, and the images for fitting and validation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchbox.api.dataset import ImageSet, fingerprint_of
from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.api.trainable import Recipe, TrainableDenoiser
from benchbox.engine.data import choose_dataset, limit_images
from benchbox.registry import Registry


@dataclass(frozen=True)
class TrainConfig:
    """A training as a user asks for it; None leaves the choice to the recipe.

    Attributes
    ----------
    denoiser : str
        Name of a trainable denoiser.
    data : str
        File or folder; empty for the built-in sample.
    out : Path
        Folder for weights, card, history and state.
    dataset : str
        Kind of the data, where looking at it is not enough.
    limit : int or None
        Number of images to draw from the training split.
    recipe : str
        One of the denoiser's recipes.
    noise : tuple of str
        Specifications, numbers in them possibly ranges; empty for those of the recipe.
    epochs, batch_size, patience : int or None
    learning_rate : float or None
    budget_s : float or None
        Time the training may take. The learning rate then goes down with the clock where that is ahead of the epochs,
        so that it is at its end when the time is over, however fast the machine.
    seed : int
        Seeds weights, order, mirroring and noise.
    start : str
        Weights to go on from, in the words of the denoiser's ``weights`` option.
    resume : bool
        Go on from the last epoch that `out` holds.
    validation : int
        Number of validation images at most.
    plugin_files, plugin_folders : tuple of Path
    command : str
        What was typed, for the card.
    """

    denoiser: str
    data: str = ""
    out: Path = Path("training")
    dataset: str = ""
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
        """What must be the same for a training to be resumed."""
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
    """Make the denoiser that is to be trained.

    Raises
    ------
    BenchboxError
        It is unknown, or cannot be trained.
    """
    entry = registry.denoiser(config.denoiser)
    if not issubclass(entry.cls, TrainableDenoiser):
        known = [name for name, one in sorted(registry.denoisers.items()) if issubclass(one.cls, TrainableDenoiser)]
        raise BenchboxError(f"{config.denoiser} has nothing to train", hint=f"can be trained: {', '.join(known)}")
    return entry.cls()


def find_recipe(config: TrainConfig, denoiser: TrainableDenoiser) -> Recipe:
    """Take the recipe, changed where the user says so.

    Raises
    ------
    BenchboxError
        The recipe is unknown or a value makes no sense.
    """
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
    recipe = replace(denoiser.recipes[config.recipe], **{key: one for key, one in changes.items() if one is not None})
    for name in ("epochs", "batch_size", "learning_rate", "patience"):
        if not getattr(recipe, name) > 0:
            raise BenchboxError(
                f"--{name.replace('_', '-')} {getattr(recipe, name)} is not above 0", hint="leave it out"
            )
    if config.budget_s is not None and not config.budget_s > 0:
        raise BenchboxError(f"--budget {config.budget_s:g} is not above 0", hint="leave it out to train all epochs")
    return recipe


HELD_OUT = 10
"""Of data without splits every tenth image, drawn by the seed, is kept for validation."""


def open_splits(config: TrainConfig, registry: Registry, least: int) -> tuple[ImageSet, ImageSet]:
    """Open the images to fit and those to validate on.

    FER2013 has a split for each; PrivateTest is never opened. Data without splits are divided by the seed.

    Parameters
    ----------
    config : TrainConfig
    registry : Registry
    least : int
        Fewest images that can be fitted: a batch.

    Returns
    -------
    fitted, validated : ImageSet

    Raises
    ------
    BenchboxError
        The data are missing, damaged or too few.
    """
    datasets = {name: entry.cls() for name, entry in registry.datasets.items()}
    path = Path(config.data) if config.data else None
    dataset = choose_dataset(path, config.dataset or None, datasets)
    if dataset.fitted and dataset.validated:
        fitted, validated = (dataset.load(path, split=split) for split in (dataset.fitted, dataset.validated))
    else:
        fitted, validated = _divide(dataset.load(path), config.seed)
    if config.limit is not None:
        fitted = limit_images(fitted, config.limit, config.seed)
    if len(fitted) < least or not len(validated):
        raise BenchboxError(
            f"{config.data or 'the built-in sample'}: {len(fitted)} images to fit and {len(validated)} to validate on "
            f"are too few for batches of {least}",
            hint="give more images, or a smaller --batch-size",
        )
    return fitted, limit_images(validated, min(config.validation, len(validated)), config.seed)


def _divide(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    count = len(images)
    if count < 2:
        return images, replace(images, ids=())
    validated = limit_images(images, max(1, count // HELD_OUT), seed)
    held = set(validated.ids)
    rest = np.array([index for index, one in enumerate(images.ids) if one not in held])
    fitted = images.subset(rest, fingerprint_of([images.ids[index] for index in rest], [images.fingerprint]))
    return fitted, validated
