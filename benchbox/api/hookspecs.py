"""The four plugin hooks; each returns classes and is called once, when plugins are loaded."""

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
    """Offer denoisers."""
    raise AssertionError("a specification is never called")


@hookspec
def benchbox_noise_models() -> Iterable[type[NoiseModel]]:
    """Offer noise models."""
    raise AssertionError("a specification is never called")


@hookspec
def benchbox_datasets() -> Iterable[type[Dataset]]:
    """Offer data sets."""
    raise AssertionError("a specification is never called")


@hookspec
def benchbox_metrics() -> Iterable[type[Metric]]:
    """Offer metrics."""
    raise AssertionError("a specification is never called")
