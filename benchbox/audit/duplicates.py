"""Finds pictures that occur several times in a data set: identical, nearly identical, or cropped differently.

Two images are **identical** if all their pixels are. They are **near duplicates** if they show the same photograph with
different compression, brightness or contrast, with or without a stamp, mirrored, or cropped differently.

1. Each picture is averaged to 48x48 pixels and described by 80 numbers that survive a crop (`descriptors_of`). Pairs
   whose descriptors have a cosine of at least `PROMISING` are candidates; `CANDIDATES` of each image at most.
2. Each candidate pair is aligned (`alignment`); the details that a Gaussian blur of 1 pixel leaves and one of 3 pixels
   removes are correlated over the overlap. `similarity` is 5/8 of this correlation and 3/8 of the cosine, because two
   faces that look alike may agree in one of them, but seldom in both. Near duplicates reach at least `SIMILAR`.

How `SIMILAR` was set: on FER2013's Training and PublicTest faces, viewed side by side; PrivateTest was not looked at.
Of the 212 least similar links above 0.86 between them, none joined two different photographs; between 0.78 and 0.84 a
third did. Within Training, where more pairs can agree by chance, the last false pairs were seen at 0.85.

Recall on 999 modified PublicTest faces: 100 % if shifted by up to 6 pixels, mirrored, rotated by up to 5 degrees,
shrunk to 0.8, changed in contrast or compressed (JPEG quality 20); 99.5 % if enlarged by 1.25; 99.5 % with all of this
combined, but only 68 % of those if missing parts are filled with black.
Not searched for: parts smaller than half of the picture, large angles, upside-down pictures, montages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.api.threads import threads
from benchbox.builtin.channels import luminance
from benchbox.records.run import digest
from benchbox.system.files import CacheFolder

SIDE = 48
SIZE = 80
HASH_BYTES = SIZE // 8
NETWORK = Path(__file__).with_name("descriptor.onnx")

_BLOCK = 256

Thumbnails = NDArray[np.float16] | NDArray[np.float32]
Descriptors = NDArray[np.float32]
Hashes = NDArray[np.uint8]
PROMISING = 0.65
CANDIDATES = 16
SIMILAR = 0.86
LIKE_A_HASH = 0.66
"""Cosine of a descriptor and the signs in a hash from which an image counts as seen."""
FAINT = 2
"""Standard deviation of details, in grey levels, below which pictures are too empty to compare."""
EXACT, NEAR, MIRRORED = range(3)
_FORMAT = 2
_BLOCK_PIXELS = 2**20
_ROWS = 512
_BATCH = 256
_SHARE = 32


def descriptors_of(thumbnails: Thumbnails) -> Descriptors:
    """Describe pictures of shape (N, 48, 48) with values in [0, 1] by rows of length 1, shape (N, 80).

    The product of two rows is their cosine, which is high if both pictures show the same.
    """
    import cv2

    network = cv2.dnn.readNetFromONNX(str(NETWORK))
    descriptors = np.empty((len(thumbnails), SIZE), dtype=np.float32)
    for start in range(0, len(thumbnails), _BLOCK):
        part = 255 * thumbnails[start : start + _BLOCK].astype(np.float32)
        mean, deviation = part.mean((1, 2), keepdims=True), part.std((1, 2), ddof=1, keepdims=True)
        network.setInput(np.ascontiguousarray(((part - mean) / (deviation + 4))[:, None]))
        descriptors[start : start + _BLOCK] = network.forward()
    unit: Descriptors = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
    return unit


def hash_descriptors(descriptors: Descriptors) -> Hashes:
    """Signs of the descriptors, uint8, shape (N, 10)."""
    return np.packbits(descriptors > 0, axis=1)


def similarity_to_hashes(descriptors: Descriptors, hashes: Hashes) -> NDArray[np.float32]:
    """Highest cosine, shape (N,), of each descriptor (N, 80) with the signs in any hash (M, 10) of other pictures."""
    signs = (np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1) / np.float32(np.sqrt(SIZE))
    best = np.full(len(descriptors), -1, dtype=np.float32)
    if len(hashes):
        for start in range(0, len(descriptors), _BLOCK):
            best[start : start + _BLOCK] = (descriptors[start : start + _BLOCK] @ signs.T).max(axis=1)
    return best


def read_hashes(path: Path) -> Hashes:
    """Read hashes written by `numpy.save`, without unpickling; raises `BenchboxError` for any other content."""
    try:
        hashes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BenchboxError(f"hashes {path}: {error}", hint="install benchbox again") from error
    if not isinstance(hashes, np.ndarray) or hashes.dtype != np.uint8 or hashes.shape[1:] != (HASH_BYTES,):
        raise BenchboxError(f"hashes {path}: not rows of {HASH_BYTES} bytes", hint="install benchbox again")
    return hashes


@dataclass(frozen=True)
class Links:
    """Pairs of duplicate images."""

    links: NDArray[np.int32]  # shape (M, 3); two positions and `EXACT`, `NEAR` or `MIRRORED`
    similarity: NDArray[np.float64]  # shape (M,); 1 for identical images


@dataclass(frozen=True)
class Duplicates(Links):
    """Duplicates within and between sets of images; positions count through all sets."""

    group_of: NDArray[np.int32]  # shape (N,); number of each image's group, -1 for an image that is alone

    def groups(self) -> list[NDArray[np.intp]]:
        """Positions of each group, ascending."""
        members = np.flatnonzero(self.group_of >= 0)
        members = members[np.argsort(self.group_of[members], kind="stable")]
        return np.split(members, np.flatnonzero(np.diff(self.group_of[members])) + 1) if len(members) else []


def find_duplicates(sets: Sequence[ImageSet]) -> Duplicates:
    """Compare all images with each other.

    Within a set, links that follow from others are left out. An image has at most one link to each earlier set.
    """
    pictures = [_Pictures(images) for images in sets]
    offsets = np.cumsum([0, *map(len, sets)])
    links, similarity = [np.empty((0, 3), dtype=np.int32)], [np.empty(0)]
    for place, later in enumerate(pictures):
        for earlier, other in enumerate(pictures[: place + 1]):
            pairs = _links(later, other)
            links.append(pairs.links + np.array([offsets[place], offsets[earlier], 0], dtype=np.int32))
            similarity.append(pairs.similarity)
    every = np.concatenate(links)
    every[:, :2].sort(axis=1)
    return Duplicates(every, np.concatenate(similarity), group(every, int(offsets[-1])))


def links_within(images: ImageSet) -> Links:
    """Compare the images of a set with each other; links that follow from others are left out."""
    pictures = _Pictures(images)
    return _links(pictures, pictures)


def links_between(images: ImageSet, others: ImageSet) -> Links:
    """Find at most one duplicate in `others` for each image; positions in `images` come first."""
    return _links(_Pictures(images), _Pictures(others))


def match_hashes(images: ImageSet, path: Path) -> NDArray[np.bool_]:
    """Find images that probably match a hash in a file, shape (N,); the result is cached by content."""
    import xxhash

    hashes = read_hashes(path)
    cache = CacheFolder("duplicates")
    contents = [images.dataset, images.fingerprint, xxhash.xxh3_128_hexdigest(np.ascontiguousarray(hashes).data)]
    entry = f"{digest([_FORMAT, LIKE_A_HASH, contents])}.json"
    places = cache.read_json(entry)
    if places is None:
        likeness = similarity_to_hashes(_Pictures(images).descriptors, hashes)
        places = np.flatnonzero(likeness >= LIKE_A_HASH).tolist()
        cache.write_json(entry, places)
    matches = np.zeros(len(images), dtype=np.bool_)
    matches[places] = True
    return matches


def group(links: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Number of each image's group of linked images, in order of their first images; -1 without a link."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group_of = np.full(count, -1, dtype=np.int32)
    linked = np.unique(links[:, :2])
    if len(linked):
        graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(count, count))
        labels = connected_components(graph, directed=False)[1][linked]
        group_of[linked] = np.unique(labels, return_inverse=True)[1].reshape(-1)
    return group_of


class _Pictures:
    """The images of a set as the search needs them, read on first use."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    @cached_property
    def _content(self) -> tuple[list[bytes], Thumbnails]:
        contents = [b""] * len(self.images)
        thumbnails = np.empty((len(self.images), SIDE, SIDE), dtype=np.float16)
        for positions, digests, part in _read(self.images):
            thumbnails[positions] = part
            for position, content in zip(positions.tolist(), digests, strict=True):
                contents[position] = content
        return contents, thumbnails

    @property
    def thumbnails(self) -> Thumbnails:
        return self._content[1]

    @cached_property
    def place_of(self) -> dict[bytes, int]:
        """Position of the first image with each content."""
        places: dict[bytes, int] = {}
        for position, content in enumerate(self._content[0]):
            places.setdefault(content, position)
        return places

    @cached_property
    def firsts(self) -> NDArray[np.intp]:
        """Position of the first image identical to each."""
        return np.array([self.place_of[content] for content in self._content[0]], dtype=np.intp)

    def places_in(self, other: _Pictures) -> NDArray[np.intp]:
        """Position of an identical image in another set; -1 if there is none."""
        return np.array([other.place_of.get(content, -1) for content in self._content[0]], dtype=np.intp)

    @cached_property
    def descriptors(self) -> Descriptors:
        return descriptors_of(self.thumbnails)


