"""Runs stacks of images through tiled stages; the result is the same for any number of threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchbox_bm3d import transforms
from benchbox_bm3d.profiles import Profile, Stage
from benchbox_bm3d.tiles import blend, filter_tiles, merge

IMAGES = NDArray[np.float32]
LEVELS = NDArray[np.float32]
TILES = NDArray[np.int64]

_TILE = 96
"""Pixels between the first and the last reference patch of a tile, about: its coefficients fit the cache."""
_TILE_BYTES = 64 << 20
"""Memory for filtered tiles; images are taken in batches that need no more."""
_GREY_LEVELS = 255


class Workers:
    """Threads that share a job; kernels run without the GIL, and the split into parts changes no result."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def share(self, work: Callable[[int, int], None], count: int) -> None:
        """Call ``work(first, last)`` for ranges that make up ``range(count)``."""
        if self._threads == 1 or count == 1:
            work(0, count)
            return
        # More parts than threads, because some take longer; each part allocates its own buffers.
        parts = np.unique(np.linspace(0, count, min(count, 4 * self._threads) + 1).round().astype(int)).tolist()
        for job in [self._pool.submit(work, first, last) for first, last in pairwise(parts)]:
            job.result()


@dataclass(frozen=True)
class Lines:
    """A 2D transform as what it does to a line of pixels.

    Attributes
    ----------
    analysis, synthesis : ndarray of float32, shape (P, P)
        The transform, one basis vector a row, and its inverse with row i times ``window[i]``.
    window : ndarray of float32, shape (P,)
        Weight of a pixel by its place in a line of the patch.
    """

    analysis: IMAGES
    synthesis: IMAGES
    window: IMAGES

    @classmethod
    @cache
    def of(cls, transform: transforms.Transform, side: int, beta: float) -> Lines:
        """Make them for patches of a size, with the Kaiser window of parameter `beta`."""
        matrix = transforms.forward(transform, side)
        window = np.kaiser(side, beta)
        arrays = (matrix, np.linalg.inv(matrix) * window[:, None], window)
        return cls(*(np.ascontiguousarray(array, np.float32) for array in arrays))


def denoise(noisy: IMAGES, sigma: LEVELS, profile: Profile, threads: int) -> IMAGES:
    """Denoise a stack by BM3D.

    Parameters
    ----------
    noisy : ndarray of float32, shape (N, H, W) or (N, H, W, 3)
    sigma : ndarray of float32, shape (N,)
        Noise standard deviation of each image, greater than zero.
    profile : Profile
    threads : int
        Threads to use, at least 1.

    Returns
    -------
    ndarray of float32, same shape
    """
    result = np.empty_like(noisy)
    with Workers(threads) as workers:
        for some in batches(noisy.shape, profile.hard[0].side, profile.hard[0].step, profile.hard[0].reach):
            images, levels = transforms.split(noisy[some]), sigma[some]
            halves = (profile.smooth * levels.astype(np.float64) ** 2).astype(np.float32)
            pilot = _estimate(images, images[:0], levels, profile.hard, halves, workers)
            result[some] = transforms.join(_estimate(images, pilot, levels, profile.wiener, halves, workers))
    return result


def _estimate(
    images: IMAGES, pilot: IMAGES, levels: LEVELS, stages: tuple[Stage, ...], halves: LEVELS, workers: Workers
) -> IMAGES:
    estimate, *finer = [run_stage(images, pilot, levels, stage, workers) for stage in stages]
    _, channels, height, width = estimate.shape
    planes, limits = estimate.reshape(-1, height, width), np.repeat(halves, channels)
    for fine in finer:

        def add(first: int, last: int, fine: IMAGES = fine) -> None:
            blend(planes, fine.reshape(planes.shape), first, last, limits)

        workers.share(add, len(planes))
    return estimate


