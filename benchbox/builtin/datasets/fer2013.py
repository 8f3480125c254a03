"""FER2013: 48x48 grey faces, read from the challenge's csv or from a folder of images."""

from __future__ import annotations

import io
from pathlib import Path
from types import MappingProxyType
from typing import cast

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.api.dataset import Dataset, ImageSet, fingerprint_of
from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.builtin.datasets import face_folder
from benchbox.builtin.datasets.csv_reader import CsvReader, looks_like_header, read_header
from benchbox.builtin.datasets.faces import (
    BOTH_TESTS,
    EMOTION_NAMES,
    OTHER_EMOTION,
    SIDE,
    SPLITS,
    UNNAMED_TEST,
    FaceCache,
    Faces,
    codes_of,
)
from benchbox.builtin.datasets.image_files import unread_note
from benchbox.builtin.datasets.opening import ARCHIVES, open_csv, read_head, require_exists
from benchbox.builtin.datasets.pair_layouts import is_pairs_csv

_WHITE = np.float32(255)
_DEFAULT_NOTES = {
    "PublicTest": "the data have no PrivateTest: PublicTest is scored, on which the networks' weights were chosen",
    "Training": "the data have no test split, so the Training faces are scored",
}
_SKIPPED = "-skipped"
_NAMED_FOLDERS = 5
_JPEG_NOTE = "the folder edition is JPEG-compressed; its pixels differ from the csv by about two grey levels"


class Fer2013(Dataset):
    """The faces of the facial expression challenge at ICML 2013, in either of two editions.

    The **csv** has the columns emotion (0 to 6), pixels (2304 grey levels from 0 to 255, row by row) and Usage
    (Training, PublicTest or PrivateTest) in any order, separated by commas or semicolons. Spaces around names and
    values, quotes, a byte-order mark, either line ending and additional columns are accepted. Without a column Usage,
    all rows are training faces if there is a column emotion and test faces otherwise, as published by the challenge.
    The csv may be in a zip, gzip or tar archive. The **folder** contains ``train/<emotion>/*.jpg`` and
    ``test/<emotion>/*.jpg``; `face_folder` describes how the split of an image is found.

    An image's id is ``<split>/<position within the split>`` in a csv and the relative path in a folder. Grey levels are
    divided by 255.
    """

    name = "fer2013"
    summary = "48x48 grey faces of the ICML 2013 challenge: fer2013.csv, icml_face_data.csv or a folder of images"
    reference = "Goodfellow et al. 2015, doi:10.1016/j.neunet.2014.09.005"
    splits = ("PrivateTest", "PublicTest", BOTH_TESTS, "Training")
    fitted = "Training"
    validated = "PublicTest"
    tested = "PrivateTest"
    label_names = MappingProxyType({"emotion": EMOTION_NAMES})

    def training_hashes(self) -> Path | None:
        """Hashes of the 28,709 Training faces in the folder edition."""
        return Path(__file__).with_name("fer2013-training-hashes.npy")

    def recognises(self, path: Path) -> bool:
        """Whether `path` is a csv, an archive, or a folder of faces sorted by split and emotion."""
        if path.is_dir():
            return face_folder.recognises(path)
        if not path.is_file():
            return False
        named = path.name.lower().endswith((".csv", *ARCHIVES)) and not is_pairs_csv(path)
        return named or looks_like_header(read_head(path))

    def load(self, path: Path | None, *, split: str = "", skip_bad: bool = False) -> ImageSet:
        """Open a split, by default the first of `splits` there is, or both tests that are not told apart.

        The label 'emotion' has positions in `EMOTION_NAMES`; there is no label if no face has an emotion. Parsed faces
        are cached, so that only the first call reads the file; see `faces.FaceCache`. The cache takes 83 MB for
        the whole data set and may be deleted at any time. Raises `BenchboxError` if the data are missing or damaged or
        lack the split.
        """
        if path is None:
            raise BenchboxError("fer2013 is not built in", hint="give its csv or folder with --data fer2013.csv")
        if split and split not in self.splits:
            raise BenchboxError(f"fer2013 has no split '{split}'", hint=did_you_mean(split, self.splits))
        require_exists(path)
        if path.is_dir():
            return self._folder(path, split, skip_bad)
        for candidate in (split,) if split else self.splits:
            faces = _open_csv(path, codes_of(candidate), skip_bad)
            rows = _rows_of(faces, candidate)
            if len(rows):
                ids = tuple(_csv_ids(faces.usage[rows]))
                return _image_set(faces, rows, candidate, ids, _default_note(candidate, split))
        raise _no_split(path, split, faces)

    def _folder(self, path: Path, split: str, skip_bad: bool) -> ImageSet:
        listing = face_folder.list_faces(path)
        asked = split
        if not split:
            present = [name for name in self.splits if not set(codes_of(name)).isdisjoint(listing.usage)]
            split = BOTH_TESTS if listing.merged_tests else present[0]
        faces, names = face_folder.open_faces(listing, codes_of(split), skip_bad)
        rows = _rows_of(faces, split)
        if not len(rows):
            if listing.merged_tests and split in ("PublicTest", "PrivateTest"):
                raise BenchboxError(
                    f"{path}: {split} cannot be told from the other test split by the file names in its test folder",
                    hint=f"omit --split, or use --split {BOTH_TESTS}, to score both",
                )
            raise _no_split(path, split, faces)
        jpeg = any(name.lower().endswith((".jpg", ".jpeg")) for name in names)
        notes = _default_note(split, asked) + ((_JPEG_NOTE,) if jpeg else ()) + _left_out(listing.left_out)
        if listing.unread:
            notes += (unread_note(listing.unread),)
        return _image_set(faces, rows, split, tuple(names[row] for row in rows), notes)


