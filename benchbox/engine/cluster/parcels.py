"""What travels between the client and the machines of a cluster: bytes, decoded with every type checked.

An order says what to compute; an answer has scores, as the Parquet file that the client would write itself, and is
read by the same reader as the files of strangers. Images travel apart, and only to machines that do not see the data.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchbox.api.denoiser import Details, TrainingCard
from benchbox.api.errors import BenchboxError
from benchbox.engine.drawing import Condition, SentImages, read_images
from benchbox.engine.plan import Limits, Shard
from benchbox.engine.shard import ShardScores, ShardTask, cropped_size
from benchbox.engine.timing import TimingTask
from benchbox.records.machines import Machine
from benchbox.records.run import (
    Calibration,
    Count,
    DenoiserRecord,
    Failure,
    Knowledge,
    PluginSpec,
    Positive,
    Provider,
    Timing,
    decode,
)
from benchbox.store import IMAGE
from benchbox.store.layout import columns_of, table_bytes
from benchbox.system.files import write_whole

T = TypeVar("T")
MOST_LOG = 1 << 16


@dataclass(frozen=True)
class Visit:
    """What a machine is asked before it gets any work: is its software that of the client, does it see the data?"""

    version: str  # of benchbox
    code: dict[str, str]  # digest of the code of each package that the run uses
    providers: tuple[Provider, ...]  # of every plugin of the run
    denoisers: tuple[PluginSpec, ...]  # those that depend on files, such as weights
    condition: Condition
    limits: Limits
    # each plugin file and the modules beside it, by the digest of them all: names and contents, the plugin first
    files: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Welcome:
    """Answer to a visit."""

    reason: str = ""  # why the machine must not be used; empty if it may be
    machine: Machine | None = None
    blind: str = ""  # why it does not see the data; empty if it does


@dataclass(frozen=True)
class Order:
    """A shard to score."""

    run: str  # id of the run, whose child processes no other run uses
    denoiser: PluginSpec
    condition: Condition
    metrics: tuple[PluginSpec, ...]
    indices: tuple[Count, ...]
    repeat: Count
    keep: Literal["", "float16", "float32"]
    limits: Limits

    @classmethod
    def of(cls, run: str, task: ShardTask, limits: Limits) -> Order:
        """The order of a task."""
        indices = tuple(task.indices.tolist())
        return cls(run, task.denoiser, task.condition, task.metrics, indices, task.repeat, task.keep, limits)

    def task(self, sent: SentImages | None) -> ShardTask:
        """The task again."""
        indices = np.asarray(self.indices, dtype=np.intp)
        return ShardTask(self.denoiser, self.condition, self.metrics, indices, self.repeat, self.keep, sent)


@dataclass(frozen=True)
class Answer:
    """What came of an order: scores, a failure of the denoiser, or images that cannot be read."""

    table: bytes = b""
    noise_level: Knowledge | Literal[""] = ""
    card: TrainingCard | None = None
    details: Details | None = None
    denoised: bytes = b""
    failure: Failure | None = None
    lost: tuple[str, str] | None = None  # message and hint about images that cannot be read
    log: str = ""  # what the denoiser's process printed

    @classmethod
    def of(cls, result: ShardScores | Failure, log: str = "") -> Answer:
        """The answer with a result."""
        log = log[-MOST_LOG:]
        if isinstance(result, Failure):
            return cls(failure=result, log=log)
        content = io.BytesIO()
        if result.denoised is not None:
            np.save(content, result.denoised, allow_pickle=False)
        table = table_bytes(result.columns)
        return cls(table, result.noise_level, result.card, result.details, content.getvalue(), log=log)

    def result(self, task: ShardTask, size: tuple[int, int]) -> ShardScores | Failure:
        """The result; raises `ValueError` if it is not one of this shard, whose images have this size."""
        if self.failure is not None:
            return self.failure
        known = {IMAGE: "iu", "repeat": "iu"} | dict.fromkeys((metric.spec for metric in task.metrics), "iuf")
        columns = columns_of(self.table, known, "iuf")
        if not np.array_equal(columns[IMAGE], task.indices) or (columns["repeat"] != task.repeat).any():
            raise ValueError("its scores are not of these images")
        denoised = self._images(task, size) if task.keep else None
        if not self.noise_level:
            raise ValueError("it does not say how the noise level was known")
        return ShardScores(columns, self.noise_level, self.card, self.details, denoised)

    def _images(self, task: ShardTask, size: tuple[int, int]) -> NDArray[Any]:
        images: NDArray[Any] = np.load(io.BytesIO(self.denoised), allow_pickle=False)
        size = cropped_size(size) if task.keep == "float16" else size
        if images.dtype != np.dtype(task.keep or "V") or images.shape[:3] != (len(task.indices), *size):
            raise ValueError(f"its images are of shape {images.shape} and type {images.dtype}")
        return images


@dataclass(frozen=True)
class TimingOrder:
    """A denoiser to time, or nothing but the calibration kernel."""

    threads: Positive
    limits: Limits
    denoiser: DenoiserRecord | None = None
    noise: str = ""  # canonical
    images: bytes = b""  # the noisy ones, and the level that the denoiser receives
    batch: Positive = 1
    budget_s: float = 0.0

    @classmethod
    def of(cls, task: TimingTask, limits: Limits) -> TimingOrder:
        """The order of a task."""
        images = io.BytesIO()
        np.savez(images, allow_pickle=False, noisy=task.noisy, **({} if task.sigma is None else {"sigma": task.sigma}))
        return cls(task.threads, limits, task.denoiser, task.noise, images.getvalue(), task.batch, task.budget_s)

    def task(self) -> TimingTask:
        """The task again."""
        assert self.denoiser is not None
        with np.load(io.BytesIO(self.images), allow_pickle=False) as images:
            sigma = images.get("sigma")
            return TimingTask(
                self.denoiser, self.noise, images["noisy"], sigma, self.batch, self.threads, self.budget_s
            )


@dataclass(frozen=True)
class Timed:
    """What came of timing."""

    timing: Timing | None = None
    detail: str = ""  # of a failure
    calibration: Calibration | None = None
    log: str = ""  # what the denoiser's process printed


def pack(value: Any) -> bytes:
    """The bytes of a record."""
    return msgspec.msgpack.encode(value)


def unpack(kind: type[T], content: bytes) -> T:
    """The record in bytes; raises `ValueError` that names the path of a wrong field."""
    return decode(kind, msgspec.msgpack.decode(content))


def pack_images(condition: Condition, shard: Shard) -> bytes:
    """Images of a shard for a machine that does not see the data."""
    images = read_images(condition, shard.indices)
    stacks = [images.clean] if images.noisy is None else [images.clean, images.noisy]
    content, labels = io.BytesIO(), io.BytesIO()
    np.save(content, np.stack(stacks), allow_pickle=False)
    np.savez(labels, allow_pickle=False, **images.labels)
    return pack((images.ids, content.getvalue(), labels.getvalue()))


def unpack_images(content: bytes) -> SentImages:
    """Images as packed by `pack_images`."""
    ids, stacks, labels = msgspec.msgpack.decode(content, type=tuple[list[str], bytes, bytes])
    clean, *noisy = np.load(io.BytesIO(stacks), allow_pickle=False)
    with np.load(io.BytesIO(labels), allow_pickle=False) as named:
        return SentImages(tuple(ids), clean, noisy[0] if noisy else None, dict(named))


def digest_of(contents: Iterable[bytes]) -> str:
    """Digest of a plugin file and the modules beside it, as in `Provider.version`."""
    whole = hashlib.blake2b(digest_size=8)
    for content in contents:
        whole.update(content)
    return whole.hexdigest()


def place_files(files: dict[str, list[tuple[str, bytes]]], folder: Path) -> None:
    """Write the plugin files that travelled into a folder named by their digest, unless they are there."""
    for digest, sources in files.items():
        if digest_of(content for _, content in sources) != digest:
            raise BenchboxError(f"a plugin file does not have the digest {digest}", hint="start the run again")
        for name, content in sources:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise BenchboxError(f"a plugin file is called {name!r}", hint="start the run again")
            place = folder / digest / name
            if not place.is_file() or place.read_bytes() != content:
                place.parent.mkdir(parents=True, exist_ok=True)
                write_whole(place, content)  # in one step, because another worker of this machine may do the same


def placed(value: T, folder: Path) -> T:
    """A record in which every plugin file is the one in `folder`, where `place_files` has put it."""
    if isinstance(value, Provider):
        if value.kind != "file":
            return value
        return replace(value, target=str(folder / value.version / Path(value.target).name))
    if isinstance(value, tuple):
        return tuple(placed(item, folder) for item in value)  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        inner = {item.name: placed(getattr(value, item.name), folder) for item in fields(value)}
        changed = {name: new for name, new in inner.items() if new is not getattr(value, name)}
        return replace(value, **changed) if changed else value
    return value
