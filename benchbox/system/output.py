"""Captures what a denoiser prints: logs the first part, counts and discards the rest."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import types
import warnings
from pathlib import Path

LIMIT = 2**20
"""Bytes kept; more than a pipe holds, so that one read empties it."""


class OutputKeeper:
    """A named pipe that processes may write to, and a thread that reads it, so that no output fills the disk."""

    def __init__(self, log: Path, folder: Path) -> None:
        self._log = log
        self.pipe = folder / f"{log.stem}.pipe"
        """Where to write to."""
        self._lock = threading.Lock()
        self._kept = self._dropped = 0
        self._thread = threading.Thread(target=self._copy, name=f"output of {log.stem}", daemon=True)

    def __enter__(self) -> OutputKeeper:
        """Begin to read; if the log cannot be opened, warn and throw everything away."""
        os.mkfifo(self.pipe, 0o600)
        # Open for both, so that neither side waits for the other and writers may come and go.
        self._handle = os.open(self.pipe, os.O_RDWR | os.O_NONBLOCK)
        self._stopped, self._stop = os.pipe()
        try:
            self._file = self._log.open("ab", buffering=0)
        except OSError as error:
            warnings.warn(f"what is printed is not kept: {error}", RuntimeWarning, stacklevel=2)
            self._file = Path(os.devnull).open("ab", buffering=0)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Read what is left and end."""
        os.close(self._stop)
        self._thread.join()
        self.flush()
        with self._file as log, contextlib.suppress(OSError):
            if self._dropped:
                log.write(f"\n[{self._dropped:,} more bytes were printed and not kept]\n".encode())
        os.close(self._handle)
        os.close(self._stopped)

    def flush(self) -> None:
        """Bring to the log what has been written to the pipe until now."""
        with self._lock, contextlib.suppress(BlockingIOError):
            block = os.read(self._handle, LIMIT)
            part = block[: max(0, LIMIT - self._kept)]
            try:
                self._file.write(part)
                self._kept += len(part)
                self._dropped += len(block) - len(part)
            except OSError:  # a full disk must not leave the process waiting for a reader
                self._dropped += len(block)

    def _copy(self) -> None:
        while True:
            ready, _, _ = select.select([self._handle, self._stopped], [], [])
            if self._stopped in ready:
                return
            self.flush()