def _open_csv(path: Path, codes: tuple[int, ...], skip_bad: bool) -> Faces:
    """Load the faces from the cache, or parse the file and cache them."""
    cache = FaceCache()
    flavour = _SKIPPED if skip_bad else ""
    key = cache.recall(path, flavour)
    faces = cache.load(key, codes) if key else None
    if faces is not None:
        return faces
    read_header(path)
    size = path.stat().st_size
    keys = cache.keys_of_size(size)
    if keys:
        # A file of this size was parsed before: hashing it to compare is cheaper than parsing it again.
        digest = _digest_of(path)
        for candidate in (cache.key(size, digest), *([cache.key(size, digest, _SKIPPED)] if skip_bad else [])):
            if candidate in keys and (faces := cache.load(candidate, codes)) is not None:
                cache.remember(path, candidate, flavour)
                return faces
    reader = CsvReader(path, skip_bad)
    key = cache.store(
        reader.rows(),
        lambda: cache.key(size, reader.digest, _SKIPPED if reader.skipped else ""),
        lambda: reader.skipped,
    )
    cache.remember(path, key, flavour)
    faces = cache.load(key, codes)
    if faces is None:
        raise cache.unreliable()
    return faces


def _digest_of(path: Path) -> str:
    import xxhash

    hasher = xxhash.xxh3_128()
    buffer = memoryview(bytearray(1 << 22))
    with open_csv(path) as file:
        while count := cast(io.BufferedReader, file).readinto(buffer):
            hasher.update(buffer[:count])
    return hasher.hexdigest()


def _rows_of(faces: Faces, split: str) -> NDArray[np.intp]:
    return np.flatnonzero(np.isin(faces.usage, codes_of(split)))


def _csv_ids(usage: NDArray[np.uint8]) -> list[str]:
    names = (*SPLITS, "Test")
    counts = [0] * len(names)
    ids = []
    for code in usage.tolist():
        ids.append(f"{names[code]}/{counts[code]:05d}")
        counts[code] += 1
    return ids


def _no_split(path: Path, split: str, faces: Faces) -> BenchboxError:
    names = (*SPLITS, BOTH_TESTS)
    counts = [int((faces.usage == code).sum()) for code in range(UNNAMED_TEST + 1)]
    present = [f"{name} ({count} faces)" for name, count in zip(names, counts, strict=True) if count]
    return BenchboxError(
        f"{path} has no faces in split {split}", hint=f"choose with --split; it has {', '.join(present)}"
    )


def _default_note(split: str, asked: str) -> tuple[str, ...]:
    """What a reader must know of a split that nobody asked for."""
    return (_DEFAULT_NOTES[split],) if not asked and split in _DEFAULT_NOTES else ()


def _left_out(folders: dict[str, int]) -> tuple[str, ...]:
    if not folders:
        return ()
    named = [f"{folder} ({count})" for folder, count in folders.items()]
    more = f" and {len(named) - _NAMED_FOLDERS} more" if len(named) > _NAMED_FOLDERS else ""
    total = sum(folders.values())
    return (
        f"left out: {total:,} images in folders whose name is not an emotion: "
        f"{', '.join(named[:_NAMED_FOLDERS])}{more}",
    )


def _image_set(
    faces: Faces, rows: NDArray[np.intp], split: str, ids: tuple[str, ...], notes: tuple[str, ...] = ()
) -> ImageSet:
    pixels = faces.pixels

    def read(indices: NDArray[np.intp]) -> Images:
        return np.divide(pixels[rows[indices]], _WHITE, dtype=np.float32)

    if faces.skipped:
        notes = (*notes, f"damaged: {len(faces.skipped)} faces skipped, first {next(iter(faces.skipped.values()))}")
    emotion = faces.emotion[rows]
    other = int((emotion == OTHER_EMOTION).sum())
    if 0 < other < len(rows):
        notes = (*notes, f"emotion: {other:,} of {len(rows):,} faces are labelled 'other', outside the seven emotions")
    digests = [faces.digests[str(code)] for code in codes_of(split) if str(code) in faces.digests]
    return ImageSet(
        dataset=Fer2013.name,
        split=split,
        ids=ids,
        shapes=np.full((len(rows), 2), SIDE, dtype=np.int64),
        fingerprint=fingerprint_of(ids, digests),
        read=read,
        labels={"emotion": emotion} if other < len(rows) else {},
        notes=notes,
    )