def batches(shape: tuple[int, ...], side: int, step: int, reach: int) -> list[slice]:
    """Parts of a stack, (N, H, W) or (N, H, W, 3), whose filtered tiles need little memory."""
    count, height, width, *channels = shape
    tiles = plan(1, height, width, side, step, reach)
    batch = max(1, _TILE_BYTES // (8 * len(tiles) * _room(tiles, side) * math.prod(channels)))
    return [slice(start, start + batch) for start in range(0, count, batch)]


def plan(count: int, height: int, width: int, side: int, step: int, reach: int) -> TILES:
    """Cut images into tiles.

    Parameters
    ----------
    count, height, width : int
        Images and their size.
    side, step, reach : int
        Side of a patch, pixels between reference patches, rows and columns searched on either side of them.

    Returns
    -------
    ndarray of int64, shape (T, 9)
        See `tiles.filter_tiles` for the columns; the tiles of an image follow each other.
    """
    one = _plan_one(height, width, side, step, reach)
    tiles = np.concatenate([one] * count)
    tiles[:, 0] = np.repeat(np.arange(count), len(one))
    return tiles


# Cached because denoising a single image takes only 2 ms, of which planning would be a large part.
@cache
def _plan_one(height: int, width: int, side: int, step: int, reach: int) -> TILES:
    spans_y, spans_x = (_spans(length - side, step, reach) for length in (height, width))
    return np.array([(0, *y[:2], *x[:2], y[2], x[2], y[3], x[3]) for y in spans_y for x in spans_x], np.int64)


def _spans(end: int, step: int, reach: int) -> list[tuple[int, int, int, int]]:
    # Reference patches are at every `step`-th position and at the last one, `end`.
    length = max(1, round(_TILE / step)) * step
    starts = [*range(0, max(end, 1), length), end + step]
    spans = []
    for start, stop in pairwise(starts):
        final = end if stop > end else stop - step
        low, high = max(0, start - reach), min(end, final + reach)
        spans.append((start, final, low, high - low + 1))
    return spans


def _room(tiles: TILES, side: int) -> int:
    # One vector more than the pixels, because the last pixels are written as a whole vector.
    return int(((tiles[:, 7] + side - 1) * (tiles[:, 8] + side - 1)).max()) + 16


def run_tiles(
    images: IMAGES, tiles: TILES, side: int, workers: Workers, work: Callable[[int, int, IMAGES, IMAGES], None]
) -> IMAGES:
    """Filter tiles, and put the images together.

    Parameters
    ----------
    images : ndarray of float32, shape (N, C, H, W)
    tiles : ndarray of int64, shape (T, 9)
        What `plan` made of them.
    side : int
        Side of a patch.
    workers : Workers
    work : callable
        Takes the first tile, the last one (excluded), and the arrays of pixels and of weights to fill for them, both of
        shape (C, T, room).

    Returns
    -------
    ndarray of float32, shape (N, C, H, W)
    """
    count, channels, height, width = images.shape
    each = len(tiles) // count
    pixels, shares = np.empty((2, channels, len(tiles), _room(tiles, side)), np.float32)
    workers.share(lambda first, last: work(first, last, pixels, shares), len(tiles))
    result = np.empty_like(images)

    def join(first: int, last: int) -> None:
        weights = np.empty((height, width), np.float32)
        for plane in range(first, last):
            index, c = divmod(plane, channels)
            merge(tiles, index * each, (index + 1) * each, side, pixels[c], shares[c], weights, result[index, c])

    workers.share(join, count * channels)
    return result


@cache
def _compared(side: int, count: int) -> tuple[IMAGES, NDArray[np.int64]]:
    return transforms.dct(side).astype(np.float32), transforms.low_frequencies(side, count)


def run_stage(noisy: IMAGES, pilot: IMAGES, sigma: LEVELS, stage: Stage, workers: Workers) -> IMAGES:
    """Run one stage of BM3D over a stack.

    Parameters
    ----------
    noisy : ndarray of float32, shape (N, C, H, W)
        As `transforms.split` left them.
    pilot : ndarray of float32, shape (N, C, H, W) or (0, C, H, W)
        First estimates, for the Wiener stage.
    sigma : ndarray of float32, shape (N,)
    stage : Stage
    workers : Workers

    Returns
    -------
    ndarray of float32, shape (N, C, H, W)
    """
    count, channels, height, width = noisy.shape
    tiles = plan(count, height, width, stage.side, stage.step, stage.reach)
    lines = Lines.of(stage.transform, stage.side, stage.beta)
    matching, order = _compared(stage.side, stage.compared)
    level = sigma.astype(np.float64)
    factors = stage.factor * np.array([1.0, stage.chroma, stage.chroma])[:channels]
    strengths = (factors * (level**2 if len(pilot) else level)[:, None]).astype(np.float32)
    # The first of several channels is their mean times the square root of their number.
    limit = channels * stage.limit / _GREY_LEVELS**2 + stage.limit_slope * level**2
    limits = (stage.side**2 * limit).astype(np.float32)

    def work(first: int, last: int, pixels: IMAGES, shares: IMAGES) -> None:
        filter_tiles(
            noisy, pilot, tiles, first, last, strengths, limits, stage.step, stage.size, stage.reach, lines.analysis,
            lines.synthesis, lines.window, matching, order, pixels, shares,
        )  # fmt: skip

    return run_tiles(noisy, tiles, stage.side, workers, work)
