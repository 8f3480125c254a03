"""The built-in noise models, metrics and data sets, and the noise estimator that all denoisers share.

They are registered through the same hooks as plugins. This room must not know denoisers, runs or reports, because every
row gets the same noise and the same metrics.
"""

from __future__ import annotations

from benchbox.api.dataset import Dataset
from benchbox.api.hookspecs import hookimpl
from benchbox.api.metric import Metric
from benchbox.api.noise import NoiseModel


@hookimpl
def benchbox_noise_models() -> list[type[NoiseModel]]:
    """Return the built-in noise models."""
    from benchbox.builtin import noise

    return noise.MODELS


@hookimpl
def benchbox_datasets() -> list[type[Dataset]]:
    """Return the built-in data sets."""
    from benchbox.builtin import datasets

    return datasets.DATASETS


@hookimpl
def benchbox_metrics() -> list[type[Metric]]:
    """Return the built-in metrics."""
    from benchbox.builtin import metrics

    return metrics.METRICS
