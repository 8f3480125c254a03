"""Writes a file whole or not at all, reads JSON, and words what the system says about either."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchbox.api.errors import BenchboxError
from benchbox.api.files import UnboundedFile, read_bounded

_MOST_JSON = 256 << 20


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, bring it to the disk, then give it its name.

    Raises
    ------
    BenchboxError
        It cannot be written.
    """
    with explained(path):
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
def explained(path: Path) -> Iterator[None]:
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


def damaged(path: Path, what: str) -> BenchboxError:
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
