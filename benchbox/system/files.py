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
    """A file that is not read; `strerror` says why."""

    def __init__(self, why: str) -> None:
        super().__init__(None, why)


def read_bounded(path: Path, most: int) -> bytes:
    """Read a whole file."""
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


TEMPORARY_HINT = "the folder for temporary files (TMPDIR) must be writable and have some room"
_open: set[Path] = set()
_TRIES = 20
_AGAIN_S = 0.05


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that nobody else may enter, and remove it in the end with all that is in it."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="benchbox-", ignore_cleanup_errors=True)
    except OSError as error:
        raise BenchboxError(f"no folder for temporary files can be made: {error}", hint=TEMPORARY_HINT) from error
    path = Path(folder.name)
    _open.add(path)
    try:
        yield path
    finally:
        folder.cleanup()
        _open.discard(path)


def remove_all() -> None:
    """Remove every such folder at once: this process is about to end without more ado."""
    for folder in list(_open):
        for _ in range(_TRIES):  # whoever writes there may live for a moment yet
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(_AGAIN_S)


_MOST_JSON = 256 << 20


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, bring it to the disk, then give it its name."""
    with explain_errors(path):
        path.parent.mkdir(exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Turn what the system says about a file into an error with a remedy."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "the disk is full: free some space; what was finished is kept",
            errno.EDQUOT: "the quota is used up: free some space; what was finished is kept",
            errno.EFBIG: "the file size limit is reached: raise it (ulimit -f); what was finished is kept",
            errno.EROFS: "the disk is read-only: choose another folder with --results",
            errno.EISDIR: "a folder lies where a file belongs: move it away",
            errno.EACCES: "choose a folder you may write to with --results",
            errno.EEXIST: "another run made it just now: run again",
        }
        hint = hints.get(error.errno or 0, "choose another folder with --results")
        raise BenchboxError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error


def damaged_file(path: Path, what: str) -> BenchboxError:
    """Make the error of a file that holds what no run writes."""
    return BenchboxError(f"{path}: {what}", hint="the file is damaged; delete it and run again")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises `BenchboxError` when it is missing, too large or none."""
    try:
        values = json.loads(read_bounded(path, _MOST_JSON).decode("utf-8"))
    except UnboundedFile as error:
        raise BenchboxError(f"{path}: {error.strerror}", hint="it is no file of a run") from error
    except OSError as error:
        raise BenchboxError(f"cannot read {path}: {error.strerror}", hint="is it the folder of a run?") from error
    except (ValueError, RecursionError) as error:
        raise BenchboxError(f"{path} is not JSON: {error}", hint="the file is damaged; run again") from error
    if not isinstance(values, dict):
        raise BenchboxError(f"{path} is not a JSON object", hint="the file is damaged; run again")
    return values
