"""Reads the image-folder edition of FER2013: one file per face, in folders named by split and emotion."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.face_cache import FaceCache
from benchbox.builtin.datasets.faces import EMOTIONS, PIXELS, SIDE, SPLITS, UNNAMED_TEST, Faces, Rows
from benchbox.builtin.datasets.image_files import (
    HEADER_BYTES,
    Picture,
    UnreadableImage,
    claimed_size,
    decode_files,
    is_image_name,
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
# Archives put the faces below folders of their own, such as archive/images/images/train/happy.
_DEEPEST = 4
_MOST_FOLDERS = 500
_BLOCK = 1024


@dataclass(frozen=True)
class FaceListing:
    """The pictures of a folder, not yet read.

    Attributes
    ----------
    root : Path
    names : tuple of str
        Paths relative to `root`, with slashes, ascending.
    emotion, usage : tuple of int
        Positions in `EMOTIONS`, and in `SPLITS` or `UNNAMED_TEST`.
    key : str
        Digest over names, sizes and times of change.
    left_out : dict of str to int
        Pictures in folders that name no emotion, by folder.
    """

    root: Path
    names: tuple[str, ...]
    emotion: tuple[int, ...]
    usage: tuple[int, ...]
    key: str
    left_out: dict[str, int]

    @property
    def merged_tests(self) -> bool:
        """Whether there are faces of which only is known that they are in one of the test splits."""
        return UNNAMED_TEST in self.usage


def recognises(path: Path) -> bool:
    """Whether a folder holds 48x48 pictures in ``<split>/<emotion>/``, or in ``<emotion>/`` with telling names.

    They may lie a few folders deeper.
    """
    return _find_root(path) is not None


def _find_root(path: Path) -> Path | None:
    """Find the folder that holds the faces, `path` itself or the first one below it, level by level."""
    level = [path]
    for _ in range(_DEEPEST):
        for folder in level:
            if _holds_faces(folder):
                return folder
        level = [below for folder in level for below in _folders(folder)][:_MOST_FOLDERS]
    return None


def _holds_faces(path: Path) -> bool:
    for split_folder in _split_folders(path):
        for _, folder in _emotion_folders(split_folder, inside_split=split_folder != path):
            first = next(iter(_picture_names(folder)), None)
            if first is not None:
                if split_folder == path and not (_NAMED.search(first) or _split_word(path.name)):
                    return False
                return _is_face_sized(folder / first)
    return False


def list_faces(root: Path) -> FaceListing:
    """List the pictures and tell their splits.

    A file name that holds a split's name (``PublicTest_123.jpg``) tells its split. Otherwise the folder does: ``train``
    is Training. Where there are both ``validation`` (or ``val``) and ``test``, they are PublicTest and PrivateTest;
    where there is only one, it holds both test splits, and which face is of which is unknown (`UNNAMED_TEST`).
    Pictures in folders that name no emotion are left out and counted.

    Raises
    ------
    BenchboxError
        There is no picture.
    """
    import xxhash

    root = _find_root(root) or root
    folders = _split_folders(root)
    words = {_split_word(folder.name) for folder in folders}
    both = bool(words & set(_VALIDATION)) and bool(words & set(_TEST))
    found: list[tuple[str, int, int]] = []
    left_out: dict[str, int] = {}
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
                found.append((name, emotion, usage))
        taken = {folder for _, folder in emotions}
        for folder in [split_folder, *_folders(split_folder)]:
            if folder not in taken and folder != root and (count := len(_picture_names(folder))):
                left_out[filename_text(folder.relative_to(root).as_posix())] = count
    if not found:
        raise BenchboxError(
            f"{root}: no picture in its folders", hint="fer2013 wants train/<emotion>/*.jpg and test/<emotion>/*.jpg"
        )
    names, codes, usages = zip(*sorted(found), strict=True)
    return FaceListing(root, names, codes, usages, hasher.hexdigest(), left_out)


def open_faces(listing: FaceListing, codes: tuple[int, ...], skip_bad: bool) -> tuple[Faces, tuple[str, ...]]:
    """Take the faces from the cache, or decode the pictures and keep them there.

    Parameters
    ----------
    listing : FaceListing
    codes : tuple of int
        Usage codes that will be read.
    skip_bad : bool
        Leave out pictures that do not decode.

    Returns
    -------
    faces : Faces
    names : tuple of str
        Name of each face.

    Raises
    ------
    BenchboxError
        A picture does not decode (and `skip_bad` is False), or none does.
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
                    hint="replace the file or leave it out with --skip-bad; for pictures of any size: --dataset images",
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
            f"{listing.root}: none of {len(skipped)} pictures decodes", hint=next(iter(skipped.values()))
        )


def _face(picture: Picture) -> NDArray[np.uint8]:
    height, width = picture.grey.shape
    if (height, width) != (SIDE, SIDE) or picture.grey.dtype != np.uint8:
        raise UnreadableImage(
            f"{width} x {height} pixels of {8 * picture.grey.itemsize} bit, but a face has {SIDE} x {SIDE} of 8 bit"
        )
    return picture.grey.reshape(-1).astype(np.uint8)


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    except OSError as error:
        raise BenchboxError(f"{path}: {error.strerror or error}", hint="check the folder's permissions") from error


def _picture_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if is_image_name(entry.name))


def _split_folders(path: Path) -> list[Path]:
    """Folders of splits in `path`; `path` itself where the emotions lie directly in it."""
    below = _folders(path)
    if sum(_emotion_of(folder.name) is not None for folder in below) >= 2:
        return [path]
    return [folder for folder in below if _split_word(folder.name)]


def _emotion_folders(split_folder: Path, *, inside_split: bool) -> list[tuple[int, Path]]:
    """Folders of emotions with their codes; a digit is a code only where a split's folder is around it."""
    found = []
    for folder in _folders(split_folder):
        code = _emotion_of(folder.name)
        if code is None and inside_split and folder.name in _DIGITS:
            code = int(folder.name)
        if code is not None:
            found.append((code, folder))
    return found


def _emotion_of(name: str) -> int | None:
    """Code of the one emotion that a folder's name holds, as in ``happy``, ``3_happy`` and ``happy-faces``."""
    codes = {_EMOTION_WORDS[word] for word in _WORDS.findall(name.lower()) if word in _EMOTION_WORDS}
    return codes.pop() if len(codes) == 1 else None


def _split_word(name: str) -> str:
    """Word for a split that a folder's name holds, as in ``train`` and ``FER2013Train``; empty where there is none."""
    words = _WORDS.findall(name.lower())
    joined = ["".join(pair) for pair in itertools.pairwise(words)]  # public_test
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
            return claimed_size(file.read(HEADER_BYTES)) == (SIDE, SIDE)
    except Exception:
        return False
