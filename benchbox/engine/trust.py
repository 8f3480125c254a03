"""Which plugin files this user has run: a run's folder may come from anybody, and it names files to import."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchbox.api.errors import BenchboxError
from benchbox.api.records import Provider
from benchbox.builtin.datasets.cache import CacheFolder


def remember_files(providers: Iterable[Provider]) -> None:
    """Note that the user asked for these plugins; only those of one file need it."""
    cache = CacheFolder("plugins")
    for provider in providers:
        if provider.kind == "file" and not _is_known(provider.target):
            with contextlib.suppress(BenchboxError):  # it is then asked for again
                cache.write_json(_entry(provider.target), provider.target)


def require_known_files(files: Iterable[str], named: Sequence[Path], run_id: str) -> None:
    """Make sure that the user has asked for these plugin files, now or in a run before.

    Parameters
    ----------
    files : iterable of str
        Absolute paths that the record of a run names.
    named : sequence of Path
        Those that the user names now.
    run_id : str

    Raises
    ------
    BenchboxError
        One was never asked for.
    """
    here = {str(path.resolve()) for path in named}
    for file in files:
        if file not in here and not _is_known(file):
            raise BenchboxError(
                f"run {run_id} was made with the plugin file {file}, which you have not run on this machine",
                hint=f"read it, and if you trust it add: --plugin {file}",
            )


def _is_known(file: str) -> bool:
    return bool(CacheFolder("plugins").read_json(_entry(file)) == file)


def _entry(file: str) -> str:
    return hashlib.blake2b(file.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest() + ".json"
