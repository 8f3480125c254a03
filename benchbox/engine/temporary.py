"""Folders for temporary files: none is left behind, however a run ends in this process."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchbox.api.errors import BenchboxError

TEMPORARY_HINT = "the folder for temporary files (TMPDIR) needs a short path, some room, and to be writable"
_open: set[Path] = set()
_TRIES = 20
_AGAIN_S = 0.05


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that nobody else may enter, and remove it in the end with all that is in it.

    Raises
    ------
    BenchboxError
        There is no room for it, or it may not be made.
    """
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
