"""Events that a training run reports as it progresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


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
