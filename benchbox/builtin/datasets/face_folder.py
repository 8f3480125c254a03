"""Reads the image-folder edition of FER2013: one file per face, in folders named by split and emotion."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.faces import EMOTIONS, PIXELS, SIDE, SPLITS, UNNAMED_TEST, FaceCache, Faces, Rows
from benchbox.builtin.datasets.headers import UnreadableImage, read_header
from benchbox.builtin.datasets.image_files import (
    HEADER_BYTES,
    Picture,
    decode_files,
    is_image_name,
    is_other_image_name,
)
from benchbox.system.files import open_regular
from benchbox.system.text import filename_text, unique_ids

_TRAIN = ("train", "training")
_VALIDATION = ("validation", "valid", "val", "dev")
_TEST = ("test", "testing")
_SPLIT_FOLDERS = (*_TRAIN, *_VALIDATION, *_TEST, "publictest", "privatetest")
_EMOTION_WORDS = {
    **{word: code for code, word in enumerate(EMOTIONS)},
    "anger": 0,
    "disgusted": 1,
    "fearful": 2,
    "happiness": 3,
    "sadness": 4,
    "surprised": 5,
}
_DIGITS = tuple(str(code) for code in range(len(EMOTIONS)))
_NAMED = re.compile(r"(?:^|[^a-z])(training|publictest|privatetest)(?![a-z])", re.IGNORECASE)
_WORDS = re.compile(r"[a-z]+|[0-9]+")
# Archives add folders around the faces, such as archive/images/images/train/happy.
_MAX_DEPTH = 4
_MAX_FOLDERS = 500
_BLOCK = 1024


@dataclass(frozen=True)
class FaceListing:
    """The images of a folder, not yet read."""

    root: Path
    names: tuple[str, ...]
    """Paths relative to `root`, with slashes, in ascending order."""
    emotion: tuple[int, ...]
    """Positions in `EMOTIONS`."""
    usage: tuple[int, ...]
    """Positions in `SPLITS`, or `UNNAMED_TEST`."""
    key: str
    """Digest of names, sizes and timestamps."""
    left_out: dict[str, int]
    """Number of images in each folder whose name is not an emotion."""
    unread: tuple[str, ...]
    """Names of files in emotion folders whose format is not read."""

    @property
    def merged_tests(self) -> bool:
        """Whether some faces are in a test split, but it is unknown in which of the two."""
        return UNNAMED_TEST in self.usage


def recognises(path: Path) -> bool:
    """Whether a folder, or one a few levels below it, has 48x48 images in ``<split>/<emotion>/`` or ``<emotion>/``.

    Without split folders, the name of the first image or of the folder must name a split.
    """
    return _find_root(path) is not None


def _find_root(path: Path) -> Path | None:
    """Find the folder with the faces by a breadth-first search from `path`."""
    level = [path]
    for _ in range(_MAX_DEPTH):
        for folder in level:
            if _has_faces(folder):
                return folder
        level = [subfolder for folder in level for subfolder in _folders(folder)][:_MAX_FOLDERS]
    return None


def _has_faces(path: Path) -> bool:
    for split_folder in _split_folders(path):
        for _, folder in _emotion_folders(split_folder, inside_split=split_folder != path):
            first = next(iter(_picture_names(folder)), None)
            if first is not None:
                if split_folder == path and not (_NAMED.search(first) or _split_word(path.name)):
                    return False
                return _is_face_sized(folder / first)
    return False


def list_faces(root: Path) -> FaceListing:
    """List the images and find out their splits; raises `BenchboxError` if there is no image.

    A split in the file name (``PublicTest_123.jpg``) decides. Otherwise the folder does: ``train`` is Training. If
    there are both ``validation`` (or ``val``) and ``test``, they are PublicTest and PrivateTest. If there is only one
    of them, it contains both test splits, and the split of each face is unknown (`UNNAMED_TEST`). Images in folders
    whose name is not an emotion are left out and counted.
    """
    import xxhash

    root = _find_root(root) or root
    folders = _split_folders(root)
    words = {_split_word(folder.name) for folder in folders}
    both = bool(words & set(_VALIDATION)) and bool(words & set(_TEST))
    faces: list[tuple[str, int, int]] = []
    left_out: dict[str, int] = {}
    unread: list[str] = []
    hasher = xxhash.xxh3_128()
    for split_folder in folders:
        emotions = _emotion_folders(split_folder, inside_split=split_folder != root)
        for emotion, folder in emotions:
            relative = folder.relative_to(root).as_posix()
            for picture in _picture_names(folder):
                status = (folder / picture).stat()
                name = f"{relative}/{picture}"
                usage = _usage(picture, _split_word(split_folder.name), both)
                hasher.update(
                    os.fsencode(f"{name}\0{usage} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n")
                )
                faces.append((name, emotion, usage))
            unread += _picture_names(folder, is_other_image_name)
        used = {folder for _, folder in emotions}
        for folder in [split_folder, *_folders(split_folder)]:
            if folder not in used and folder != root and (count := len(_picture_names(folder))):
                left_out[filename_text(folder.relative_to(root).as_posix())] = count
    if not faces:
        raise BenchboxError(
            f"{root}: no image in its folders", hint="arrange images as train/<emotion>/*.jpg and test/<emotion>/*.jpg"
        )
    names, codes, usages = zip(*sorted(faces), strict=True)
    return FaceListing(root, names, codes, usages, hasher.hexdigest(), left_out, tuple(unread))


def open_faces(listing: FaceListing, codes: tuple[int, ...], skip_bad: bool) -> tuple[Faces, tuple[str, ...]]:
    """Load the faces and their names from the cache, or decode the images and cache them.

    `codes` are the usage codes that will be read. Raises `BenchboxError` if an image cannot be decoded and `skip_bad`
    is off, or if none can be decoded.
    """
    cache = FaceCache()
    key = cache.key(len(listing.names), listing.key, "-folder" + ("-skipped" if skip_bad else ""))
    faces = cache.load(key, codes)
    if faces is None:
        skipped: dict[str, str] = {}
        cache.store(_decoded(listing, skip_bad, skipped), lambda: key, lambda: skipped)
        faces = cache.load(key, codes)
    if faces is None:
        raise cache.unreliable()
    return faces, unique_ids([name for name in listing.names if name not in faces.skipped])


def _decoded(listing: FaceListing, skip_bad: bool, skipped: dict[str, str]) -> Iterator[Rows]:
    emotion, usage = (np.array(codes, dtype=np.uint8) for codes in (listing.emotion, listing.usage))
    pixels = np.empty((_BLOCK, PIXELS), dtype=np.uint8)
    good: list[int] = []
    for index, (name, outcome) in enumerate(decode_files(listing.root, listing.names, _face)):
        if isinstance(outcome, UnreadableImage):
            if not skip_bad:
                raise BenchboxError(
                    f"{listing.root / name}: {outcome}",
                    hint=f"{outcome.remedy} or skip it with --skip-bad; for images of any size use --dataset images",
                )
            skipped[name] = f"{filename_text(name)}: {outcome}"
            continue
        pixels[len(good)] = outcome
        good.append(index)
        if len(good) == _BLOCK:
            yield Rows(pixels, emotion[good], usage[good])
            good = []
    if good:
        yield Rows(pixels[: len(good)], emotion[good], usage[good])
    if len(skipped) == len(listing.names):
        raise BenchboxError(
            f"{listing.root}: no image of {len(skipped)} can be decoded", hint=next(iter(skipped.values()))
        )


def _face(picture: Picture) -> NDArray[np.uint8]:
    height, width = picture.grey.shape
    if (height, width) != (SIDE, SIDE) or picture.grey.dtype != np.uint8:
        raise UnreadableImage(
            f"{width} x {height} pixels of {8 * picture.grey.itemsize} bits, but a face has {SIDE} x {SIDE} of 8 bits"
        )
    if picture.white != 255:
        raise UnreadableImage(f"its white is {picture.white}, but that of a face is 255")
    return picture.grey.reshape(-1).astype(np.uint8)


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    except OSError as error:
        raise BenchboxError(f"{path}: {error.strerror or error}", hint="check the folder's permissions") from error


def _picture_names(folder: Path, accepts: Callable[[str], bool] = is_image_name) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if accepts(entry.name))
    except OSError as error:
        raise BenchboxError(f"{folder}: {error.strerror}", hint="check the folder's permissions") from error


def _split_folders(path: Path) -> list[Path]:
    """Split folders in `path`, or `path` itself if it contains the emotion folders directly."""
    subfolders = _folders(path)
    if sum(_emotion_of(folder.name) is not None for folder in subfolders) >= 2:
        return [path]
    return [folder for folder in subfolders if _split_word(folder.name)]


def _emotion_folders(split_folder: Path, *, inside_split: bool) -> list[tuple[int, Path]]:
    """Emotion folders with their codes; a digit counts as a code only inside a split folder."""
    emotions = []
    for folder in _folders(split_folder):
        code = _emotion_of(folder.name)
        if code is None and inside_split and folder.name in _DIGITS:
            code = int(folder.name)
        if code is not None:
            emotions.append((code, folder))
    return emotions


def _emotion_of(name: str) -> int | None:
    """Code of the only emotion in a folder's name, as in ``happy``, ``3_happy`` and ``happy-faces``."""
    codes = {_EMOTION_WORDS[word] for word in _WORDS.findall(name.lower()) if word in _EMOTION_WORDS}
    return codes.pop() if len(codes) == 1 else None


def _split_word(name: str) -> str:
    """Word for a split in a folder's name, as in ``train`` and ``public_test``; empty if there is none."""
    words = _WORDS.findall(name.lower())
    joined = ["".join(pair) for pair in itertools.pairwise(words)]  # public_test is two words
    return next((word for word in (*joined, *words) if word in _SPLIT_FOLDERS), "")


def _usage(name: str, folder: str, both: bool) -> int:
    named = _NAMED.search(name)
    word = named.group(1).lower() if named else folder
    for code, split in enumerate(SPLITS):
        if word == split.lower():
            return code
    if word in _TRAIN:
        return SPLITS.index("Training")
    if both:
        return SPLITS.index("PublicTest" if word in _VALIDATION else "PrivateTest")
    return UNNAMED_TEST


def _is_face_sized(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            header = read_header(file.read(HEADER_BYTES))
            return (header.width, header.height) == (SIDE, SIDE)
    except Exception:
        return False
