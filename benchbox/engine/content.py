"""Digests of the files that a denoiser depends on, such as weights; they are part of the row's identity."""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError
from benchbox.records.run import PluginSpec, RunRecord
from benchbox.registry import Registry


def content_digest(denoiser: Denoiser) -> str:
    """Digest of a denoiser's files, 16 hex digits; empty if it has none. It need not be set up."""
    whole = hashlib.blake2b(digest_size=8)
    try:
        # Call through the class, because an instance may have an unrelated attribute of that name.
        files = type(denoiser).files(denoiser)
        for path in files:
            with Path(path).open("rb") as file:
                whole.update(hashlib.file_digest(file, "blake2b").digest())
    except BenchboxError:
        raise
    except Exception as error:
        raise BenchboxError(
            f"{denoiser.name}: cannot read the files it depends on: {type(error).__name__}: {error}",
            hint="check their paths and permissions",
        ) from error
    return whole.hexdigest() if files else ""


def changed_files(record: RunRecord, registry: Registry) -> dict[str, str]:
    """Messages about denoisers with files that have changed since the run began, by canonical specification."""
    changed = {}
    for denoiser in record.denoisers:
        if denoiser.plugin.name not in registry.denoisers or not denoiser.plugin.content:
            continue
        try:
            if content_digest(registry.denoiser(denoiser.plugin.spec).make()) == denoiser.plugin.content:
                continue
            reason = "its files, such as weights, have changed"
        except BenchboxError as error:
            reason = error.message
        changed[denoiser.spec] = f"'{denoiser.label}' differs from when run {record.run_id} began: {reason}"
    return changed


def require_same_content(plugin: PluginSpec, denoiser: Denoiser) -> None:
    """Raise `BenchboxError` if a denoiser has loaded other files than its row was planned with."""
    if plugin.content and content_digest(denoiser) != plugin.content:
        raise BenchboxError(
            f"the files of '{plugin.spec}' (its weights) have changed since the run began",
            hint="restore them, or start a new run",
        )
