"""Scores by group of images: by each label of the data set, and by brightness."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_GROUPS = 20


@dataclass(frozen=True)
class Groups:
    """A way to divide the images.

    Attributes
    ----------
    title : str
    names : tuple of str
    counts : tuple of int
        Images of each group.
    means : dict of str to tuple of float
        By denoiser: mean of the finite scores of each group, NaN where there are none.
    """

    title: str
    names: tuple[str, ...]
    counts: tuple[int, ...]
    means: dict[str, tuple[float, ...]]


def groups_of(
    labels: Mapping[str, NDArray[np.generic]],
    brightness: NDArray[np.float64] | None,
    scores: Mapping[str, NDArray[np.float64]],
) -> list[Groups]:
    """Divide the images by each label, and into quarters by their brightness.

    Parameters
    ----------
    labels : mapping of str to ndarray, each of shape (N,)
    brightness : ndarray of float64, shape (N,), optional
        Mean of each clean image.
    scores : mapping of str to ndarray, each of shape (N,)
        By denoiser.

    Returns
    -------
    list of Groups
        Without divisions into one group or into more than `MOST_GROUPS`.
    """
    found = []
    for title, values in labels.items():
        words = np.array([str(value) for value in values.tolist()])
        names = sorted(set(words.tolist()))
        if 1 < len(names) <= MOST_GROUPS:
            found.append(_groups(f"By {title}", names, [words == name for name in names], scores))
    if brightness is not None and len(brightness) >= 8 and np.ptp(brightness) > 0:
        edges = np.quantile(brightness, (0.0, 0.25, 0.5, 0.75, 1.0))
        quarter = np.searchsorted(edges[1:-1], brightness, side="right")
        names = [f"{low:.2f} to {high:.2f}" for low, high in itertools.pairwise(edges)]
        masks = [quarter == place for place in range(4)]
        if all(mask.any() for mask in masks):
            found.append(_groups("By brightness (mean of the clean image, in quarters)", names, masks, scores))
    return found


def named(values: NDArray[np.generic], names: Sequence[str]) -> NDArray[np.generic]:
    """Put names for the numbers of a label, where each has one.

    Parameters
    ----------
    values : ndarray, shape (N,)
    names : sequence of str
        The name of 0, 1, ...

    Returns
    -------
    ndarray, shape (N,)
    """
    if not np.issubdtype(values.dtype, np.integer) or not len(values):
        return values
    numbers = values.astype(np.int64)
    return np.array(names)[numbers] if numbers.min() >= 0 and numbers.max() < len(names) else values


def _groups(
    title: str, names: Sequence[str], masks: Sequence[NDArray[np.bool_]], scores: Mapping[str, NDArray[np.float64]]
) -> Groups:
    means = {denoiser: tuple(_mean(values[mask]) for mask in masks) for denoiser, values in scores.items()}
    return Groups(title, tuple(names), tuple(int(mask.sum()) for mask in masks), means)


def _mean(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
