"""The four plugin hooks. Each returns classes and is called once, when plugins are loaded."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from benchbox.api.dataset import Dataset
from benchbox.api.denoiser import Denoiser
from benchbox.api.metric import Metric
from benchbox.api.noise import NoiseModel

PROJECT = "benchbox"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def benchbox_denoisers() -> Iterable[type[Denoiser]]:
    """Return denoiser classes."""
    raise AssertionError("hook specifications are never called")


@hookspec
def benchbox_noise_models() -> Iterable[type[NoiseModel]]:
    """Return noise model classes."""
    raise AssertionError("hook specifications are never called")


@hookspec
def benchbox_datasets() -> Iterable[type[Dataset]]:
    """Return data set classes."""
    raise AssertionError("hook specifications are never called")


@hookspec
def benchbox_metrics() -> Iterable[type[Metric]]:
    """Return metric classes."""
    raise AssertionError("hook specifications are never called")
