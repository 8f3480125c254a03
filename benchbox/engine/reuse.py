"""Uses earlier runs again: copies what they have computed, and reloads what they were made with.

Two cells are equal if they have the same key (what was asked for) and the same code (with what it was computed). What
cannot be known to be the same has no code, and is computed each time. A recorded run may come from anybody, so its
plugin files and programs are loaded only if the user trusts them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.engine.construction import construct
from benchbox.engine.data import open_data
from benchbox.engine.events import Event
from benchbox.engine.plan import Limits
from benchbox.records.run import Cell, DenoiserRecord, PluginSpec, Provider, RunRecord
from benchbox.registry import TRIAL_S, Entry, Registry, load_registry
from benchbox.store import IMAGE, RunStore, list_runs, noise_key
from benchbox.system.files import CacheFolder, read_bounded

MOST_LOAD = 1.0
"""Runnable processes per core before a run, up to which its latencies are worth keeping."""
_MOST_JSON = 64 << 20
_SAME_MACHINE = ("cpu", "cores", "memory_gb", "system")
_SAME_TIMING = ("threads", "batch", "timing_budget_s")


def reuse_cells(store: RunStore, results: Path) -> dict[str, RunStore]:
    """Copy equal cells, their ceilings and latencies into a new run; returns the run of each cell by its key."""
    wanted = {cell.key: cell for cell in store.record.cells if cell.code and not cell.skipped}
    sources: dict[str, RunStore] = {}
    for source in _earlier_runs(results, store.record.run_id, wanted):
        for cell in source.record.cells:
            mine = wanted.get(cell.key)
            if mine is not None and cell.code == mine.code and _copy_cell(source, store, mine):
                sources[cell.key] = source
                del wanted[cell.key]
        if not wanted:
            break
    for noise in store.record.noises:
        keys = [cell.key for cell in store.record.cells if cell.noise == noise.spec and cell.key in sources]
        if keys and (ceiling := sources[keys[0]].ceiling(noise.spec)):
            store.write_ceiling(noise.spec, ceiling)
    if store.record.options.timing:
        _copy_timings(store, sources)
    return sources


def reuse_previews(store: RunStore, cell: Cell, source: RunStore) -> bool:
    """Copy the pictures of a cell from an earlier run, if it shows the same images in the same way."""
    key = noise_key(cell.noise)
    (mine, pictures), (other, others) = store.previews(key), source.previews(key)
    same = mine.keys() == other.keys() and all(
        np.array_equal(mine[name], other[name]) for name in mine.keys() - {"why"}
    )
    if not same or any(
        not np.array_equal(one, two) for name in pictures for one, two in zip(pictures[name], others[name], strict=True)
    ):
        return False
    columns, denoised = source.previews(cell.key)
    if columns:
        store.write_previews(cell.key, columns, denoised)
    return bool(columns)


def _earlier_runs(results: Path, run_id: str, wanted: Mapping[str, Cell]) -> Iterator[RunStore]:
    """Readable runs that may have a wanted cell, the newest first."""
    for folder in reversed(list_runs(results)):
        try:
            text = read_bounded(folder / "run.json", _MOST_JSON)
            if folder.name != run_id and any(key.encode() in text for key in wanted):
                store = RunStore.open(folder)
                if _is_of_one_kind(store):
                    yield store
        except (BenchboxError, OSError):
            continue


def _is_of_one_kind(store: RunStore) -> bool:
    """Whether the machines of a cluster that computed a run are like the one that led it, which its cells name."""
    own = store.record.environment
    return all(
        (machine.environment.cpu, machine.environment.python, machine.environment.versions)
        == (own.cpu, own.python, own.versions)
        for machine in store.machines().machines.values()
    )


def _copy_cell(source: RunStore, store: RunStore, cell: Cell) -> bool:
    """Copy the scores of a cell, if it was completed and they are whole, with its images if they are to be saved."""
    try:
        outcome = source.outcomes().get(cell.key)
        if outcome is None or outcome.status != "ok":
            return False
        scores = source.scores(cell.key)
    except BenchboxError:
        return False
    record = store.record
    images = np.repeat(np.arange(record.data.images), record.protocol.repeats)
    if not np.array_equal(scores.get(IMAGE, ()), images) or any(metric.spec not in scores for metric in record.metrics):
        return False
    if record.options.save_images:
        shards = source.finished_shards(cell.key)
        try:
            stacks = [source.denoised(cell.key, *shard) for shard in shards]
        except BenchboxError:
            return False
        for shard, stack in zip(shards, stacks, strict=True):
            store.write_denoised(cell.key, *shard, stack)
            store.write_shard(cell.key, *shard, source.shard(cell.key, *shard))
    else:
        store.write_shard(cell.key, 0, len(images), scores)
    store.write_outcome(cell.key, replace(outcome, reused=outcome.reused or source.record.run_id))
    return True


def _copy_timings(store: RunStore, sources: Mapping[str, RunStore]) -> None:
    """Copy latencies that were sampled in the same way on this machine, when it was idle, for the same noise."""
    record = store.record
    if record.options.timing_on:
        return  # nobody knows yet what that worker is
    first: dict[str, Cell] = {}
    for cell in record.cells:
        if not cell.skipped:
            first.setdefault(cell.denoiser, cell)
    for denoiser, cell in first.items():
        source = sources.get(cell.key)
        if source is None or not _is_timed_alike(store, source):
            continue
        try:
            timing = source.timings().get(denoiser)
        except BenchboxError:
            continue
        if timing is None or timing.status != "ok" or timing.reason or timing.machine or timing.noise != cell.noise:
            continue
        if timing.reused or _was_idle(source):
            store.write_timing(denoiser, replace(timing, reused=timing.reused or source.record.run_id))


def _is_timed_alike(store: RunStore, source: RunStore) -> bool:
    mine, other = store.record, source.record
    return all(getattr(mine.options, name) == getattr(other.options, name) for name in _SAME_TIMING) and all(
        getattr(mine.environment, name) == getattr(other.environment, name) for name in _SAME_MACHINE
    )


def _was_idle(source: RunStore) -> bool:
    load, cores = source.record.environment.load, source.record.environment.cores
    return isinstance(cores, int) and load <= MOST_LOAD * cores


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
