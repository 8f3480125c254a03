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

CACHE_VARIABLE = "BENCHBOX_CACHE_DIR"
_ABANDONED_S = 24 * 3600


class CacheFolder:
    """Cached data of one kind.

    Parameters
    ----------
    name : str
        Name of the kind; the folder lies below ``BENCHBOX_CACHE_DIR`` or the user's cache folder, and is made
        when first written.
    """

    def __init__(self, name: str) -> None:
        given = os.environ.get(CACHE_VARIABLE)
        if given:
            self.path = Path(given) / name
        else:
            import platformdirs

            self.path = platformdirs.user_cache_path("benchbox") / name

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Word what keeps the folder from being written.

        Raises
        ------
        BenchboxError
            The disk is full, or the folder cannot be written.
        """
        try:
            yield
        except OSError as error:
            raise BenchboxError(
                f"cache folder {self.path}: {error.strerror or error}",
                hint=f"make room or set {CACHE_VARIABLE} to a folder that can be written",
            ) from error

    @contextlib.contextmanager
    def temporary(self) -> Iterator[tuple[IO[bytes], Path]]:
        """Open a new file in the folder; it is gone afterwards unless `publish` renamed it."""
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
        """Bring a file to the disk, then give it its name."""
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(self.path / name)

    def write_json(self, name: str, value: object) -> None:
        """Write a value with its digest."""
        text = json.dumps(value).encode()
        with self.temporary() as (file, temporary), self.writing():
            file.write(xxhash.xxh3_128_hexdigest(text).encode() + b"\n" + text)
            self.publish(file, temporary, name)

    def read_json(self, name: str) -> Any:
        """Read a value; None where there is none or it is damaged."""
        try:
            digest, _, text = (self.path / name).read_bytes().partition(b"\n")
            return json.loads(text) if digest == xxhash.xxh3_128_hexdigest(text).encode() else None
        except (OSError, ValueError):
            return None

    def _sweep(self) -> None:
        """Remove what a killed process left behind."""
        for path in self.path.glob("writing-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()
