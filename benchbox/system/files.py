"""Bounded reads, atomic writes, temporary folders, and readable messages for system errors."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from benchbox.api.errors import BenchboxError


class UnboundedFile(OSError):
    """A file that is too large, grows, or is not a regular file; `strerror` says which."""

    def __init__(self, why: str) -> None:
        super().__init__(None, why)


def read_bounded(path: Path, most: int) -> bytes:
    """Read a whole file of at most `most` bytes, following links.

    Raises `UnboundedFile` unless it is a regular file of bounded, constant size, and `OSError` if it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise UnboundedFile(f"the file has {size:,} bytes; the limit is {most:,}")
        # `size + 1` instead of `most`, because read() allocates a buffer of the full requested size.
        content = file.read(size + 1)
        if len(content) > size:
            raise UnboundedFile("the file grows while it is read")
        return content


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; raises `UnboundedFile` at once for pipes and devices, which may never end."""
    # Without O_NONBLOCK, opening a pipe blocks until somebody opens it for writing.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UnboundedFile("not a regular file")
    return file


TEMPORARY_HINT = "make the folder for temporary files (TMPDIR) writable and free some space in it"
_open: set[Path] = set()
_TRIES = 20
_AGAIN_S = 0.05


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a private folder, and delete it with everything in it on leaving."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="benchbox-", ignore_cleanup_errors=True)
    except OSError as error:
        raise BenchboxError(f"cannot create a temporary folder: {error}", hint=TEMPORARY_HINT) from error
    path = Path(folder.name)
    _open.add(path)
    try:
        yield path
    finally:
        folder.cleanup()
        _open.discard(path)


def remove_all() -> None:
    """Delete every open temporary folder now, because this process is about to exit without unwinding."""
    for folder in list(_open):
        for _ in range(_TRIES):  # a process that writes there may take a moment to die
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(_AGAIN_S)


_MOST_JSON = 256 << 20


def write_whole(path: Path, content: bytes, *, flushed: bool = True) -> None:
    """Write a file atomically: to a temporary name beside it, flushed to disk, then renamed.

    A file that is not `flushed` survives the end of this process, but after a power cut it may be empty or missing
    until `flush_folder` has returned.
    """
    with explain_errors(path):
        path.parent.mkdir(exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                if flushed:
                    os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def flush_folder(folder: Path) -> None:
    """Flush the files of a folder, if it exists, and their names to disk; after the first, most cost nothing."""
    if not folder.is_dir():
        return
    with explain_errors(folder):
        with os.scandir(folder) as entries:
            files = [Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]
        for path in (*files, folder):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


@contextlib.contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` about a file into a `BenchboxError` with a remedy."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "the disk is full: free some space; finished work is kept",
            errno.EDQUOT: "the quota is used up: free some space; finished work is kept",
            errno.EFBIG: "the file size limit is reached: raise it (ulimit -f); finished work is kept",
            errno.EROFS: "the disk is read-only: choose another folder with --results, or a file with --output",
            errno.EISDIR: "a folder has the name of a file: move it away",
            errno.EACCES: "choose a writable folder with --results, or a file with --output",
            errno.EEXIST: "another run has just created it: run again",
        }
        hint = hints.get(error.errno or 0, "choose another folder with --results")
        raise BenchboxError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error


def damaged_file(path: Path, what: str) -> BenchboxError:
    """Error for a file whose content no run could have written."""
    return BenchboxError(f"{path}: {what}", hint="the file is damaged; delete it and run again")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises `BenchboxError` if the file is missing, too large or something else."""
    try:
        values = json.loads(read_bounded(path, _MOST_JSON).decode("utf-8"), parse_constant=_refuse_constant)
    except UnboundedFile as error:
        raise BenchboxError(f"{path}: {error.strerror}", hint="remove it: benchbox did not write it") from error
    except OSError as error:
        raise BenchboxError(f"cannot read {path}: {error.strerror}", hint="give the folder of a run") from error
    except (ValueError, RecursionError) as error:
        raise BenchboxError(f"{path} is not JSON: {error}", hint="the file is damaged; run again") from error
    if not isinstance(values, dict):
        raise BenchboxError(f"{path} is not a JSON object", hint="the file is damaged; run again")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
