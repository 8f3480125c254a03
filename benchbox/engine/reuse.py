"""Copies what an earlier run has computed from the same code, files and data, so that nothing is computed twice.

Two cells are equal if they have the same key (what was asked for) and the same code (with what it was computed). What
cannot be known to be the same has no code, and is computed each time.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchbox.api.errors import BenchboxError
from benchbox.engine.environment import environment
from benchbox.records.run import Cell, DenoiserRecord, Provider, digest
from benchbox.store import IMAGE, RunStore, list_runs, noise_key
from benchbox.system.files import read_bounded

MOST_LOAD = 1.0
"""Runnable processes per core before a run, up to which its latencies are worth keeping."""
_MOST_JSON = 64 << 20
_SAME_MACHINE = ("cpu", "cores", "memory_gb", "system")
_SAME_TIMING = ("threads", "batch", "timing_budget_s")


def code_of(denoiser: DenoiserRecord, others: Sequence[Provider]) -> str:
    """Digest of the code and the machine that compute a cell; empty if they may change without a trace.

    `others` provide the noise and the metrics. A plugin file may import or read anything beside it, a program may be
    another one tomorrow, and a denoiser that draws random numbers is run again on purpose.
    """
    providers = {denoiser.plugin.provider, *others}
    foreign = denoiser.starts_programs or any(provider.kind == "file" for provider in providers)
    if foreign or not denoiser.deterministic:
        return ""
    packages = sorted({"benchbox", *(provider.target.partition(":")[0].partition(".")[0] for provider in providers)})
    return digest([_machine(), *((package, package_digest(package)) for package in packages)])


@functools.cache
def package_digest(name: str, *, only_code: bool = False) -> str:
    """Digest of the files of a package: the content of its code, the size and time of everything else.

    `only_code` leaves out everything else, whose time differs between machines.
    """
    spec = importlib.util.find_spec(name)
    whole = hashlib.blake2b(digest_size=8)
    for folder in sorted((spec.submodule_search_locations if spec else None) or ()):
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts and (file.suffix == ".py" or not only_code):
                whole.update(str(file.relative_to(folder)).encode("utf-8", "surrogateescape"))
                _update(whole, file)
    if spec is not None and not spec.submodule_search_locations and spec.origin:
        _update(whole, Path(spec.origin))
    return whole.hexdigest()


def _update(whole: hashlib.blake2b, file: Path) -> None:
    if file.suffix == ".py":
        whole.update(file.read_bytes())
    else:
        state = file.stat()
        whole.update(f"{state.st_size} {state.st_mtime_ns}".encode())


@functools.cache
def _machine() -> list[Any]:
    """What scores may depend on besides code that is read here: libraries decide how they add and multiply."""
    packages = {
        folder.name
        for entry in sys.path
        for pattern in ("*.dist-info", "*.egg-info")
        for folder in (Path(entry).glob(pattern) if entry else ())
    }
    return [platform.python_version(), platform.machine(), environment().cpu, sorted(packages)]


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
        if timing is None or timing.status != "ok" or timing.reason or timing.noise != cell.noise:
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
