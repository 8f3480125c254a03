"""Reloads the plugins and images of a recorded run, after checking that the user trusts its files."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.engine.construction import construct
from benchbox.engine.data import open_data
from benchbox.engine.events import Event
from benchbox.engine.plan import Limits
from benchbox.records.run import DenoiserRecord, PluginSpec, Provider, RunRecord
from benchbox.registry import TRIAL_S, Entry, Registry, load_registry
from benchbox.system.cache import CacheFolder


def remember_trusted(registry: Registry, denoisers: Sequence[DenoiserRecord]) -> None:
    """Remember that the user has run these plugin files, and the programs that these denoisers start."""
    cache = CacheFolder("trusted")
    files = [provider.target for provider in registry.providers if provider.kind == "file"]
    for text in (*files, *_programs(registry, denoisers)):
        if not _is_known(text):
            with contextlib.suppress(BenchboxError):  # the user is then asked again
                cache.write_json(_entry(text), text)


def require_trusted_files(files: Sequence[str], named: Sequence[Path], run_id: str) -> None:
    """Raise `BenchboxError` unless the user has named these plugin files, now or in an earlier run on this machine.

    A run folder may come from anybody, and its record must not make benchbox execute a file.
    """
    here = {str(path.resolve()) for path in named}
    for file in files:
        if file not in here and not _is_known(file):
            raise BenchboxError(
                f"run {run_id} was made with the plugin file {file}, which you have not run on this machine",
                hint=f"read the file, and if you trust it add: --plugin {file}",
            )


def require_trusted_programs(registry: Registry, record: RunRecord) -> None:
    """Raise `BenchboxError` unless the user has run all program-starting denoisers of a run on this machine."""
    for label in _programs(registry, record.denoisers):
        if not _is_known(label):
            raise BenchboxError(
                f"run {record.run_id} starts a program that you have not run on this machine: {label}",
                hint="if you trust the program, run that denoiser in a run of your own first",
            )


def _programs(registry: Registry, denoisers: Sequence[DenoiserRecord]) -> list[str]:
    # Look at what will be built: the record is only text.
    specs = [denoiser.plugin.spec for denoiser in denoisers if denoiser.plugin.name in registry.denoisers]
    entries = [registry.denoiser(spec) for spec in specs]
    return [
        spec
        for spec, entry, made in zip(specs, entries, construct(entries, TRIAL_S), strict=True)
        if made.starts_programs or ((made.refused or made.fault) and entry.cls.starts_programs)
    ]


def _is_known(text: str) -> bool:
    return bool(CacheFolder("trusted").read_json(_entry(text)) == text)


def _entry(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest() + ".json"


def reload_registry(
    record: RunRecord, limits: Limits, on_event: Callable[[Event], None], named: Sequence[Path] = ()
) -> Registry:
    """Load the plugins of a run in their current version; `named` are plugin files that the user trusts."""
    providers = [
        *(denoiser.plugin.provider for denoiser in record.denoisers),
        *(part.provider for noise in record.noises for part in noise.parts),
        *(metric.plugin.provider for metric in record.metrics),
    ]
    recorded = {provider.target for provider in providers if provider.kind == "file"}
    require_trusted_files(sorted(recorded), named, record.run_id)
    # The plugin of a data set is not recorded: who resumes or replays such a run names its file again.
    files = sorted(recorded | {str(file.resolve()) for file in named})
    registry = load_registry([Path(file) for file in files], timeout_s=limits.timeout_s, on_event=on_event)
    require_trusted_programs(registry, record)
    return registry


def reload_images(record: RunRecord, registry: Registry) -> ImageSet:
    """Open the images of a run again; raises `BenchboxError` if they have changed."""
    images = open_data(record.options, {name: entry.cls() for name, entry in registry.datasets.items()})
    if images.fingerprint != record.data.fingerprint:
        raise BenchboxError(
            f"the images of {record.options.path or record.options.dataset} have changed since run "
            f"{record.run_id} began",
            hint="restore them, or start a new run",
        )
    return images


def providers_now(record: RunRecord, registry: Registry) -> dict[PluginSpec, Provider | None]:
    """Current provider of each recorded denoiser, noise and metric; None if it is missing."""
    recorded: dict[PluginSpec, Mapping[str, Entry[Any]]] = {
        **{denoiser.plugin: registry.denoisers for denoiser in record.denoisers},
        **{part: registry.noise_models for noise in record.noises for part in noise.parts},
        **{metric.plugin: registry.metrics for metric in record.metrics},
    }
    entries = {plugin: registered.get(plugin.name) for plugin, registered in recorded.items()}
    return {plugin: entry.provider if entry else None for plugin, entry in entries.items()}


def describe_change(record: RunRecord, before: PluginSpec, now: Provider | None) -> str:
    """Message that a plugin differs from the one the run was made with."""
    return (
        f"'{before.name}' was {before.provider.label} {before.provider.version} when run "
        f"{record.run_id} began; now it is {f'{now.label} {now.version}' if now else 'missing'}"
    )
