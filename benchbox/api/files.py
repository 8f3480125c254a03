"""Reads files that others made: regular ones alone, and never more than a bound."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


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
        It is no regular file, is larger, or grows.
    OSError
        It cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise UnboundedFile(f"the file has {size:,} bytes; at most {most:,} are read")
        # Not `most`: room for all that is asked for is made at once.
        content = file.read(size + 1)
        if len(content) > size:
            raise UnboundedFile("it grows while it is read")
        return content


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it; raises `UnboundedFile` at once where it is a pipe or a device, which may have no end."""
    # Without O_NONBLOCK a pipe that nobody writes to is waited for.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UnboundedFile("it is no regular file")
    return file