def _links(pictures: _Pictures, others: _Pictures) -> Links:
    """Find links, or read them from the user's cache folder, where they are stored by content."""
    cache = CacheFolder("duplicates")
    settings = [_FORMAT, PROMISING, CANDIDATES, SIMILAR, FAINT]
    names = [[side.images.dataset, side.images.fingerprint] for side in (pictures, others)]
    entry = f"{digest([settings, names, pictures is others])}.json"
    known = cache.read_json(entry)
    if known is None:
        pairs = _search(pictures, others)
        known = {"links": pairs.links.tolist(), "similarity": [round(value, 4) for value in pairs.similarity.tolist()]}
        cache.write_json(entry, known)
    links = np.asarray(known["links"], dtype=np.int32).reshape(-1, 3)
    return Links(links, np.asarray(known["similarity"], dtype=np.float64))


def _search(pictures: _Pictures, others: _Pictures) -> Links:
    """Find identical images first, then near duplicates of the rest; copies inherit the links of their original."""
    places = np.arange(len(pictures.images))
    first_place = pictures.firsts == places
    if pictures is others:
        copies, originals = np.flatnonzero(~first_place), pictures.firsts[~first_place]
        searched, compared = np.flatnonzero(first_place), np.flatnonzero(first_place)
    else:
        identical = pictures.places_in(others)
        copies, originals = np.flatnonzero(identical >= 0), identical[identical >= 0]
        searched = np.flatnonzero(first_place & (identical < 0))
        compared = np.unique(others.firsts)
    exact = np.column_stack([copies, originals, np.full(len(copies), EXACT)])
    near, similarity = _near(pictures, others, searched, compared)
    if pictures is not others:
        row_of = np.full(len(places), -1)
        row_of[near[:, 0]] = np.arange(len(near))
        repeats = np.flatnonzero(~first_place & (row_of[pictures.firsts] >= 0))
        rows = row_of[pictures.firsts[repeats]]
        near = np.concatenate([near, np.column_stack([repeats, near[rows, 1:]])])
        similarity = np.concatenate([similarity, similarity[rows]])
    return Links(np.concatenate([exact, near]).astype(np.int32), np.concatenate([np.ones(len(exact)), similarity]))


