"""Finds duplicate and near-duplicate images in a data set.

An image is **identical** to another where all its pixels are. It is a **near duplicate** where both show the same
photograph: in other compression, brightness or contrast, with or without a stamp on it, a little shifted, or mirrored.

1. Each picture is averaged to 48x48 pixels; `hashes_of` takes the signs of 64 low frequencies of its cosine
   transform (C. Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010). A mirrored
   picture's hash differs in known bits, so mirrored pairs are found with the same hashes.
2. Pairs of at most `RADIUS` different bits are compared pixel by pixel: the details of both (what a Gaussian blur of 1
   pixel leaves and one of 3 pixels removes) are correlated over the shifts, and `SIMILAR` is the least correlation of a
   near duplicate.

How `SIMILAR` was set: on pairs of FER2013's Training and PublicTest faces, viewed side by side. Of 123 links between
0.83 and 0.87 one at most showed two photographs, of 96 above 0.87 none; of 50 between 0.82 and 0.83 five did. Two faces
that merely look alike agree as well mirrored as not, so the few mirrored links (59 of 3,989) bound what chance adds.
Grey levels compared without the detail and the shifts fail: pairs with dark hair around a face reach 0.92 by chance,
and copies shifted by two pixels fall below 0.9.

What is found, of 806 faces changed on purpose: all that were mirrored, darkened or compressed (JPEG quality 20), 99.8 %
with noise of 15 grey levels, 99.5 % enlarged by 5 %, 99.6 % shifted by one pixel both down and across, 99 % by two down
and 94 % by two across, but only 44 % by two both ways and half of those shifted by three. Other crops are not found.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.api.dataset import ImageSet
from benchbox.api.threads import threads
from benchbox.records.run import digest
from benchbox.system.cache import CacheFolder

SIDE = 48
RADIUS = 16
PROMISING = 0.6
SIMILAR = 0.83
FAINT = 2 / 255
"""Standard deviation of details below which pictures are too empty to be told apart; only identical ones count."""

EXACT, NEAR, MIRRORED = range(3)

_FORMAT = 1
_BLOCK_PIXELS = 2**20
_ROWS = 1000
_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)
# Frequencies (down, across) in the zigzag order of JPEG, the mean left out.
_FREQUENCIES = sorted(((u, v) for u in range(11) for v in range(11)), key=lambda one: (sum(one), one))[1:65]
_DOWN, _ACROSS = (np.array(one) for one in zip(*_FREQUENCIES, strict=True))
MIRROR = int(_BITS[_ACROSS % 2 == 1].sum())
"""Bits of a hash that change when a picture is mirrored left to right: odd frequencies across change their sign."""


@dataclass(frozen=True)
class Duplicates:
    """Which of some images show the same; positions run over all sets of images, one after the other.

    Attributes
    ----------
    links : ndarray of int32, shape (M, 3)
        Two positions and `EXACT`, `NEAR` or `MIRRORED`; no link follows from others, so there are fewer than images.
    similarity : ndarray of float64, shape (M,)
        Correlation of the details; 1 for identical images.
    group_of : ndarray of int32, shape (N,)
        Number of each image's group, -1 for an image that is alone.
    """

    links: NDArray[np.int32]
    similarity: NDArray[np.float64]
    group_of: NDArray[np.int32]

    def groups(self) -> list[NDArray[np.intp]]:
        """Positions of each group, ascending."""
        members = np.flatnonzero(self.group_of >= 0)
        members = members[np.argsort(self.group_of[members], kind="stable")]
        return np.split(members, np.flatnonzero(np.diff(self.group_of[members])) + 1) if len(members) else []


def find_duplicates(sets: Sequence[ImageSet]) -> Duplicates:
    """Compare all images with each other; the result is kept in the user's cache folder, by content.

    Parameters
    ----------
    sets : sequence of ImageSet

    Returns
    -------
    Duplicates
    """
    count = sum(len(one) for one in sets)
    cache = CacheFolder("duplicates")
    settings = [_FORMAT, SIDE, RADIUS, PROMISING, SIMILAR, FAINT]
    entry = f"{digest([settings, [[one.dataset, one.fingerprint] for one in sets]])}.json"
    known = cache.read_json(entry)
    if known is None:
        links, similarity = _search(sets)
        cache.write_json(entry, {"links": links.tolist(), "similarity": [round(one, 4) for one in similarity.tolist()]})
        known = cache.read_json(entry) or {"links": links, "similarity": similarity}
    links = np.asarray(known["links"], dtype=np.int32).reshape(-1, 3)
    return Duplicates(links, np.asarray(known["similarity"], dtype=np.float64), _group(links, count))


def _search(sets: Sequence[ImageSet]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Find all links: copies to the first of them, near duplicates among what is left."""
    from benchbox.audit.duplicate_kernels import find_pairs

    count = sum(len(one) for one in sets)
    contents = [b""] * count
    details = np.empty((count, SIDE, SIDE), dtype=np.float32)
    hashes = np.empty(count, dtype=np.uint64)
    for positions, digests, thumbnails in _thumbnails(sets):
        details[positions] = details_of(thumbnails)
        hashes[positions] = hashes_of(thumbnails)
        for position, content in zip(positions.tolist(), digests, strict=True):
            contents[position] = content
    first_of: dict[bytes, int] = {}
    firsts = np.array([first_of.setdefault(content, position) for position, content in enumerate(contents)])
    is_copy = firsts != np.arange(count)
    copies = np.flatnonzero(is_copy)
    exact = np.column_stack([firsts[copies], copies, np.full(len(copies), EXACT)])

    single = np.flatnonzero(~is_copy & (details.std(axis=(1, 2)) > FAINT))
    every, codes = details[single], hashes[single]
    del details
    halves = halves_of(every)

    def compare(start: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        count = len(every)
        parents, pairs = np.arange(count, dtype=np.int32), np.empty((count, 3), dtype=np.int32)
        scores = np.empty(count, dtype=np.float32)
        rows = (start, min(start + _ROWS, count))
        found = find_pairs(every, halves, codes, MIRROR, *rows, RADIUS, PROMISING, SIMILAR, parents, pairs, scores)
        return pairs[:found].copy(), scores[:found].copy()

    # The blocks do not depend on the number of threads, so that neither does what is found.
    with ThreadPoolExecutor(threads()) as pool:
        blocks = list(pool.map(compare, range(0, len(every), _ROWS)))
    near = np.concatenate([pairs for pairs, _ in blocks]) if blocks else np.empty((0, 3), dtype=np.int32)
    scores = np.concatenate([scores for _, scores in blocks]) if blocks else np.empty(0)
    near = np.column_stack([single[near[:, 0]], single[near[:, 1]], np.where(near[:, 2], MIRRORED, NEAR)])
    links = np.concatenate([exact, near]).astype(np.int32)
    return links, np.concatenate([np.ones(len(exact)), scores]).astype(np.float64)


def _thumbnails(sets: Sequence[ImageSet]) -> Iterator[tuple[NDArray[np.intp], list[bytes], Images]]:
    """Read all images in blocks of one size: positions, digests of the pixels, and the images at 48x48 pixels."""
    import xxhash

    offset = 0
    for images in sets:
        sizes, kinds = np.unique(images.shapes, axis=0, return_inverse=True)
        for kind, (height, width) in enumerate(sizes.tolist()):
            indices = np.flatnonzero(kinds.reshape(-1) == kind)
            count = max(1, _BLOCK_PIXELS // (height * width))
            for start in range(0, len(indices), count):
                part = indices[start : start + count]
                stack = images.stack(part)
                size = f"{height}x{width}".encode()
                digests = [size + xxhash.xxh3_128_digest(one.data) for one in stack]
                yield part + offset, digests, _shrunken(stack)
        offset += len(images)


def _shrunken(stack: Images) -> Images:
    if stack.shape[1:] == (SIDE, SIDE):
        return stack
    import cv2

    resized = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in stack]
    return np.ascontiguousarray(np.stack(resized), dtype=np.float32)


def hashes_of(thumbnails: Images) -> NDArray[np.uint64]:
    """Perceptual hash of each picture.

    Parameters
    ----------
    thumbnails : ndarray of float32, shape (N, 48, 48)

    Returns
    -------
    ndarray of uint64, shape (N,)
        Bit k is set where coefficient k of the cosine transform, by ascending frequency, is above 0.
    """
    cosines = _cosines()
    coefficients = (cosines @ thumbnails @ cosines.T)[:, _DOWN, _ACROSS]
    hashes: NDArray[np.uint64] = np.where(coefficients > 0, _BITS, np.uint64(0)).sum(axis=1, dtype=np.uint64)
    return hashes


def details_of(thumbnails: Images) -> Images:
    """Difference of Gaussian blurs of 1 and 3 pixels, float32, shape (N, 48, 48)."""
    fine, coarse = _blur(1.0), _blur(3.0)
    return np.ascontiguousarray(fine @ thumbnails @ fine.T - coarse @ thumbnails @ coarse.T)


def halves_of(details: Images) -> Images:
    """Details at half the size, float32, shape (N, 24, 24)."""
    half = SIDE // 2
    return np.ascontiguousarray(details.reshape(-1, half, 2, half, 2).mean(axis=(2, 4), dtype=np.float32))


@functools.cache
def _cosines() -> NDArray[np.float32]:
    """Rows of the cosine transform (DCT-II) of the lowest frequencies."""
    places = np.arange(SIDE) + 0.5
    return np.cos(np.pi / SIDE * np.outer(np.arange(max(_DOWN.max(), _ACROSS.max()) + 1), places)).astype(np.float32)


@functools.cache
def _blur(sigma: float) -> NDArray[np.float32]:
    """Matrix of a Gaussian blur of a row of pixels, mirrored at both ends."""
    matrix = np.zeros((SIDE, SIDE))
    reach = math.ceil(4 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    for offset, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
        source = np.arange(SIDE) + offset
        source = np.where(source < 0, -1 - source, np.where(source >= SIDE, 2 * SIDE - 1 - source, source))
        matrix[np.arange(SIDE), source] += weight
    return matrix.astype(np.float32)


def _group(links: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Number the groups that the links make, by their first images."""
    parents = list(range(count))

    def root(one: int) -> int:
        while parents[one] != one:
            parents[one] = one = parents[parents[one]]
        return one

    for first, second in links[:, :2].tolist():
        low, high = sorted((root(first), root(second)))
        parents[high] = low
    group_of = np.full(count, -1, dtype=np.int32)
    linked = np.unique(links[:, :2])
    if len(linked):
        roots = np.array([root(one) for one in linked.tolist()])
        group_of[linked] = np.unique(roots, return_inverse=True)[1].reshape(-1)
    return group_of
