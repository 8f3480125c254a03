"""What this user has run by naming it: a run's folder may come from anybody, and names files to import and programs."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

from benchbox.api.errors import BenchboxError
from benchbox.api.records import DenoiserRecord, RunRecord
from benchbox.api.spec import parse_spec
from benchbox.builtin.datasets.cache import CacheFolder
from benchbox.registry import Registry


def remember(registry: Registry, denoisers: Sequence[DenoiserRecord]) -> None:
    """Note that the user asked for these plugin files, and for the programs that these rows start."""
    cache = CacheFolder("trusted")
    files = [provider.target for provider in registry.providers if provider.kind == "file"]
    for text in (*files, *_programs(registry, denoisers)):
        if not _is_known(text):
            with contextlib.suppress(BenchboxError):  # it is then asked for again
                cache.write_json(_entry(text), text)


def require_known_files(files: Sequence[str], named: Sequence[Path], run_id: str) -> None:
    """Make sure that the user has asked for these plugin files, now or in a run before.

    Parameters
    ----------
    files : sequence of str
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


def require_known_programs(registry: Registry, record: RunRecord) -> None:
    """Make sure that the user has run the rows of a run that start programs.

    Raises
    ------
    BenchboxError
        One of them was never run here.
    """
    for label in _programs(registry, record.denoisers):
        if not _is_known(label):
            raise BenchboxError(
                f"run {record.run_id} starts a program that you have not run on this machine: {label}",
                hint="if you trust it, name that row in a run of your own first",
            )


def _programs(registry: Registry, denoisers: Sequence[DenoiserRecord]) -> list[str]:
    found = []
    for denoiser in denoisers:
        # By what will be built, not by what the row is called.
        entry = registry.denoisers.get(parse_spec(denoiser.reference.spec).name)
        if entry is not None and entry.cls.starts_programs:
            found.append(denoiser.reference.spec)
    return found


def _is_known(text: str) -> bool:
    return bool(CacheFolder("trusted").read_json(_entry(text)) == text)


def _entry(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest() + ".json"
