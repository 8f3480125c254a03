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
    """A named pipe for the output of processes, and a thread that appends its first `LIMIT` bytes to a log.

    A plugin may print without end; neither the disk nor the pipe must fill up because of that.
    """

    def __init__(self, log: Path, folder: Path) -> None:
        self._log = log
        self.pipe = folder / f"{log.stem}.pipe"
        """Path that processes write to."""
        self._lock = threading.Lock()
        self._kept = self._dropped = 0
        self._thread = threading.Thread(target=self._copy, name=f"output of {log.stem}", daemon=True)

    def __enter__(self) -> OutputKeeper:
        """Start reading; if the log cannot be opened, warn and discard all output."""
        os.mkfifo(self.pipe, 0o600)
        # Opened for reading and writing, so that open() does not block and the pipe outlives any single writer.
        self._handle = os.open(self.pipe, os.O_RDWR | os.O_NONBLOCK)
        self._stopped, self._stop = os.pipe()
        try:
            self._file = self._log.open("ab", buffering=0)
        except OSError as error:
            warnings.warn(f"output is not logged: {error}", RuntimeWarning, stacklevel=2)
            self._file = Path(os.devnull).open("ab", buffering=0)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Read the rest of the output, and note in the log how much was discarded."""
        os.close(self._stop)
        self._thread.join()
        self.flush()
        with self._file as log, contextlib.suppress(OSError):
            if self._dropped:
                log.write(f"\n[{self._dropped:,} more bytes were printed and not kept]\n".encode())
        os.close(self._handle)
        os.close(self._stopped)

    def flush(self) -> None:
        """Copy everything written so far from the pipe to the log."""
        with self._lock, contextlib.suppress(BlockingIOError):
            block = os.read(self._handle, LIMIT)
            part = block[: max(0, LIMIT - self._kept)]
            try:
                self._file.write(part)
                self._kept += len(part)
                self._dropped += len(block) - len(part)
            except OSError:  # keep reading on a full disk, or the writer would block
                self._dropped += len(block)

    def _copy(self) -> None:
        while True:
            ready, _, _ = select.select([self._handle, self._stopped], [], [])
            if self._stopped in ready:
                return
            self.flush()
