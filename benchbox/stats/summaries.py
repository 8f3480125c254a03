"""Means of scores and quantiles of latencies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Mean:
    """Mean of per-image scores."""

    mean: float  # over the images that have a value; NaN where none has one
    images: int  # images scored
    perfect: int = 0  # images restored exactly, or better than `PERFECT_DB`; each counts as that
    undefined: int = 0  # images without a value; they are not in the mean
    # bootstrap interval of the mean at 95 %; NaN for fewer than 10 images
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Latency:
    """Summary of latency samples, in milliseconds a call."""

    # quantiles, by linear interpolation between samples
    p50: float
    p90: float
    p99: float
    samples: int


PERFECT_DB = 100.0
"""What an infinite score in dB counts as, and every one beyond: an RMS error of 1e-5, 1/400 of an 8-bit grey level."""


def counted(scores: NDArray[Any], unit: str) -> Values:
    """Scores as they enter every mean, rank and comparison, so that all rows are compared on the same images.

    An image that is restored exactly has an infinite PSNR. To leave it out would punish the row that restores it and
    hide its loss, so in dB it counts as `PERFECT_DB`. What has no value in any unit is NaN.
    """
    values = np.asarray(scores, dtype=np.float64)
    if unit == "dB":
        values = np.minimum(values, PERFECT_DB)
    return np.where(np.isfinite(values), values, np.nan)


def mean_of(scores: NDArray[Any], unit: str = "") -> Mean:
    """Mean of the scores that have a value, as they are `counted`."""
    values = counted(scores, unit)
    finite = np.isfinite(values)
    return Mean(
        mean=float(values[finite].mean()) if finite.any() else math.nan,
        images=len(values),
        perfect=int((values == PERFECT_DB).sum()) if unit == "dB" else 0,
        undefined=int((~finite).sum()),
    )


def average_repeats(columns: Mapping[str, NDArray[Any]], repeats: int) -> dict[str, NDArray[Any]]:
    """One row an image: the mean over the noises that were drawn for it.

    Images are the unit of every comparison and of resampling, so that repeats never fake certainty.
    """
    if repeats == 1:
        return dict(columns)
    averaged = {}
    for name, values in columns.items():
        rows = values.reshape(-1, repeats)
        finite = np.isfinite(rows)
        counts = finite.sum(axis=1)
        sums = np.where(finite, rows, 0).sum(axis=1, dtype=np.float64)
        averaged[name] = np.where(counts > 0, sums / np.maximum(counts, 1), rows[:, 0]).astype(values.dtype)
    return averaged


def latency_of(samples_ms: Sequence[float]) -> Latency:
    """Quantiles of latency samples."""
    p50, p90, p99 = np.percentile(np.asarray(samples_ms, dtype=np.float64), (50, 90, 99))
    return Latency(float(p50), float(p90), float(p99), len(samples_ms))
