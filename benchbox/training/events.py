"""Events that a training run reports while it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class TrainingStarted:
    """Images are open and the network stands.

    Attributes
    ----------
    images, validation : int
        Number of images that are fitted, and validated on.
    epochs : int
        Passes at most.
    first_epoch : int
        The epoch that it goes on with, from 1.
    """

    images: int
    validation: int
    epochs: int
    first_epoch: int


@dataclass(frozen=True)
class BatchDone:
    """One step was taken.

    Attributes
    ----------
    epoch : int
        From 1.
    images : int
        Images of this batch.
    loss : float
        Mean loss of the epoch so far.
    images_per_s : float
        Since the start of the epoch.
    seconds_left : float
        Until the last epoch or the end of the time, whichever comes first.
    """

    epoch: int
    images: int
    loss: float
    images_per_s: float
    seconds_left: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch was trained and validated; the columns of the history.

    Attributes
    ----------
    epoch : int
        From 1.
    images : int
        Images seen since the beginning.
    learning_rate : float
        That of the last step.
    loss : float
        Mean squared error on the training images, weighted by `Trainer.importance`, mean over the epoch.
    accuracy : float
        Share of pixels of the training images restored to within `Trainer.tolerance`, mean over the epoch.
    val_loss : float
        The same on the validation images.
    val_psnr : float
        Mean over the images, dB.
    val_accuracy : float
        The metric `accuracy` on the validation images.
    images_per_s : float
        Of the training steps.
    seconds : float
        Training and validation, since the beginning.
    best : bool
        Whether no earlier epoch had a lower `val_loss`.
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


Event: TypeAlias = TrainingStarted | BatchDone | EpochDone
