"""Published numbers as data, and the standard sets of images that they are about."""

from __future__ import annotations

import contextlib
import hashlib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.records.protocol import ProtocolName
from benchbox.system.files import CacheFolder

T = TypeVar("T")
OURS = {"bm3d_lite": ("BM3D", "CBM3D"), "bm3d_reference": ("BM3D", "CBM3D")}
"""The published names, of grey and of colour, that bundled denoisers answer to unless the user names another."""


@dataclass(frozen=True)
class Claim:
    """A published number: the mean over a set, or the score of one image."""

    denoiser: str
    paper: str
    doi: str
    table: str
    dataset: str
    level: int  # noise level, of 255
    protocol: ProtocolName
    metric: str
    value: float
    tolerance: float
    image: int | None = None  # position in the set; None for the mean
    conflicts: bool = False  # whether another paper prints another number; it stands beside and decides nothing
    note: str = ""


@dataclass(frozen=True)
class _Table:
    denoiser: str
    paper: str
    table: str
    dataset: str
    metric: str
    tolerance: float
    mean: dict[int, float]
    doi: str = ""
    protocol: ProtocolName = "rounded-output"
    tolerance_each: float = 0.1
    each: dict[int, list[float]] = field(default_factory=dict)
    conflicts: bool = False
    note: str = ""

    def claims(self) -> list[Claim]:
        """Every number as a claim of its own."""
        shared = (self.denoiser, self.paper, self.doi, self.table, self.dataset)
        numbers = [(level, value, None, self.tolerance) for level, value in self.mean.items()]
        images = [
            (level, value, image, self.tolerance_each)
            for level, values in self.each.items()
            for image, value in enumerate(values)
        ]
        return [
            Claim(*shared, level, self.protocol, self.metric, value, allowed, image, self.conflicts, self.note)
            for level, value, image, allowed in (*numbers, *images)
        ]


@dataclass(frozen=True)
class StandardSet:
    """A set of images that papers use, and how to recognise it."""

    name: str
    images: int
    sizes: tuple[tuple[int, int], ...]
    files: str  # in words
    pattern: str  # of every file's name
    channels: Literal[1, 3] = 1
    blobs: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()  # usual names of its images


@dataclass(frozen=True)
class Recognised:
    """A folder that holds a standard set."""

    folder: Path
    known: StandardSet
    confirmed: bool  # whether the content of every file is the known one
    seen: bool  # whether it has the pixels of a folder that was recognised before
    order: tuple[int, ...]  # position of each of the folder's images in the set


def load_claims() -> tuple[Claim, ...]:
    """Read the published numbers that ship with benchbox."""
    tables = [table for name in ("grey.toml", "colour.toml") for table in _read(name, "tables", _Table)]
    return tuple(claim for table in tables for claim in table.claims())


def load_sets() -> tuple[StandardSet, ...]:
    """Read how the standard sets are recognised."""
    return tuple(_read("sets.toml", "sets", StandardSet))


def _read(name: str, key: str, kind: type[T]) -> list[T]:
    content: dict[str, Any] = tomllib.loads((files("benchbox.verify") / "claims" / name).read_text(encoding="utf-8"))
    # Keys of TOML are texts, so levels are converted; every other type is as declared.
    return msgspec.convert(content[key], list[kind], strict=False)  # type: ignore[valid-type]


def recognise(folder: Path, images: ImageSet, sets: Sequence[StandardSet]) -> Recognised | None:
    """Recognise a standard set by content, or by number, sizes and names; None if it is none of them.

    The pixels of a set are remembered on this machine, so that the same pictures are known again in files of another
    format or with other names.
    """
    digests, cache = pixel_digests(images), CacheFolder("standard-sets")
    for known in sets:
        before = cache.read_json(f"{known.name}.json")
        if before and sorted(digests) == sorted(before["pixels"]):
            order = tuple(before["pixels"].index(digest) for digest in digests)
            return Recognised(folder, known, before["confirmed"], True, order)
    found = _by_files(folder, images, sets)
    if found is not None:
        pixels = [digests[place] for place in sorted(range(len(digests)), key=found.order.__getitem__)]
        remembered = cache.read_json(f"{found.known.name}.json")
        if remembered and remembered["confirmed"] and not found.confirmed:
            return found  # other pictures with the same names do not replace the set itself
        with contextlib.suppress(BenchboxError):  # it is then recognised by its files again
            cache.write_json(f"{found.known.name}.json", {"pixels": pixels, "confirmed": found.confirmed})
    return found


def pixel_digests(images: ImageSet) -> list[str]:
    """Digest of the pixels of each image, whatever the format of its file."""
    stacks = (images.stack(np.array([place], dtype=np.intp)) for place in range(len(images)))
    return [hashlib.blake2b(str(one.shape).encode() + one.tobytes(), digest_size=16).hexdigest() for one in stacks]


def _by_files(folder: Path, images: ImageSet, sets: Sequence[StandardSet]) -> Recognised | None:
    paths = [folder / name for name in images.ids]
    shapes = {(int(height), int(width)) for height, width in images.shapes}
    for known in sets:
        if len(paths) != known.images or images.channels != known.channels or not shapes <= set(known.sizes):
            continue
        if known.blobs:
            found = [blob_digest(path) for path in paths]
            if set(found) == set(known.blobs):
                return Recognised(folder, known, True, False, tuple(known.blobs.index(blob) for blob in found))
        if all(re.fullmatch(known.pattern, path.name, re.IGNORECASE) for path in paths):
            numbers = [int(re.sub(r"\D", "", path.stem)) for path in paths]
            if len(set(numbers)) < len(numbers):
                continue  # two files of one picture, so that another one is missing
            return Recognised(folder, known, False, False, tuple(sorted(numbers).index(number) for number in numbers))
    return None


def blob_digest(path: Path) -> str:
    """First ten digits of the digest that git gives the file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()[:10]
