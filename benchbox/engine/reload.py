"""Reloads the plugins and images of a recorded run, after checking that the user trusts its files."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.engine.data import open_data
from benchbox.engine.events import Event
from benchbox.engine.plan import Limits
from benchbox.records.run import DenoiserRecord, PluginSpec, Provider, RunRecord
from benchbox.registry import Entry, Registry, load_registry
from benchbox.system.cache import CacheFolder


def remember_trusted(registry: Registry, denoisers: Sequence[DenoiserRecord]) -> None:
    """Note that the user asked for these plugin files, and for the programs that these rows start."""
    cache = CacheFolder("trusted")
    files = [provider.target for provider in registry.providers if provider.kind == "file"]
    for text in (*files, *_programs(registry, denoisers)):
        if not _is_known(text):
            with contextlib.suppress(BenchboxError):  # it is then asked for again
                cache.write_json(_entry(text), text)


def require_trusted_files(files: Sequence[str], named: Sequence[Path], run_id: str) -> None:
    """Make sure that the user has asked for these plugin files, now or in a run before."""
    here = {str(path.resolve()) for path in named}
    for file in files:
        if file not in here and not _is_known(file):
            raise BenchboxError(
                f"run {run_id} was made with the plugin file {file}, which you have not run on this machine",
                hint=f"read it, and if you trust it add: --plugin {file}",
            )


def require_trusted_programs(registry: Registry, record: RunRecord) -> None:
    """Make sure that the user has run the rows of a run that start programs."""
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
        entry = registry.denoisers.get(denoiser.plugin.name)
        if entry is not None and entry.cls.starts_programs:
            found.append(denoiser.plugin.spec)
    return found


def _is_known(text: str) -> bool:
    return bool(CacheFolder("trusted").read_json(_entry(text)) == text)


def _entry(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest() + ".json"


def reload_registry(
    record: RunRecord, limits: Limits, on_event: Callable[[Event], None], named: Sequence[Path] = ()
) -> Registry:
    """Load the plugins that a run was made with, as they are today."""
    providers = [
        *(one.plugin.provider for one in record.denoisers),
        *(part.provider for noise in record.noises for part in noise.parts),
        *(one.plugin.provider for one in record.metrics),
    ]
    files = sorted({one.target for one in providers if one.kind == "file"})
    require_trusted_files(files, named, record.run_id)
    registry = load_registry([Path(file) for file in files], timeout_s=limits.timeout_s, on_event=on_event)
    require_trusted_programs(registry, record)
    return registry


def reload_images(record: RunRecord, registry: Registry) -> ImageSet:
    """Open the images of a run again."""
    images = open_data(record.request, {name: entry.cls() for name, entry in registry.datasets.items()})
    if images.fingerprint != record.data.fingerprint:
        raise BenchboxError(
            f"the images of {record.request.path or record.request.dataset} are not the ones that run "
            f"{record.run_id} began with",
            hint="restore them, or start a new run",
        )
    return images


def providers_now(record: RunRecord, registry: Registry) -> dict[PluginSpec, Provider | None]:
    """Where each denoiser, noise and metric of a run is from today, by what was recorded; None where it is missing."""
    recorded: dict[PluginSpec, Mapping[str, Entry[Any]]] = {
        **{denoiser.plugin: registry.denoisers for denoiser in record.denoisers},
        **{part: registry.noise_models for noise in record.noises for part in noise.parts},
        **{one.plugin: registry.metrics for one in record.metrics},
    }
    entries = {plugin: shelf.get(plugin.name) for plugin, shelf in recorded.items()}
    return {plugin: entry.provider if entry else None for plugin, entry in entries.items()}


def describe_change(record: RunRecord, before: PluginSpec, now: Provider | None) -> str:
    """How a plugin differs from the one that a run was made with."""
    return (
        f"'{before.name}' was {before.provider.label} {before.provider.version} when run "
        f"{record.run_id} began, now it is {f'{now.label} {now.version}' if now else 'missing'}"
    )
