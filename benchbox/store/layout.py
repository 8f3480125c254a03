"""The files of a run folder: their names, the search for a run, and tables in Parquet (exact, checked, bounded)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError
from benchbox.records.run import digest
from benchbox.system.files import UnboundedFile, read_bounded

FORMAT = 1
IMAGE = "image"
LATEST = "latest"
PICTURES = ("clean", "noisy", "denoised")
RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9]{3}[0-9a-f]{4}")
OURS = re.compile(
    r"run\.json|machines\.json|images\.parquet|lock|leaderboard\.md|report\.html|logs/[^/]+\.(?:log|txt)|outcomes/[0-9a-f]{16}\.json"
    r"|timing/[^/.]+\.(?:json|parquet)|(?:previews|ceiling)/[0-9a-f]{16}\.parquet|scores/[0-9a-f]{16}/[0-9]{8}-[0-9]{8}\.parquet"
    r"|denoised/[0-9a-f]{16}/[0-9]{8}-[0-9]{8}\.npy|whatif/[0-9a-f]{16}/[a-z-]+\.[0-9]{8}-[0-9]{8}\.parquet"
)
ASIDE = "set-aside"
FOLDERS = re.compile(rf"logs|outcomes|timing|previews|ceiling|(?:scores|denoised|whatif)(?:/[0-9a-f]{{16}})?|{ASIDE}")
SHARD = re.compile(r"([0-9]{8})-([0-9]{8})\.parquet")
_NOT_A_NAME = re.compile(r"[^a-z0-9_-]")
_LONGEST = 64
Columns = Mapping[str, NDArray[Any]]
_MOST_VALUES = 1 << 28
_MOST_BYTES = 4 << 30
_BATCH_BYTES = 1 << 28
_ABOUT = "benchbox"
_MACHINE = "benchbox.machine"


NO_CLASS = -1
"""Class of an image that a classifier does not take."""


def class_columns(metric: str) -> tuple[str, str]:
    """Columns of the classes that a metric's classifier saw in the clean and in the denoised images."""
    return f"class_clean:{metric}", f"class_denoised:{metric}"


def new_run_id() -> str:
    """Id of a new run: UTC time in milliseconds, so that ids sort by age, and random hex digits."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}{secrets.token_hex(2)}"


def timing_key(denoiser: str) -> str:
    """File name for a denoiser: its readable name and a digest of its canonical specification."""
    return f"{_NOT_A_NAME.sub('_', denoiser.partition(':')[0])[:_LONGEST]}-{digest(denoiser)}"


def noise_key(noise: str) -> str:
    """File name for a noise, from its canonical specification."""
    return digest(noise)


def list_runs(results: Path) -> list[Path]:
    """Folders of all runs, oldest first."""
    if not results.is_dir():
        return []
    return sorted(path for path in results.iterdir() if RUN_ID.fullmatch(path.name) and (path / "run.json").is_file())


def find_run(results: Path, name: str = "") -> Path:
    """Find a run by its id, a unique prefix of it, or the path of its folder or of one that holds only this run.

    Without a name, and for ``latest``, it is the newest run.
    """
    name = "" if name == LATEST else name
    if name and (Path(name) / "run.json").is_file():
        return Path(name)
    runs = list_runs(results)
    matches = [run for run in runs if run.name.startswith(name)]
    if matches and (not name or len(matches) == 1):
        return matches[-1]
    if matches:
        raise BenchboxError(
            f"'{name}' matches {len(matches)} runs", hint="give more of the id (list them with: benchbox list runs)"
        )
    if name and Path(name).is_dir():
        inside = list_runs(Path(name))
        if len(inside) == 1:
            return inside[0]
        if inside:
            raise BenchboxError(f"{name} holds {len(inside)} runs", hint=f"name one of them, such as {inside[-1]}")
        raise BenchboxError(f"{name} is not the folder of a run: it has no run.json", hint="give the folder of a run")
    if runs:
        raise BenchboxError(f"there is no run '{name}' in {results}", hint=f"the newest is {runs[-1].name}")
    missing = f", and no folder '{name}'" if name else ""
    raise BenchboxError(f"there is no run in {results}{missing}", hint="start one: benchbox run --noise gaussian:0.1")


def table_bytes(columns: Columns, about: str = "", machine: str = "") -> bytes:
    """Columns of equal length as the bytes of a Parquet file.

    `about`, such as a cell's key, and `machine`, the key of the one that computed them, are stored as metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    arrays = {key: _to_arrow(values) for key, values in columns.items()}
    said = {name: value for name, value in ((_ABOUT, about), (_MACHINE, machine)) if value}
    table = pa.table(arrays, metadata=said or None)
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_table(path: Path, types: Mapping[str, str] = {}, others: str = "", about: str = "") -> dict[str, NDArray[Any]]:
    """Read columns of shape (N,) from a Parquet file.

    `types` names the required columns with their allowed `dtype.kind` letters (``iu`` for integers, ``f``, ``O`` for
    text or bytes); `others` gives those of all other columns, empty for any. If the file says what it is about, that
    must equal `about`. Raises `BenchboxError` for a missing or damaged file, wrong columns, or an implausible size.
    """
    try:
        # Given a path, pyarrow would guess a data set and its partitions from folder names.
        return columns_of(read_bounded(path, _MOST_BYTES), types, others, about)
    except (OSError, ValueError) as error:
        lines = (str(error.strerror) if isinstance(error, UnboundedFile) else str(error)).splitlines()
        raise BenchboxError(
            f"cannot read {path}: {lines[0] if lines else type(error).__name__}",
            hint="delete the damaged file and run again",
        ) from error


