"""Reads files that others made: regular ones alone, and never more than a bound."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class UnboundedFile(OSError):
    """A file that is not read; `strerror` says why."""

    def __init__(self, why: str) -> None:
        super().__init__(None, why)


def read_bounded(path: Path, most: int) -> bytes:
    """Read a whole file.

    Parameters
    ----------
    path : Path
        A link is followed; what it leads to must be a regular file, for a pipe or a device may have no end.
    most : int
        Bytes that it may have.

    Returns
    -------
    bytes

    Raises
    ------
    UnboundedFile
        It is no regular file, or larger.
    OSError
        It cannot be read.
    """
    # Without O_NONBLOCK a pipe that nobody writes to is waited for.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnboundedFile("it is no regular file")
        # Asked twice: a file can grow while it is read.
        if status.st_size > most or len(content := file.read(most + 1)) > most:
            raise UnboundedFile(f"it has more than {most:,} bytes")
        return content
