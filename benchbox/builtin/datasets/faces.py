"""Facts about FER2013 (size, splits, emotions), and the parsed faces of one csv or folder with their cache."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.lib import format as npy
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError
from benchbox.system.files import CACHE_VARIABLE, CacheFolder

SIDE = 48
PIXELS = SIDE * SIDE
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
OTHER_EMOTION = len(EMOTIONS)
"""Code of a face without a label, or with another one, such as the contempt of some editions."""

EMOTION_NAMES = (*EMOTIONS, "other")
SPLITS = ("Training", "PublicTest", "PrivateTest")
"""Values of the column Usage; the position is the code that is stored."""

BOTH_TESTS = "PublicTest+PrivateTest"
"""Both test splits together: all that a folder offers if its file names do not tell them apart."""

UNNAMED_TEST = len(SPLITS)
"""Code of a face that is in one of the two test splits, but it is unknown in which."""

_BLOCK = 4096
_FORMAT = 2
_SAMPLES, _SAMPLE_BYTES = 32, 4096


@dataclass(frozen=True)
class Rows:
    """A block of parsed faces, to be written to the cache.

    `pixels` has shape (M, 2304). `emotion` and `usage`, shape (M,), are positions in `EMOTION_NAMES`, and in `SPLITS`
    or `UNNAMED_TEST`.
    """

    pixels: NDArray[np.uint8]
    emotion: NDArray[np.uint8]
    usage: NDArray[np.uint8]


@dataclass(frozen=True)
class Faces:
    """All faces of one csv or folder.

    `pixels`, shape (N, 48, 48), is a memory map. `emotion` and `usage`, shape (N,), are positions in `EMOTION_NAMES`,
    and in `SPLITS` or `UNNAMED_TEST`. `digests` has a hex digest of the pixels of each usage code, keyed by the code as
    text. `skipped` maps damaged rows ('line 7') or files (a relative path) to the reason.
    """

    pixels: NDArray[np.uint8]
    emotion: NDArray[np.uint8]
    usage: NDArray[np.uint8]
    digests: dict[str, str]
    skipped: dict[str, str] = field(default_factory=dict)


def codes_of(split: str) -> tuple[int, ...]:
    """Usage codes of a split."""
    if split == BOTH_TESTS:
        return (SPLITS.index("PublicTest"), SPLITS.index("PrivateTest"), UNNAMED_TEST)
    return (SPLITS.index(split),)


def blocks_of(pixels: NDArray[np.uint8], rows: NDArray[np.intp]) -> Iterator[NDArray[np.uint8]]:
    """Yield the faces at ascending `rows` in C-contiguous blocks; consecutive rows are not copied."""
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        consecutive = int(part[-1]) - int(part[0]) + 1 == len(part)
        yield pixels[part[0] : part[-1] + 1] if consecutive else pixels[part]


class FaceCache:
    """Parsed faces on disk.

    An entry consists of three files, named by format, size and digest of the source: ``.pixels.npy``, ``.labels.npy``
    and, written last, ``.json`` with digests. The name determines the content, so two processes that write the same
    entry at once replace a file with an identical one. Everything read is compared with its digest; an entry that does
    not match counts as missing.
    """

    def __init__(self) -> None:
        self.folder = CacheFolder("fer2013")

    def load(self, key: str, codes: Iterable[int]) -> Faces | None:
        """Open an entry and verify the pixels of the usage codes `codes`; None if it is missing or damaged."""
        card = self.folder.read_json(f"{key}.json")
        if card is None:
            return None
        try:
            stored_labels = self._path(key, "labels.npy").read_bytes()
            if xxhash.xxh3_128_hexdigest(stored_labels) != card["labels"]:
                return None
            labels = np.load(io.BytesIO(stored_labels), allow_pickle=False)
            # A read-only map shares its physical pages between processes.
            pixels = np.load(self._path(key, "pixels.npy"), mmap_mode="r", allow_pickle=False).view(np.ndarray)
            if pixels.dtype != np.uint8 or pixels.shape != (labels.shape[1], SIDE, SIDE):
                return None
            usage = labels[1]
            for code in codes:
                rows = np.flatnonzero(usage == code)
                if len(rows) and _digest(blocks_of(pixels, rows)) != card["digests"][str(code)]:
                    return None
            return Faces(pixels, labels[0], usage, card["digests"], card["skipped"])
        except (OSError, ValueError, KeyError, EOFError):
            return None

    def store(self, rows: Iterable[Rows], key_of: Callable[[], str], skipped: Callable[[], Mapping[str, str]]) -> str:
        """Write an entry while its rows are parsed, and return its key.

        `key_of` and `skipped` are called after the last row, because the digest of the source and the list of damaged
        rows are only known then. Raises `BenchboxError` if the folder cannot be written.
        """
        emotion: list[NDArray[np.uint8]] = []
        usage: list[NDArray[np.uint8]] = []
        hashers: dict[int, Any] = {}
        with self.folder.temporary() as (file, temporary):
            file.write(_npy_header(0))
            for block in rows:
                with self.folder.writing():
                    file.write(block.pixels.data)
                emotion.append(block.emotion.copy())
                usage.append(block.usage.copy())
                for code in np.unique(block.usage).tolist():
                    hasher = hashers.setdefault(code, xxhash.xxh3_128())
                    for part in blocks_of(block.pixels, np.flatnonzero(block.usage == code)):
                        hasher.update(part.data)
            labels = np.stack([np.concatenate(emotion), np.concatenate(usage)])
            key = key_of()
            with self.folder.writing():
                file.seek(0)
                file.write(_npy_header(labels.shape[1]))
                self.folder.publish(file, temporary, f"{key}.pixels.npy")
        stored_labels = io.BytesIO()
        npy.write_array(stored_labels, labels, allow_pickle=False)
        with self.folder.temporary() as (file, temporary), self.folder.writing():
            file.write(stored_labels.getbuffer())
            self.folder.publish(file, temporary, f"{key}.labels.npy")
        card = {
            "labels": xxhash.xxh3_128_hexdigest(stored_labels.getbuffer()),
            "digests": {str(code): hasher.hexdigest() for code, hasher in hashers.items()},
            "skipped": dict(skipped()),
        }
        self.folder.write_json(f"{key}.json", card)
        return key

    def recall(self, path: Path, flavour: str = "") -> str | None:
        """Key of a file when it was last parsed, or None if the file has changed since.

        Compares size, timestamps, inode and a hash of sampled blocks, so that an unchanged file of 270 MB is not read.
        """
        seen = self.folder.read_json(_index_name(path, flavour))
        return str(seen["key"]) if seen is not None and seen["look"] == _look(path) else None

    def remember(self, path: Path, key: str, flavour: str = "") -> None:
        """Store the key of a file for `recall`."""
        self.folder.write_json(_index_name(path, flavour), {"key": key, "look": _look(path)})

    def keys_of_size(self, size: int) -> list[str]:
        """Keys of the entries whose source had this many bytes."""
        return sorted(path.name.removesuffix(".json") for path in self.folder.path.glob(f"v{_FORMAT}-{size}-*.json"))

    @staticmethod
    def key(size: int, digest: str, flavour: str = "") -> str:
        """Key of a source with this size in bytes and this digest."""
        return f"v{_FORMAT}-{size}-{digest}{flavour}"

    def unreliable(self) -> BenchboxError:
        """Error for an entry that was just written but cannot be read back."""
        return BenchboxError(
            f"cache folder {self.folder.path}: data just written cannot be read back",
            hint=f"check the disk, which may be full or failing, or set {CACHE_VARIABLE} to a folder on another one",
        )

    def _path(self, key: str, extension: str) -> Path:
        return self.folder.path / f"{key}.{extension}"


def _npy_header(count: int) -> bytes:
    """Npy header for `count` faces; its length is constant, so it can be rewritten once the count is known."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, {SIDE}, {SIDE}), }}"
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"


def _digest(blocks: Iterable[NDArray[np.uint8]]) -> str:
    hasher = xxhash.xxh3_128()
    for block in blocks:
        hasher.update(np.ascontiguousarray(block).data)
    return hasher.hexdigest()


def _index_name(path: Path, flavour: str) -> str:
    return f"seen-{xxhash.xxh3_128_hexdigest(os.fsencode(path.resolve()))}{flavour}.json"


def _look(path: Path) -> list[int | str]:
    """Values that stay the same as long as a file is unchanged."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        hasher = xxhash.xxh3_128()
        for position in np.linspace(0, max(0, status.st_size - _SAMPLE_BYTES), _SAMPLES).astype(np.int64).tolist():
            file.seek(position)
            hasher.update(file.read(_SAMPLE_BYTES))
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, hasher.hexdigest()]