def _near(
    pictures: _Pictures, others: _Pictures, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Propose pairs by descriptors, block by block, and verify the most likely ones first.

    A pair is skipped once a link already settles it.
    """
    within = pictures is others
    links: list[tuple[int, int, int]] = []
    similarity: list[float] = []
    if not len(rows) or not len(columns):
        return np.empty((0, 3), dtype=np.intp), np.empty(0)
    # What settles a pair: within a set, that both have the same group; between sets, that the image has a link.
    group_of, has_link = np.arange(len(pictures.images)), np.zeros(len(pictures.images), dtype=np.bool_)
    queries, answers = pictures.descriptors[rows], others.descriptors[columns]

    def correlate(share: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return _correlate(pictures.thumbnails[share[:, 0]], others.thumbnails[share[:, 1]])

    # Blocks and batches do not depend on the number of threads, so neither does the result.
    with ThreadPoolExecutor(threads()) as pool:
        for start in range(0, len(rows), _ROWS):
            first = start + 1 if within else 0
            pairs, cosines = _candidates(queries[start : start + _ROWS], answers[first:], within)
            pairs = np.column_stack([rows[pairs[:, 0] + start], columns[pairs[:, 1] + first]])
            while len(pairs):
                batch, batch_cosines = pairs[:_BATCH], cosines[:_BATCH]
                shares = [batch[place : place + _SHARE] for place in range(0, len(batch), _SHARE)]
                verified = list(pool.map(correlate, shares))
                likeness = 0.625 * np.concatenate([scores for scores, _ in verified]) + 0.375 * batch_cosines
                mirrored = np.concatenate([flags for _, flags in verified])
                for place in np.flatnonzero(likeness >= SIMILAR).tolist():
                    left, right = batch[place].tolist()
                    if group_of[left] == group_of[right] if within else has_link[left]:
                        continue
                    links.append((left, right, MIRRORED if mirrored[place] else NEAR))
                    similarity.append(float(likeness[place]))
                    has_link[left] = True
                    if within:
                        group_of[group_of == group_of[right]] = group_of[left]
                pairs, cosines = pairs[_BATCH:], cosines[_BATCH:]
                settled = group_of[pairs[:, 0]] == group_of[pairs[:, 1]] if within else has_link[pairs[:, 0]]
                pairs, cosines = pairs[~settled], cosines[~settled]
    return np.array(links, dtype=np.intp).reshape(-1, 3), np.array(similarity)


def _candidates(
    queries: Descriptors, answers: Descriptors, within: bool
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Pairs of similar descriptors, most similar first; within a set each pair once, with the earlier image first."""
    cosines = queries @ answers.T
    if within:
        cosines = np.triu(cosines)
    pairs = np.argwhere(cosines >= PROMISING)
    values = cosines[pairs[:, 0], pairs[:, 1]]
    order = np.lexsort((-values, pairs[:, 0]))
    pairs, values = pairs[order], values[order]
    rank = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
    pairs, values = pairs[rank < CANDIDATES], values[rank < CANDIDATES]
    order = np.argsort(-values, kind="stable")
    return pairs[order], values[order]


def _correlate(ones: Thumbnails, others: Thumbnails) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Correlation of details after alignment, -1 if a picture is too empty, and whether the pair is mirrored."""
    from benchbox.audit.alignment import ZOOMS, align_pairs

    count = len(ones)
    halves, middles, fines = bands_of(np.concatenate([ones, others]))
    scores, mirrored = np.empty(count, dtype=np.float32), np.empty(count, dtype=np.bool_)
    places = np.column_stack([np.arange(count), np.arange(count, 2 * count)])
    align_pairs(halves, middles, fines, places, ZOOMS, scores, mirrored)
    faint = fines.std(axis=(1, 2)) <= FAINT
    return np.where(faint[:count] | faint[count:], np.float32(-1), scores), mirrored


def bands_of(thumbnails: Thumbnails) -> tuple[Images, Images, Images]:
    """Split pictures of shape (N, 48, 48) into bands of detail: differences of Gaussian blurs, in grey levels.

    Blurs of 1.5 and 8 pixels at half the size, shape (N, 24, 24); of 1.8 and 6 pixels; and of 1 and 3 pixels.
    """
    from scipy.ndimage import gaussian_filter

    levels = 255 * thumbnails.astype(np.float32)

    def band(fine: float, coarse: float) -> Images:
        blurred = (gaussian_filter(levels, sigma, axes=(1, 2), mode="reflect") for sigma in (fine, coarse))
        return np.ascontiguousarray(next(blurred) - next(blurred), dtype=np.float32)

    half = SIDE // 2
    halves = band(1.5, 8).reshape(-1, half, 2, half, 2).mean(axis=(2, 4), dtype=np.float32)
    return np.ascontiguousarray(halves), band(1.8, 6), band(1, 3)


def _read(images: ImageSet) -> Iterator[tuple[NDArray[np.intp], list[bytes], Images]]:
    """Read all images in blocks of one size: positions, digests of the pixels, and thumbnails."""
    import xxhash

    sizes, kinds = np.unique(images.shapes, axis=0, return_inverse=True)
    for kind, (height, width) in enumerate(sizes.tolist()):
        indices = np.flatnonzero(kinds.reshape(-1) == kind)
        count = max(1, _BLOCK_PIXELS // (height * width))
        for start in range(0, len(indices), count):
            part = indices[start : start + count]
            stack = images.stack(part)
            if images.channels > 1:
                stack = luminance(stack)
            size = f"{height}x{width}".encode()
            yield part, [size + xxhash.xxh3_128_digest(image.data) for image in stack], thumbnails_of(stack)


def thumbnails_of(stack: Images) -> Images:
    """Average images of one size to 48x48 pixels."""
    if stack.shape[1:] == (SIDE, SIDE):
        return stack
    import cv2

    resized = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in stack]
    return np.ascontiguousarray(np.stack(resized), dtype=np.float32)
