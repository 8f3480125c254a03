"""Digest of the files that a denoiser depends on, such as weights; part of the row's identity."""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError
from benchbox.records.run import PluginSpec, RunRecord
from benchbox.registry import Registry


def content_digest(denoiser: Denoiser) -> str:
    """Digest of the files that a denoiser depends on."""
    whole = hashlib.blake2b(digest_size=8)
    try:
        # By the class: an attribute of an instance that happens to be called so is none of ours.
        files = type(denoiser).files(denoiser)
        for path in files:
            with Path(path).open("rb") as file:
                whole.update(hashlib.file_digest(file, "blake2b").digest())
    except BenchboxError:
        raise
    except Exception as error:
        raise BenchboxError(
            f"{denoiser.name}: the files that it depends on cannot be read: {type(error).__name__}: {error}",
            hint="check their paths and permissions",
        ) from error
    return whole.hexdigest() if files else ""


def changed_files(record: RunRecord, registry: Registry) -> dict[str, str]:
    """Denoisers of a run whose files are no longer those that it began with, by canonical specification, in words."""
    changed = {}
    for denoiser in record.denoisers:
        if denoiser.plugin.name not in registry.denoisers or not denoiser.plugin.content:
            continue
        try:
            if content_digest(registry.denoiser(denoiser.plugin.spec).make()) == denoiser.plugin.content:
                continue
            words = "its files, such as weights, changed since"
        except BenchboxError as error:
            words = error.message
        changed[denoiser.spec] = f"'{denoiser.label}' is not what it was when run {record.run_id} began: {words}"
    return changed


def require_same_content(plugin: PluginSpec, denoiser: Denoiser) -> None:
    """Make sure that a denoiser, once it has loaded its files, has loaded those that its row was planned with."""
    if plugin.content and content_digest(denoiser) != plugin.content:
        raise BenchboxError(
            f"the files of '{plugin.spec}' (its weights) changed since the run began",
            hint="start a new run, or restore them",
        )
