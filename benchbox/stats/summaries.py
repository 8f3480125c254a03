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
    """Mean of per-image scores.

    Attributes
    ----------
    mean : float
        Over the images of finite value; infinite where all are perfect, NaN where none has a value.
    images : int
        Images scored.
    perfect : int
        Images of infinite score, as the PSNR of an image restored exactly; they are not in the mean.
    undefined : int
        Images without a value (NaN or negative infinity); they are not in the mean.
    low, high : float
        Bootstrap interval of the mean at 95 %; NaN where there is none.
    """

    mean: float
    images: int
    perfect: int = 0
    undefined: int = 0
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Latency:
    """Summary of latency samples, in milliseconds a call.

    Attributes
    ----------
    p50, p90, p99 : float
        Quantiles, by linear interpolation between samples.
    samples : int
    """

    p50: float
    p90: float
    p99: float
    samples: int


def mean_of(scores: Values) -> Mean:
    """Mean of the finite scores, and how many were not.

    Parameters
    ----------
    scores : ndarray of float64, shape (N,)

    Returns
    -------
    Mean
    """
    finite = np.isfinite(scores)
    perfect = int(np.isposinf(scores).sum())
    undefined = len(scores) - int(finite.sum()) - perfect
    without = float("inf") if perfect and not undefined else float("nan")
    return Mean(float(scores[finite].mean()) if finite.any() else without, len(scores), perfect, undefined)


def average_repeats(columns: Mapping[str, NDArray[Any]], repeats: int) -> dict[str, NDArray[Any]]:
    """One row an image: the mean over the noises that were drawn for it.

    Images are the unit of every comparison and of resampling, so that repeats never fake certainty.

    Parameters
    ----------
    columns : mapping of str to ndarray, each of shape (N * repeats,)
        Rows ordered by image.
    repeats : int
        Rows of each image.

    Returns
    -------
    dict of str to ndarray, each of shape (N,)
        A mean leaves out what is not finite, and is that where nothing else is there.
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
    """Quantiles of latency samples.

    Parameters
    ----------
    samples_ms : sequence of float
        Milliseconds a call; at least one.

    Returns
    -------
    Latency
    """
    p50, p90, p99 = np.percentile(np.asarray(samples_ms, dtype=np.float64), (50, 90, 99))
    return Latency(float(p50), float(p90), float(p99), len(samples_ms))
