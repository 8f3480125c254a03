"""Stacks of images through the two stages of BM3D, on any number of threads with the same result."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchbox_bm3d import transforms
from benchbox_bm3d.profiles import Profile, Stage
from benchbox_bm3d.tiles import filter_tiles, merge

IMAGES = NDArray[np.float32]
LEVELS = NDArray[np.float32]

_TILE = 96
"""Pixels between the first and the last reference patch of a tile, about: its coefficients fit the cache."""
_TILE_BYTES = 64 << 20
"""Memory for filtered tiles; images are taken in batches that need no more."""
_GREY_LEVELS = 255


def denoise(noisy: IMAGES, sigma: LEVELS, profile: Profile, threads: int) -> IMAGES:
    """Denoise a stack.

    Parameters
    ----------
    noisy : ndarray of float32, shape (N, H, W)
    sigma : ndarray of float32, shape (N,)
        Noise standard deviation of each image, greater than zero.
    profile : Profile
    threads : int
        Threads to use, at least 1.

    Returns
    -------
    ndarray of float32, shape (N, H, W)
    """
    result = np.empty_like(noisy)
    with ThreadPoolExecutor(threads) as pool:
        tiles = plan(1, *noisy.shape[1:], profile.hard)
        batch = max(1, _TILE_BYTES // (8 * len(tiles) * _room(tiles, profile.hard.side)))
        for start in range(0, len(noisy), batch):
            some, levels = noisy[start : start + batch], sigma[start : start + batch]
            pilot = run_stage(some, some[:0], levels, profile.hard, pool, threads)
            result[start : start + batch] = run_stage(some, pilot, levels, profile.wiener, pool, threads)
    return result


def plan(count: int, height: int, width: int, stage: Stage) -> NDArray[np.int64]:
    """Cut images into tiles; see `tiles.filter_tiles` for the columns."""
    spans_y, spans_x = (_spans(length - stage.side, stage) for length in (height, width))
    one = [(0, *y[:2], *x[:2], y[2], x[2], y[3], x[3]) for y in spans_y for x in spans_x]
    tiles = np.tile(np.array(one, np.int64), (count, 1))
    tiles[:, 0] = np.repeat(np.arange(count), len(one))
    return tiles


def _spans(end: int, stage: Stage) -> list[tuple[int, int, int, int]]:
    # Reference patches lie on every `step`-th place and on the last, `end`.
    length = max(1, round(_TILE / stage.step)) * stage.step
    places = -(-end // length) if end else 1
    starts = [*range(0, places * length, length), end + stage.step]
    spans = []
    for start, stop in pairwise(starts):
        final = end if stop > end else stop - stage.step
        low, high = max(0, start - stage.reach), min(end, final + stage.reach)
        spans.append((start, final, low, high - low + 1))
    return spans


def _room(tiles: NDArray[np.int64], side: int) -> int:
    # A vector more than the pixels, for the last of them is written with a whole one.
    return int(((tiles[:, 7] + side - 1) * (tiles[:, 8] + side - 1)).max()) + 16


def run_stage(
    noisy: IMAGES, pilot: IMAGES, sigma: LEVELS, stage: Stage, pool: ThreadPoolExecutor, threads: int
) -> IMAGES:
    """Run one stage over a stack.

    Parameters
    ----------
    noisy : ndarray of float32, shape (N, H, W)
    pilot : ndarray of float32, shape (N, H, W) or (0, H, W)
        First estimates, for the Wiener stage.
    sigma : ndarray of float32, shape (N,)
    stage : Stage
    pool : concurrent.futures.ThreadPoolExecutor
    threads : int

    Returns
    -------
    ndarray of float32, shape (N, H, W)
    """
    side = stage.side
    tiles = plan(len(noisy), *noisy.shape[1:], stage)
    room = _room(tiles, side)
    pixels, shares = np.empty((len(tiles), room), np.float32), np.empty((len(tiles), room), np.float32)
    forward = transforms.forward(stage.transform, side)
    window = np.kaiser(side, stage.beta)
    inverse = np.linalg.inv(forward) * window[:, None]
    strengths = stage.factor * sigma.astype(np.float64) ** (2 if len(pilot) else 1)
    limits = side**2 * (stage.limit / _GREY_LEVELS**2 + stage.limit_slope * sigma.astype(np.float64) ** 2)
    arrays = [
        np.ascontiguousarray(array, np.float32)
        for array in (strengths, limits, forward, inverse, window, transforms.dct(side))
    ]
    order = transforms.low_frequencies(side, stage.compared)

    def some(first: int, last: int) -> None:
        filter_tiles(
            noisy, pilot, tiles, first, last, *arrays[:2], stage.step, stage.size, stage.reach, *arrays[2:], order,
            pixels, shares,
        )  # fmt: skip

    _spread(some, len(tiles), pool, threads)
    result = np.empty_like(noisy)
    each = len(tiles) // len(noisy)

    def join(first: int, last: int) -> None:
        weights = np.empty(noisy.shape[1:], np.float32)
        for index in range(first, last):
            merge(tiles, index * each, (index + 1) * each, side, pixels, shares, weights, result[index])

    _spread(join, len(noisy), pool, threads)
    return result


def _spread(work: Callable[[int, int], None], count: int, pool: ThreadPoolExecutor, threads: int) -> None:
    if threads == 1 or count == 1:
        work(0, count)
        return
    # More parts than threads, for some take longer; each part allocates its own scratch.
    parts = np.unique(np.linspace(0, count, min(count, 4 * threads) + 1).round().astype(int)).tolist()
    for done in [pool.submit(work, first, last) for first, last in pairwise(parts)]:
        done.result()
