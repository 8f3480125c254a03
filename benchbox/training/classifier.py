"""Trains a classifier, such as the judge that a metric asks: which images, their labels, the noise, and the card."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.dataset import ImageSet, fingerprint_of
from benchbox.api.denoiser import TrainingCard
from benchbox.api.errors import BenchboxError
from benchbox.api.trainable import Recipe, TrainableClassifier
from benchbox.audit.contamination import without_seen
from benchbox.engine.data import choose_dataset
from benchbox.engine.environment import environment
from benchbox.registry import Registry, load_registry
from benchbox.training.batches import Mixture
from benchbox.training.checkpoint import HISTORY, Folder, disk_errors
from benchbox.training.config import (
    BatchDone,
    ClassifierEpoch,
    Event,
    TrainConfig,
    TrainingStarted,
    find_recipe,
    open_splits,
    trainable_classifiers,
)

_STACK = 100
_BINS = 10


@dataclass(frozen=True)
class ClassifierResult:
    """The weights file, the history, and why the training ended."""

    weights: Path
    history: list[ClassifierEpoch]
    stopped: str


def find_classifier(config: TrainConfig) -> TrainableClassifier | None:
    """Construct the classifier to train; None if the configuration names none."""
    registry = load_registry(config.plugin_files, config.plugin_folders)
    found = trainable_classifiers(registry).get(config.denoiser)
    return None if found is None or config.denoiser in registry.denoisers else found()


def train_classifier(
    config: TrainConfig, classifier: TrainableClassifier, progress: Callable[[Event], None]
) -> ClassifierResult:
    """Train a classifier, calling `progress` with every event.

    Weights and card of the best epoch so far are always in the folder. Errors are options that only denoisers have,
    images without labels or of another size, too few images, a full disk, and an output folder that is in use.
    """
    for option, given in (("--resume", config.resume), ("--start", config.start)):
        if given:
            raise BenchboxError(f"{option}: a classifier is trained in one go", hint=f"omit {option}")
    registry = load_registry(config.plugin_files, config.plugin_folders)
    recipe = find_recipe(config, classifier)
    mixture = Mixture(recipe.noise, registry)
    fitted, validated = _images(config, classifier, recipe, registry)
    folder = Folder(config.out)
    with folder.locked():
        folder.require_empty()
        progress(TrainingStarted(len(fitted), len(validated), recipe.epochs, 1, (*fitted.notes, *validated.notes)))
        begun = time.monotonic()
        history: list[ClassifierEpoch] = []
        weights = None
        noise = mixture.add if mixture.texts else None
        steps = classifier.fit(
            config.recipe, recipe, fitted, validated, noise, seed=config.seed, budget_s=config.budget_s
        )
        for step in steps:
            spent = time.monotonic() - begun
            if step.accuracy is None:
                speed = ((step.epoch - 1) * len(fitted) + step.images) / spent
                left = (recipe.epochs - step.epoch + 1) * len(fitted) - step.images
                seconds = min(left / speed, config.budget_s - spent if config.budget_s else left / speed)
                progress(BatchDone(step.epoch, recipe.batch_size, step.loss, speed, seconds))
                continue
            row = ClassifierEpoch(step.epoch, step.loss, step.accuracy, round(spent, 1), step.best)
            history.append(row)
            if step.best or weights is None:
                weights = _save(
                    folder, classifier, validated, _card(config, classifier, mixture, fitted, validated, row)
                )
            folder.write(HISTORY, _table(history))
            progress(row)
            best = max(place for place, row in enumerate(history) if row.best)
            if len(history) - 1 - best >= recipe.patience:
                break
    if weights is None:
        raise BenchboxError("no epoch was trained", hint="increase --epochs or --budget")
    if len(history) == recipe.epochs:
        return ClassifierResult(weights, history, "last epoch")
    patient = len(history) - 1 - best < recipe.patience
    return ClassifierResult(
        weights, history, "time limit" if patient else f"no improvement for {recipe.patience} epochs"
    )


def _images(
    config: TrainConfig, classifier: TrainableClassifier, recipe: Recipe, registry: Registry
) -> tuple[ImageSet, ImageSet]:
    """Labelled images to fit, and to choose the weights by: without probable duplicates of the former."""
    everything = replace(config, validation=np.iinfo(np.int64).max)
    fitted, validated = open_splits(everything, registry, least=recipe.batch_size)
    if validated.split:
        path = Path(config.data) if config.data else None
        datasets = {name: entry.cls() for name, entry in registry.datasets.items()}
        validated = without_seen(validated, choose_dataset(path, config.dataset or None, datasets), path)
    fitted, validated = (_labelled(images, classifier) for images in (fitted, validated))
    if len(fitted) < recipe.batch_size or not len(validated):
        raise BenchboxError(
            f"{config.data or 'the built-in sample'}: {len(fitted)} training images and {len(validated)} validation "
            f"images with the label '{classifier.label}' are too few for batches of {recipe.batch_size}",
            hint="use more images, or a smaller --batch-size",
        )
    return fitted, validated


def _labelled(images: ImageSet, classifier: TrainableClassifier) -> ImageSet:
    """The images of a set that show one of the classes."""
    if classifier.label not in images.labels:
        raise BenchboxError(
            f"the images of {images.dataset} have no label '{classifier.label}', which {classifier.name} learns",
            hint="use data with labels, such as fer2013.csv",
        )
    if (images.shapes != classifier.image_size).any():
        height, width = classifier.image_size
        raise BenchboxError(
            f"{classifier.name} takes images of {height} x {width} pixels only, but others are among those of "
            f"{images.dataset}",
            hint="use images of that size",
        )
    labels = images.labels[classifier.label].astype(np.int64)
    known = np.flatnonzero((labels >= 0) & (labels < len(classifier.class_names)))
    if len(known) == len(images):
        return images
    left = len(images) - len(known)
    note = (
        f"left out: {left:,} of {len(images):,} {images.split} images, whose {classifier.label} is none of the classes"
    )
    kept = images.subset(known, fingerprint_of([images.ids[place] for place in known], [images.fingerprint]))
    return replace(kept, notes=(*kept.notes, note))


def _card(
    config: TrainConfig,
    classifier: TrainableClassifier,
    mixture: Mixture,
    fitted: ImageSet,
    validated: ImageSet,
    row: ClassifierEpoch,
) -> TrainingCard:
    machine = environment()
    return TrainingCard(
        dataset=fitted.dataset,
        split=fitted.split,
        fingerprint=fitted.fingerprint,
        images=len(fitted),
        noise=" | ".join(mixture.texts),
        seed=config.seed,
        epochs=row.epoch,
        command=config.command,
        versions={"python": machine.python} | machine.versions,
        hardware=f"{machine.cpu}, {machine.cores} cores",
        validation={"accuracy": round(row.accuracy, 4)},
        notes=f"Recipe '{config.recipe}': {classifier.describe()} Validation on {len(validated):,} "
        f"{validated.split or 'held-out'} images that are no probable duplicates of training images.",
        source=fitted.source,
        validated_on=validated.split,
    )


def _save(folder: Folder, classifier: TrainableClassifier, validated: ImageSet, card: TrainingCard) -> Path:
    """Write weights and card, replacing those of an earlier epoch; return the file of the weights."""
    with disk_errors(folder.path), TemporaryDirectory(dir=folder.path, prefix=".weights-") as temporary:
        weights = classifier.save(Path(temporary))
        stacks = [np.arange(start, min(start + _STACK, len(validated))) for start in range(0, len(validated), _STACK)]
        sure = np.concatenate([classifier.probabilities(weights, validated.stack(stack)) for stack in stacks])
        labels = validated.labels[classifier.label].astype(np.int64)
        content = asdict(card) | {"classes": list(classifier.class_names), **quality_of(sure, labels)}
        text = json.dumps(content, indent=1) + "\n"
        weights.with_suffix(".json").write_text(text, encoding="utf-8")
        for file in sorted(Path(temporary).iterdir()):
            file.replace(folder.path / file.name)
    return folder.path / weights.name


def quality_of(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy, confusion and calibration of probabilities (N, classes) against labels (N,).

    The expected calibration error is the mean distance of confidence and accuracy over ten equal bins of confidence,
    weighted by their images (Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602).
    """
    answers, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = answers == labels
    count = probabilities.shape[1]
    confusion = np.zeros((count, count), dtype=np.int64)
    np.add.at(confusion, (labels, answers), 1)
    bins = np.minimum((sure * _BINS).astype(np.int64), _BINS - 1)
    calibration = [
        {
            "images": int((bins == place).sum()),
            "confidence": round(float(sure[bins == place].mean()), 4),
            "accuracy": round(float(right[bins == place].mean()), 4),
        }
        for place in np.unique(bins).tolist()
    ]
    error = sum(row["images"] * abs(row["confidence"] - row["accuracy"]) for row in calibration) / len(labels)
    by_class = [float(right[labels == place].mean()) if (labels == place).any() else None for place in range(count)]
    return {
        "accuracy": round(float(right.mean()), 4),
        "accuracy_by_class": [None if share is None else round(share, 4) for share in by_class],
        "confusion": confusion.tolist(),
        "calibration": calibration,
        "expected_calibration_error": round(float(error), 4),
    }


def _table(history: list[ClassifierEpoch]) -> bytes:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [field.name for field in fields(ClassifierEpoch)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in history)
    return text.getvalue().encode()
