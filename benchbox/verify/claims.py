"""Published numbers, the standard sets of images that they are about, and the runs that are compared with them."""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.engine.data import open_data
from benchbox.engine.events import Event
from benchbox.engine.run import execute
from benchbox.records.options import RunOptions
from benchbox.records.protocol import ProtocolName
from benchbox.registry import Registry
from benchbox.stats.summaries import counted
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


@dataclass(frozen=True)
class Measured:
    """A published number beside the measured one."""

    claim: Claim
    title: str  # name of the image; empty for the mean
    measured: float
    confirmed: bool  # whether the images are known by their content

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        # A published number has two digits: half a unit of the last is its print.
        return abs(self.measured - self.claim.value) <= self.claim.tolerance + 1e-9


def find_sets(folders: Sequence[Path], sets: Sequence[StandardSet], registry: Registry) -> Iterator[Recognised]:
    """Recognise the sets in folders; raises `BenchboxError` for a folder that holds none of them."""
    datasets = {name: entry.cls() for name, entry in registry.datasets.items()}
    for folder in folders:
        images = open_data(RunOptions(data=str(folder), keep_duplicates=True), datasets)
        found = recognise(folder, images, sets)
        if found is None:
            sizes = sorted({f"{height}x{width}" for height, width in images.shapes})
            raise BenchboxError(
                f"{folder}: {len(images)} images with {images.channels} channels ({', '.join(sizes[:4])}) are no "
                "standard set",
                hint="'benchbox verify' without a folder says which sets it knows, and how",
            )
        yield found


def chosen_claims(
    claims: Sequence[Claim], found: Recognised, denoiser: str, known_as: str, levels: Sequence[int]
) -> list[Claim]:
    """Claims about a set and a denoiser, at the given levels or at all."""
    names = (known_as,) if known_as else OURS.get(denoiser.partition(":")[0], (denoiser,))
    return [
        claim
        for claim in claims
        if claim.dataset == found.known.name and claim.denoiser in names and (not levels or claim.level in levels)
    ]


def measure(
    claims: Sequence[Claim], found: Recognised, options: RunOptions, on_event: Callable[[Event], None]
) -> list[Measured]:
    """Run one denoiser as the claims need, one run a protocol, and compare; the runs are not kept.

    Raises `BenchboxError` if a cell has no scores.
    """
    measured = []
    for protocol in dict.fromkeys(claim.protocol for claim in claims):
        wanted = [claim for claim in claims if claim.protocol == protocol]
        levels = sorted({claim.level for claim in wanted})
        with tempfile.TemporaryDirectory(prefix="benchbox-verify-") as folder:
            run = replace(
                options,
                data=str(found.folder),
                noise=tuple(f"gaussian:{level}/255" for level in levels),
                metrics=tuple(dict.fromkeys(claim.metric for claim in wanted)),
                protocol_name=protocol,
                keep_duplicates=True,
                timing=False,
                previews=0,
                results=folder,
            )
            store = execute(run, on_event)
            outcomes = store.outcomes()
            units = {metric.spec: metric.unit for metric in store.record.metrics}
            order = np.argsort(found.order)
            for level, noise in zip(levels, store.record.noises, strict=True):
                (cell,) = (cell for cell in store.record.cells if cell.noise == noise.spec)
                outcome = outcomes.get(cell.key)
                if outcome is None or outcome.status != "ok":
                    raise BenchboxError(
                        f"{options.denoisers[0]} on {found.known.name} at {level}: "
                        + (outcome.reason if outcome else cell.skipped),
                        hint="check the denoiser: benchbox plugins check",
                    )
                scores = store.scores(cell.key)
                for claim in (claim for claim in wanted if claim.level == level):
                    values = counted(scores[claim.metric], units[claim.metric])[order]
                    value = values.mean() if claim.image is None else values[claim.image]
                    title = "" if claim.image is None else found.known.titles[claim.image]
                    measured.append(Measured(claim, title, float(value), found.confirmed))
    return measured
