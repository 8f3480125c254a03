"""`nl_means`: non-local means with noise-corrected patch distances, for whole stacks."""

from __future__ import annotations

import importlib
import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchbox import BenchboxError, Capabilities, Denoiser, Images, Sigma, threads

_TILE_HEIGHT, _TILE_WIDTH = 64, 128


_TUNED_ON = "FER2013 Training + scikit-image photographs"


_COLOUR = ((0.05, (3, 5, 1.2)), (0.16, (5, 5, 0.85)), (0.25, (7, 6, 0.62)), (math.inf, (11, 6, 0.5)))


def default_options(sigma: float, *, colour: bool = False) -> tuple[int, int, float]:
    """Patch size, patch distance and strength for a noise level, tuned on both faces and photographs.

    Patches grow with the noise: 5x5 below 0.035, 7x7 below 0.075, 9x9 below 0.15, then 11x11. The search distance is 5
    below 0.035, then 4, because more distant pixels add more blur than they remove noise. The strength is 1.2 for the
    two smaller patches, 0.95 for 9x9, and ``0.6 + 0.8 sigma`` for the largest.

    In colour, tuned on photographs, a patch of the same side tells three times as much: 3x3 below 0.05, 5x5 below 0.16,
    7x7 below 0.25, then 11x11, and more distant pixels help. Against the options for grey this gains 0.7 to 1 dB.
    """
    if colour:
        return next(options for below, options in _COLOUR if sigma < below)
    if sigma < 0.035:
        return 5, 5, 1.2
    if sigma < 0.075:
        return 7, 4, 1.2
    if sigma < 0.15:
        return 9, 4, 0.95
    return 11, 4, 0.6 + 0.8 * sigma


class NLMeans(Denoiser):
    """Mean of nearby pixels, weighted by the similarity of the patches around them [1]_.

    The expected contribution of the noise is subtracted from the squared difference of two patches, which is weighted
    by a Gaussian window; in colour, it is the mean over the channels. `skimage.restoration.denoise_nl_means` with
    ``fast_mode=False`` and `sigma` set gives the same result.

    Parameters
    ----------
    patch_size : int, optional
        Side of a patch in pixels, odd, at least 3. By default, this and the other two options follow `sigma`.
    patch_distance : int, optional
        Rows and columns to search on either side of a pixel, at least 1.
    strength : float, optional
        Scale on which weights decrease with the patch distance, divided by `sigma`: scikit-image's ``h / sigma``.
        Greater than 0.

    References
    ----------
    .. [1] A. Buades, B. Coll and J.-M. Morel, A non-local algorithm for image denoising, CVPR 2005,
       doi:10.1109/CVPR.2005.38
    """

    name = "nl_means"
    summary = "mean of pixels weighted by the similarity of their patches"
    reference = "Buades et al., CVPR 2005, doi:10.1109/CVPR.2005.38"
    capabilities = Capabilities(sigma="required", tuned_on=_TUNED_ON, channels="any")

    def __init__(
        self, *, patch_size: int | None = None, patch_distance: int | None = None, strength: float | None = None
    ) -> None:
        if patch_size is not None and (patch_size < 3 or patch_size % 2 == 0):
            raise ValueError(f"patch_size must be odd and at least 3, got {patch_size}")
        if patch_distance is not None and patch_distance < 1:
            raise ValueError(f"patch_distance must be at least 1, got {patch_distance}")
        if strength is not None and not strength > 0:
            raise ValueError(f"strength must be greater than 0, got {strength}")
        self.patch_size = patch_size
        self.patch_distance = patch_distance
        self.strength = strength

    def setup(self, shape: tuple[int, ...]) -> None:
        """Import the kernel; the first noise level that needs a patch size compiles it, or loads it from disk."""
        importlib.import_module("benchbox_nlm.kernels")

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack; images with noise level 0 are returned unchanged.

        Raises `BenchboxError` if no noise level is given.
        """
        if sigma is None:
            raise BenchboxError("nl_means needs the noise level", hint="give or estimate it, or use a blind denoiser")
        result = noisy.copy()
        # Images with the same patch size and distance are filtered together; each has its own strength.
        groups: dict[tuple[int, int], list[tuple[int, float]]] = {}
        for index, level in enumerate(sigma.tolist()):
            if level > 0:
                patch_size, distance, strength = self._options(level, colour=noisy.ndim == 4)
                groups.setdefault((patch_size, distance), []).append((index, strength))
        for (patch_size, distance), members in groups.items():
            indices = [index for index, _ in members]
            strengths = np.array([strength for _, strength in members])
            filtered = non_local_means(noisy[indices], sigma[indices], patch_size, distance, strengths, threads())
            result[indices] = filtered
        return result

    def _options(self, sigma: float, *, colour: bool) -> tuple[int, int, float]:
        patch_size, distance, strength = default_options(sigma, colour=colour)
        return (
            patch_size if self.patch_size is None else self.patch_size,
            distance if self.patch_distance is None else self.patch_distance,
            strength if self.strength is None else self.strength,
        )


def non_local_means(
    noisy: Images, sigma: Sigma, patch_size: int, patch_distance: int, strengths: NDArray[np.float64], workers: int
) -> Images:
    """Filter a stack with one patch size and distance on `workers` threads; `sigma` must be greater than 0."""
    from benchbox_nlm.kernels import filter_tiles

    half = patch_size // 2
    planes = np.moveaxis(noisy, 3, 1) if noisy.ndim == 4 else noisy[:, np.newaxis]
    count, channels, height, width = planes.shape
    margin = ((0, 0), (0, 0), (half, half), (half, half))
    padded = np.ascontiguousarray(np.pad(planes, margin, mode="reflect" if min(height, width) > 1 else "edge"))
    line = np.exp(-np.square(np.arange(-half, half + 1)) / (2 * ((patch_size - 1) / 4) ** 2))
    window = tuple((line / line.sum()).astype(np.float32))
    scales = 1 / np.square(strengths * sigma) / channels
    noises = 2 / np.square(strengths)
    tiles = np.array(
        [
            (index, top, min(top + _TILE_HEIGHT, height), left, min(left + _TILE_WIDTH, width))
            for index in range(count)
            for top in range(0, height, _TILE_HEIGHT)
            for left in range(0, width, _TILE_WIDTH)
        ],
        np.int64,
    )
    result = np.empty((count, channels, height, width), np.float32)
    parts = np.unique(np.linspace(0, len(tiles), min(len(tiles), 4 * workers if workers > 1 else 1) + 1).round())
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(
                filter_tiles, padded, tiles, first, last, window, scales.astype(np.float32), noises.astype(np.float32),
                patch_distance, result,
            )
            for first, last in pairwise(parts.astype(int).tolist())
        ]  # fmt: skip
        for job in jobs:
            job.result()
    return np.ascontiguousarray(np.moveaxis(result, 1, 3)) if noisy.ndim == 4 else result[:, 0]
