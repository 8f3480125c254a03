"""Trains denoisers: chooses images, noise and seed, and calls a `TrainableDenoiser`.

The plugin owns network and optimiser. This room must not know any particular network, or how progress is shown.
"""

from __future__ import annotations

from benchbox.training.config import TrainConfig
from benchbox.training.events import BatchDone, EpochDone, Event, TrainingStarted
from benchbox.training.loop import TrainResult, train

__all__ = ["BatchDone", "EpochDone", "Event", "TrainConfig", "TrainResult", "TrainingStarted", "train"]