def machine_of(path: Path) -> str:
    """Key of the machine that computed a table; empty if it does not say, as for the machine of the run itself."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        said = pq.read_schema(pa.BufferReader(read_bounded(path, _MOST_BYTES))).metadata or {}
    except (OSError, pa.ArrowException):
        return ""
    return str(said.get(_MACHINE.encode(), b""), "utf-8", "replace")


def columns_of(
    content: bytes, types: Mapping[str, str] = {}, others: str = "", about: str = ""
) -> dict[str, NDArray[Any]]:
    """Columns of the bytes of a Parquet file, see `read_table`; raises `ValueError` if they are not as expected."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        stored = (file.schema_arrow.metadata or {}).get(_ABOUT.encode())
        if about and stored not in (None, about.encode()):
            raise ValueError(f"it belongs to {stored!r}, not to {about}")
        table = _bounded(file)
        columns = {name: _from_arrow(table.column(place)) for place, name in enumerate(table.column_names)}
        for name in {*types, *columns}:
            wanted = types.get(name, others)
            if name not in columns:
                raise ValueError(f"column {name!r} is missing")
            if wanted and columns[name].dtype.kind not in wanted:
                raise ValueError(f"column {name!r} is of type {columns[name].dtype}")
        return columns
    except (OSError, MemoryError, pa.ArrowException) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _bounded(file: Any) -> Any:
    """Read a table in small batches up to a size limit, because a small file can unpack to any size."""
    import pyarrow as pa

    meta = file.metadata
    if meta.num_rows < 0 or meta.num_rows * max(1, meta.num_columns) > _MOST_VALUES:
        raise ValueError(f"it declares {meta.num_rows:,} rows of {meta.num_columns} columns")
    groups = [meta.row_group(place) for place in range(meta.num_row_groups)]
    if any(not 0 <= group.total_byte_size <= _MOST_BYTES for group in groups):
        raise ValueError("it unpacks to more bytes than a table of a run has")
    # Dictionary encoding may repeat the longest text, at most as long as its chunk, in every row of a batch.
    longest = max((group.total_byte_size for group in groups), default=0)
    batches, total = [], 0
    rows = max(1, min(1 << 16, _BATCH_BYTES // max(1, longest)))
    for batch in file.iter_batches(batch_size=rows, use_threads=False):  # handing small tables to threads costs more
        total += batch.nbytes
        if total > _MOST_BYTES:
            raise ValueError("it unpacks to more bytes than a table of a run has")
        batches.append(batch)
    # A file stores its number of rows several times, none of them under a checksum.
    if {meta.num_rows} != {sum(batch.num_rows for batch in batches), sum(group.num_rows for group in groups)}:
        raise ValueError("its number of rows is not the one it declares")
    return pa.Table.from_batches(batches, file.schema_arrow)


def _to_arrow(values: NDArray[Any]) -> Any:
    """Arrow array of numbers, text or bytes; `pyarrow.array` would import pandas to check for its types."""
    import pyarrow as pa

    if values.dtype.kind in "iuf":
        kind = pa.from_numpy_dtype(values.dtype)
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])
    texts = [value if isinstance(value, bytes) else str(value).encode("utf-8", "backslashreplace") for value in values]
    kind = pa.binary() if len(values) and isinstance(values[0], bytes) else pa.string()
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    return pa.Array.from_buffers(kind, len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))])


def _from_arrow(column: Any) -> NDArray[Any]:
    """NumPy column of numbers or objects; `to_numpy` would import pandas."""
    import pyarrow as pa

    if (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)) and not column.null_count:
        parts = [np.from_dlpack(chunk) for chunk in column.chunks]
        return np.concatenate(parts) if parts else np.empty(0, dtype=column.type.to_pandas_dtype())
    return np.array(column.to_pylist(), dtype=object)
