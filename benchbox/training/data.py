"""The images of a training: those that are fitted and those that are validated on, never the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.choose import choose, limit_images
from benchbox.builtin.datasets.fingerprint import fingerprint_of
from benchbox.registry import Registry
from benchbox.training.config import TrainConfig

FITTED, VALIDATED = "Training", "PublicTest"
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
    dataset = choose(path, config.dataset or None, datasets)
    if FITTED in dataset.splits and VALIDATED in dataset.splits:
        fitted, validated = (dataset.load(path, split=split) for split in (FITTED, VALIDATED))
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
