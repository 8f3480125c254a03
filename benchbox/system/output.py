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
_POLL_S = 0.1


class OutputKeeper:
    """A named pipe that processes may write to, and a thread that reads it, so that no output fills the disk.

    Parameters
    ----------
    log : Path
        File that takes the first `LIMIT` bytes; it is appended to.
    folder : Path
        Takes the pipe.
    """

    def __init__(self, log: Path, folder: Path) -> None:
        self._log = log
        self.pipe = folder / "output"
        """Where to write to."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._copy, name=f"output of {log.stem}", daemon=True)

    def __enter__(self) -> OutputKeeper:
        """Begin to read; where the log cannot be opened a warning says so, and all is thrown away."""
        os.mkfifo(self.pipe, 0o600)
        # Open for both, so that neither side waits for the other and writers may come and go.
        self._handle = os.open(self.pipe, os.O_RDWR | os.O_NONBLOCK)
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
        self._stop.set()
        self._thread.join()
        os.close(self._handle)

    def _copy(self) -> None:
        kept = dropped = 0
        with self._file as log:
            while True:
                ready, _, _ = select.select([self._handle], [], [], 0 if self._stop.is_set() else _POLL_S)
                if not ready:
                    if self._stop.is_set():
                        break
                    continue
                block = os.read(self._handle, LIMIT)
                part = block[: max(0, LIMIT - kept)]
                try:
                    log.write(part)
                    kept += len(part)
                    dropped += len(block) - len(part)
                except OSError:  # a full disk must not leave the process waiting for a reader
                    dropped += len(block)
            if dropped:
                with contextlib.suppress(OSError):
                    log.write(f"\n[{dropped:,} more bytes were printed and not kept]\n".encode())
