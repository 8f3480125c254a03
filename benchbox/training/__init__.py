"""Trains denoisers and classifiers: chooses images, noise and seed, and calls what a plugin provides.

The plugin owns network and optimiser. This room must not know any particular network, or how progress is shown.
"""

from __future__ import annotations

from benchbox.training.classifier import ClassifierResult, find_classifier, train_classifier
from benchbox.training.config import BatchDone, ClassifierEpoch, EpochDone, Event, TrainConfig, TrainingStarted
from benchbox.training.loop import TrainResult, train

__all__ = [
    "BatchDone",
    "ClassifierEpoch",
    "ClassifierResult",
    "EpochDone",
    "Event",
    "TrainConfig",
    "TrainResult",
    "TrainingStarted",
    "find_classifier",
    "train",
    "train_classifier",
]
