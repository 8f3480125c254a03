"""The unit of statistics where several images show one scene, such as crops of a picture or frames of a field."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Scenes = NDArray[np.intp]
"""Number of each image's scene, shape (N,)."""


def numbered(names: NDArray[np.object_]) -> Scenes | None:
    """Number the scenes of images by their names; None if every image is a scene of its own."""
    unique, numbers = np.unique(names.astype(str), return_inverse=True)
    return None if len(unique) == len(names) else numbers.reshape(-1)


def by_scene(values: Values, scenes: Scenes | None) -> Values:
    """One value for each of S scenes instead of one for each of N images; `values` has shape (N,) or (N, K).

    Images of a scene are not independent, but scenes are. The value of a scene is ``m + S/N * sum(x - m)`` over its
    images x, with m the mean of all images: the linearised estimator of a ratio, because the mean over images is a sum
    over scenes divided by a number of images that scenes contribute to. Its mean over the scenes is m itself, its
    variance that of the estimate, also for scenes of different sizes, and it is linear, so that differences of two
    columns are the values of their differences.

    References
    ----------
    Cochran, Sampling Techniques, 3rd edition, Wiley 1977, sections 6.3 and 9A.3 (ratio estimator of cluster samples).
    """
    if scenes is None:
        return values
    _, own = np.unique(scenes, return_inverse=True)  # some scenes may have no image here
    own = own.reshape(-1)
    count = int(own.max()) + 1 if len(own) else 0
    mean = values.mean(axis=0)
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, own, values - mean)
    result: Values = mean + sums * (count / max(1, len(values)))
    return result
