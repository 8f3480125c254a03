"""A folder in the user's cache whose files are written whole and verified when read."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import xxhash

from benchbox.api.errors import BenchboxError
from benchbox.system.files import temporary_folder

CACHE_VARIABLE = "BENCHBOX_CACHE_DIR"
_NUMBA_VARIABLE = "NUMBA_CACHE_DIR"
_MATPLOTLIB_VARIABLE = "MPLCONFIGDIR"
_ABANDONED_S = 24 * 3600


def _base() -> Path:
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    import platformdirs

    try:
        return platformdirs.user_cache_path("benchbox")
    except RuntimeError:  # a user id without an entry and without HOME, as in a container
        return Path("~") / ".cache" / "benchbox"


@contextlib.contextmanager
def usable_cache() -> Iterator[str]:
    """Give this process and its children a temporary cache folder if the user's cannot be written.

    Yields a one-line description of the problem and its remedy; an empty string if the cache is usable.
    """
    base = _base()
    problem = _problem(base)
    with contextlib.ExitStack() as stack:
        values, warning, folder = {}, "", base
        if problem:
            folder = stack.enter_context(temporary_folder())
            values[CACHE_VARIABLE] = str(folder)
            # numba caches machine code beside the kernels, and in the user's cache folder only if that is read-only.
            if _NUMBA_VARIABLE not in os.environ and not os.access(Path(__file__).parent, os.W_OK):
                values[_NUMBA_VARIABLE] = str(folder / "numba")
            warning = (
                f"the cache folder {base} cannot be used ({problem}); a temporary folder is used, so every command "
                f"parses the data again: set {CACHE_VARIABLE} to a writable folder"
            )
        # Without a usable home folder, matplotlib would print two warnings in every process.
        if not os.environ.get(_MATPLOTLIB_VARIABLE) and _home_problem():
            values[_MATPLOTLIB_VARIABLE] = str(folder / "matplotlib")
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield warning
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _problem(base: Path) -> str:
    """Why a folder cannot be created or written; empty if it can."""
    if not base.is_absolute() and not os.environ.get(CACHE_VARIABLE):
        return "there is no home folder"
    nearest = next(folder for folder in (base.absolute(), *base.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    return "" if os.access(nearest, os.W_OK | os.X_OK) else f"{nearest} is not writable"


def _home_problem() -> str:
    try:
        return _problem(Path.home() / ".config" / "matplotlib")
    except RuntimeError:
        return "there is no home folder"


class CacheFolder:
    """A folder of cached data below ``BENCHBOX_CACHE_DIR`` or the user's cache folder; created by the first write."""

    def __init__(self, name: str) -> None:
        self.path = _base() / name

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an `OSError` while writing to the folder into a `BenchboxError` with a remedy."""
        try:
            yield
        except OSError as error:
            raise BenchboxError(
                f"cache folder {self.path}: {error.strerror or error}",
                hint=f"free some space, or set {CACHE_VARIABLE} to a writable folder",
            ) from error

    @contextlib.contextmanager
    def temporary(self) -> Iterator[tuple[IO[bytes], Path]]:
        """Open a new file in the folder, which is deleted on leaving unless `publish` has renamed it."""
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            self._sweep()
            handle, name = tempfile.mkstemp(prefix="writing-", dir=self.path)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file, path
        finally:
            path.unlink(missing_ok=True)

    def publish(self, file: IO[bytes], temporary: Path, name: str) -> None:
        """Flush a file to disk, then give it its final name."""
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(self.path / name)

    def write_json(self, name: str, value: object) -> None:
        """Write a value together with its digest."""
        text = json.dumps(value).encode()
        with self.temporary() as (file, temporary), self.writing():
            file.write(xxhash.xxh3_128_hexdigest(text).encode() + b"\n" + text)
            self.publish(file, temporary, name)

    def read_json(self, name: str) -> Any:
        """Read a value; None if the entry is missing or damaged."""
        try:
            digest, _, text = (self.path / name).read_bytes().partition(b"\n")
            return json.loads(text) if digest == xxhash.xxh3_128_hexdigest(text).encode() else None
        except (OSError, ValueError):
            return None

    def _sweep(self) -> None:
        """Delete temporary files that killed processes left behind."""
        for path in self.path.glob("writing-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()
