"""Reads and writes the folder of one run."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from msgspec import to_builtins
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.api.errors import BenchboxError
from benchbox.records.machines import MachinesRecord
from benchbox.records.options import RunOptions
from benchbox.records.run import Outcome, RunRecord, Timing, decode
from benchbox.store import layout
from benchbox.system.files import damaged_file, explain_errors, flush_folder, read_bounded, read_json, write_whole

T = TypeVar("T")
PARTS = ("scores", "outcomes", "timing", "logs")


@dataclass(frozen=True)
class RunStore:
    """The folder of one run, ``results/<run-id>``, and its record."""

    folder: Path  # ``results/<run-id>``
    record: RunRecord  # everything known before the first score
    # outcomes that were read, by cell, with what the system says of their files
    _outcomes: dict[str, tuple[tuple[int, ...], Outcome]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def create(cls, results: Path, record: RunRecord, images: layout.Columns) -> RunStore:
        """Create the folder of a new run; `images` has the columns id, height, width and labels, of shape (N,)."""
        try:
            _checked(to_builtins(record))
        except ValueError as error:
            raise BenchboxError(
                f"the record of the run would not be readable: {error}",
                hint="correct what a plugin says of itself",
            ) from error
        folder = results / record.run_id
        with explain_errors(folder):
            folder.mkdir(parents=True)
            for part in PARTS:
                (folder / part).mkdir()
        store = cls(folder, record)
        store.keep_images(images)
        # run.json is written last, because a folder counts as a run only once it has one.
        store.keep_record()
        return store

    @classmethod
    def open(cls, folder: Path) -> RunStore:
        """Open the folder of a run; raises `BenchboxError` if it holds none, or one of another format."""
        values = read_json(folder / "run.json")
        if values.get("format") != layout.FORMAT:
            raise BenchboxError(
                f"{folder / 'run.json'} has format {values.get('format')!r}; this version reads {layout.FORMAT}",
                hint="read it with the version of benchbox that wrote it",
            )
        try:
            return cls(folder, _checked(values))
        except ValueError as error:
            raise BenchboxError(f"{folder / 'run.json'}: {error}", hint="the file is damaged; run again") from error

    def write_shard(self, cell: str, start: int, stop: int, columns: layout.Columns, *, machine: str = "") -> None:
        """Write the scores of one shard: images `start` to `stop` of the run's order of work.

        They are flushed to disk with the outcome of the cell; resuming a run checks those of a cell without one.
        `machine` is the key of the machine of a cluster that computed them.
        """
        name = f"scores/{cell}/{start:08d}-{stop:08d}.parquet"
        self._write(name, layout.table_bytes(columns, cell, machine), flushed=False)

    def machine_of(self, cell: str, start: int, stop: int) -> str:
        """Key of the machine that computed a shard; empty for the one of the run itself."""
        return layout.machine_of(self.folder / "scores" / cell / f"{start:08d}-{stop:08d}.parquet")

    def write_machines(self, machines: MachinesRecord) -> None:
        """Write which machines of a cluster computed the run."""
        self._write_json("machines.json", asdict(machines))

    def machines(self) -> MachinesRecord:
        """The machines of a cluster that computed the run, and what was computed twice; empty for a local run."""
        file = self.folder / "machines.json"
        return self._record(MachinesRecord, file, read_json(file)) if file.is_file() else MachinesRecord()

    def finished_shards(self, cell: str) -> list[tuple[int, int]]:
        """Sorted ranges of a cell that have scores on disk."""
        folder = self.folder / "scores" / cell
        names = [layout.SHARD.fullmatch(file.name) for file in folder.iterdir()] if folder.is_dir() else []
        return sorted((int(name[1]), int(name[2])) for name in names if name)

    def scores(self, cell: str) -> dict[str, NDArray[Any]]:
        """Per-image scores of a cell, ordered by image: columns of shape (M,), see `docs/results-format.md`.

        ``image`` is a position in the images' table; ``sigma_true`` and ``sigma_given`` are NaN if undefined. Raises
        `BenchboxError` if a file is damaged.
        """
        tables = [self.shard(cell, start, stop) for start, stop in self.finished_shards(cell)]
        if not tables:
            return {}
        if any(table.keys() != tables[0].keys() for table in tables):
            raise damaged_file(self.folder / "scores" / cell, "its shards have different columns")
        columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
        pairs = np.column_stack([columns[name] for name in (layout.IMAGE, "repeat")])
        if len(np.unique(pairs, axis=0)) != len(pairs):
            raise damaged_file(self.folder / "scores" / cell, "an image has two scores")
        order = np.argsort(columns[layout.IMAGE], kind="stable")
        return {name: values[order] for name, values in columns.items()}

    def shard(self, cell: str, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Per-image scores of one shard; raises `BenchboxError` if missing, damaged or those of another cell."""
        file = self.folder / "scores" / cell / f"{start:08d}-{stop:08d}.parquet"
        table = layout.read_table(
            file,
            {layout.IMAGE: "iu", "repeat": "iu"}
            | dict.fromkeys((metric.spec for metric in self.record.metrics), "iuf"),
            "iuf",
            cell,
        )
        return self._of_images(file, table, stop - start)

    def _of_images(
        self, file: Path, table: dict[str, NDArray[Any]], rows: int | None = None
    ) -> dict[str, NDArray[Any]]:
        """Check that a table has the expected number of rows and refers to images of this run; returns it."""
        images = table[layout.IMAGE]
        if rows not in (None, len(images)) or ((images < 0) | (images >= self.record.data.images)).any():
            raise damaged_file(file, f"its {len(images)} rows are not of images of this run")
        return table

    def write_denoised(self, cell: str, start: int, stop: int, images: Images) -> None:
        """Write the denoised images of one shard before its scores, which mark the shard as done."""
        with explain_errors(self.folder / "denoised"):
            (self.folder / "denoised").mkdir(exist_ok=True)
        content = io.BytesIO()
        np.save(content, images, allow_pickle=False)
        self._write(f"denoised/{cell}/{start:08d}-{stop:08d}.npy", content.getvalue())

    def denoised(self, cell: str, start: int, stop: int) -> Images:
        """Denoised images of one shard, in the order of its scores; raises `BenchboxError` if missing or damaged."""
        file = self.folder / "denoised" / cell / f"{start:08d}-{stop:08d}.npy"
        try:
            images = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise damaged_file(file, str(error)) from error
        if not isinstance(images, np.ndarray) or images.dtype != np.float32 or images.ndim not in (3, 4):
            raise damaged_file(file, "it is not a stack of float32 images")
        if len(images) != stop - start:
            raise damaged_file(file, f"it has {len(images)} images, not {stop - start}")
        return images

    def write_rescored(self, cell: str, stage: str, start: int, stop: int, columns: layout.Columns) -> None:
        """Write scores of one shard of a cell under other protocols; `stage` says from which outputs."""
        with explain_errors(self.folder / "whatif"):
            (self.folder / "whatif").mkdir(exist_ok=True)
        self._write(f"whatif/{cell}/{stage}.{start:08d}-{stop:08d}.parquet", layout.table_bytes(columns, cell))

    def rescored(self, cell: str, stage: str) -> dict[tuple[int, int], dict[str, NDArray[Any]]]:
        """Scores as passed to `write_rescored`, by range; damaged files are left out, because they are made again."""
        tables = {}
        for file in (self.folder / "whatif" / cell).glob(f"{stage}.*.parquet"):
            name = layout.SHARD.fullmatch(file.name.removeprefix(f"{stage}."))
            with contextlib.suppress(BenchboxError):
                if name:
                    ends = int(name[1]), int(name[2])
                    table = layout.read_table(file, {layout.IMAGE: "iu", "repeat": "iu"}, "iuf", cell)
                    tables[ends] = self._of_images(file, table, ends[1] - ends[0])
        return tables

    @property
    def has_rescored(self) -> bool:
        """Whether any scores under other protocols were written."""
        return (self.folder / "whatif").is_dir()

    def keep_record(self) -> None:
        """Write the record, unless one is there."""
        if not (self.folder / "run.json").is_file():
            self._write_json("run.json", asdict(self.record))

    def keep_images(self, images: layout.Columns) -> None:
        """Write the images' table, unless the same one is there."""
        content = layout.table_bytes(images)
        with contextlib.suppress(OSError):
            if read_bounded(self.folder / "images.parquet", len(content)) == content:
                return
        self._write("images.parquet", content)

    def images(self) -> dict[str, NDArray[Any]]:
        """The images' table: columns id, height, width and labels, each of shape (N,)."""
        file = self.folder / "images.parquet"
        table = layout.read_table(file, {"id": "O"})
        ids = table["id"].tolist()
        if len(ids) != self.record.data.images:
            raise damaged_file(file, f"it has {len(ids)} rows, but the run has {self.record.data.images} images")
        if len(set(ids)) != len(ids) or not all(isinstance(name, str) for name in ids):
            raise damaged_file(file, "its ids are not unique texts")
        return table

    def smallest_side(self) -> int:
        """Smallest height or width of the images, in pixels."""
        images = self.images()
        return int(min(images[name].min() for name in ("height", "width")))

    def write_outcome(self, cell: str, outcome: Outcome, detail: str = "") -> None:
        """Write how a cell ended, and `detail`, the traceback of a failure, once its shards are safe on the disk."""
        flush_folder(self.folder / "scores" / cell)
        if detail:
            self._write(f"logs/{cell}.failure.txt", detail.encode("utf-8", "backslashreplace"))
        self._write_json(f"outcomes/{cell}.json", asdict(outcome))

    def outcomes(self) -> dict[str, Outcome]:
        """How each finished cell ended, by key; a file is read once, and again if it changes."""
        outcomes = {}
        for cell in self.record.cells:
            file = self.folder / "outcomes" / f"{cell.key}.json"
            if not file.is_file():
                continue
            found = file.stat()
            now = found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
            before, outcome = self._outcomes.get(cell.key, ((), None))
            if outcome is None or before != now:
                outcome = self._record(Outcome, file, read_json(file))
                self._outcomes[cell.key] = now, outcome
            outcomes[cell.key] = outcome
        return outcomes

    def write_timing(self, denoiser: str, timing: Timing, detail: str = "") -> None:
        """Write the timing of a denoiser: the samples as a table, the rest as JSON."""
        key = layout.timing_key(denoiser)
        if detail:
            self._write(f"logs/{key}.timing-failure.txt", detail.encode("utf-8", "backslashreplace"))
        batches = [np.full(len(samples), batch, dtype=np.int32) for batch, samples in timing.samples_ms.items()]
        if batches:
            samples = np.concatenate([np.asarray(part, dtype=np.float64) for part in timing.samples_ms.values()])
            self._write_table(f"timing/{key}.parquet", {"batch": np.concatenate(batches), "latency_ms": samples})
        values = asdict(timing) | {"denoiser": denoiser}
        del values["samples_ms"]
        self._write_json(f"timing/{key}.json", values)

    def timings(self, *, include_unlike_machines: bool = False) -> dict[str, Timing]:
        """Timings by canonical denoiser.

        Rows of a merged run that were timed on unlike machines are left out by default, because their latencies are
        comparable only through the calibration.
        """
        timings: dict[str, Timing] = {}
        if not self.record.options.timing and not include_unlike_machines:
            return timings
        for denoiser in self.record.denoisers:
            file = self.folder / "timing" / f"{layout.timing_key(denoiser.spec)}.json"
            if not file.is_file():
                continue
            values = read_json(file)
            if values.pop("denoiser", "") != denoiser.spec:
                raise damaged_file(file, f"it is not of {denoiser.spec} - at `$.denoiser`")
            values["samples_ms"] = {}
            if file.with_suffix(".parquet").is_file():
                table = layout.read_table(file.with_suffix(".parquet"), {"batch": "iu", "latency_ms": "f"})
                if not (np.isfinite(table["latency_ms"]) & (table["latency_ms"] > 0)).all():
                    raise damaged_file(file.with_suffix(".parquet"), "a latency is not a positive number")
                for batch in np.unique(table["batch"]):
                    values["samples_ms"][int(batch)] = table["latency_ms"][table["batch"] == batch].tolist()
            timing = self._record(Timing, file, values)
            if timing.status == "ok" and not {1, timing.batch} <= timing.samples_ms.keys():
                raise damaged_file(file, "its samples are missing")
            timings[denoiser.spec] = timing
        return timings

    def write_previews(
        self, key: str, columns: layout.Columns, pictures: Mapping[str, Sequence[NDArray[np.float32]]]
    ) -> None:
        """Write pictures of M images in half precision, and their columns of shape (M,).

        `key` is a cell's key for denoised pictures, or `noise_key` for the inputs that all denoisers share. Pictures of
        one image have the same shape (H, W) or (H, W, 3).
        """
        sizes = np.array([picture.shape[:2] for picture in next(iter(pictures.values()))], np.int32).reshape(-1, 2)
        table = dict(columns) | {"height": sizes[:, 0], "width": sizes[:, 1]}
        for name, stack in pictures.items():
            table[name] = np.array([picture.astype("<f2").tobytes() for picture in stack], dtype=object)
        self._write_table(f"previews/{key}.parquet", table)

    def previews(self, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, list[NDArray[np.float32]]]]:
        """Columns and pictures as passed to `write_previews`; both empty if none were written."""
        file = self.folder / "previews" / f"{key}.parquet"
        if not file.is_file():
            return {}, {}
        columns = layout.read_table(file, {layout.IMAGE: "iu", "repeat": "iu", "height": "iu", "width": "iu"})
        columns = self._of_images(file, columns)
        if "denoised" not in columns and not {"clean", "noisy", "why"} <= columns.keys():
            raise damaged_file(file, "it has no pictures")
        last = (self.record.data.channels,) if self.record.data.is_colour else ()
        sizes = zip(columns.pop("height").tolist(), columns.pop("width").tolist(), strict=True)
        shapes = [(*size, *last) for size in sizes]
        pictures = {}
        try:
            for name in [name for name in layout.PICTURES if name in columns]:
                stack = zip(columns.pop(name), shapes, strict=True)
                pictures[name] = [
                    np.frombuffer(pixels, dtype="<f2").reshape(shape).astype(np.float32) for pixels, shape in stack
                ]
        except (ValueError, TypeError) as error:
            raise damaged_file(file, f"pictures of {name}: {error}") from error
        return columns, pictures

    def write_ceiling(self, noise: str, columns: layout.Columns) -> None:
        """Write per-image scores of the oracle Wiener filter on a noise, ordered by image."""
        self._write_table(f"ceiling/{layout.noise_key(noise)}.parquet", columns)

    def ceiling(self, noise: str) -> dict[str, NDArray[Any]]:
        """Per-image scores of the oracle Wiener filter as passed to `write_ceiling`; empty if there are none."""
        file = self.folder / "ceiling" / f"{layout.noise_key(noise)}.parquet"
        return self._of_images(file, layout.read_table(file, {layout.IMAGE: "iu"}, "iuf")) if file.is_file() else {}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run against other processes; raises `BenchboxError` if one of them holds the lock."""
        import fcntl

        with explain_errors(self.folder / "lock"):
            # O_NOFOLLOW: a run folder may come from anybody, and a link here would create a file elsewhere.
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise BenchboxError(
                f"another process is working on run {self.record.run_id}", hint="wait for it to finish, or stop it"
            ) from error
        finally:
            os.close(handle)

    def log_file(self, denoiser: str, part: str) -> Path:
        """Log of a denoiser's processes; `part` is ``quality``, ``timing``, ``previews`` or ``ceiling``."""
        return self.folder / "logs" / f"{layout.timing_key(denoiser)}.{part}.log"

    def failure_file(self, cell: str) -> Path:
        """File with the full traceback of a failed cell."""
        return self.folder / "logs" / f"{cell}.failure.txt"

    def write_report(self, name: str, text: str) -> Path:
        """Write a rendered report beside the data it was made from."""
        self._write(name, text.encode("utf-8"))
        return self.folder / name

    def _record(self, kind: type[T], file: Path, values: dict[str, Any]) -> T:
        try:
            return decode(kind, values)
        except ValueError as error:
            raise damaged_file(file, str(error)) from error

    def _write_json(self, name: str, values: dict[str, Any]) -> None:
        self._write(name, (json.dumps(values, indent=2, default=str) + "\n").encode("utf-8"))

    def _write_table(self, name: str, columns: layout.Columns, about: str = "") -> None:
        self._write(name, layout.table_bytes(columns, about))

    def _write(self, name: str, content: bytes, *, flushed: bool = True) -> None:
        write_whole(self.folder / name, content, flushed=flushed)


def _checked(values: dict[str, Any]) -> RunRecord:
    """Decode and check a record; raises `ValueError` that names the path of a wrong field."""
    record = decode(RunRecord, values)
    record.check()
    try:
        record.options.check()
    except BenchboxError as error:
        name = error.message.partition(" is ")[0]  # of the option, unless two exclude each other
        place = f".{name}" if name in RunOptions.__dataclass_fields__ else ""
        raise ValueError(f"{error.message} - at `$.options{place}`") from error
    return record
