"""Trains denoisers: owns split, noise and seed, and calls a `TrainableDenoiser`."""

from __future__ import annotations

from benchbox.training.config import TrainConfig
from benchbox.training.events import BatchDone, EpochDone, Event, TrainingStarted
from benchbox.training.loop import TrainResult, train

__all__ = ["BatchDone", "EpochDone", "Event", "TrainConfig", "TrainResult", "TrainingStarted", "train"]
