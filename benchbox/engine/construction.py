"""Constructs plugins for planning: are their values valid, and which files, such as weights, do they depend on?

The content of these files is part of a row's identity. Third-party constructors run in a separate process, so one that
hangs or exits does no harm here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchbox.api.denoiser import Capabilities, Denoiser
from benchbox.api.errors import BenchboxError
from benchbox.api.metric import Metric
from benchbox.records.run import PluginSpec, RunRecord
from benchbox.registry import HOOKS, Entry, Registry, answer_each, first_line, load_plugin, plugin_sources, try_each


@dataclass(frozen=True)
class Construction:
    """What came of constructing a plugin."""

    content: str = ""  # digest of the files that it depends on
    # of the instance, whose options may change what the class says
    capabilities: Capabilities = field(default_factory=Capabilities)
    starts_programs: bool = False
    files: tuple[Path, ...] = ()  # that it depends on
    refused: BenchboxError | None = None  # a value is wrong, or a file cannot be read
    fault: str = ""  # it hangs, exits or raises something else


def construct(entries: Iterable[Entry[Any]], timeout_s: float) -> list[Construction]:
    """Construct plugins, each within `timeout_s` seconds; those that are not bundled in a separate process."""
    entries = list(entries)
    tasks = [(_hook_of(entry.cls), entry.plugin) for entry in entries]
    foreign = [task for task in dict.fromkeys(tasks) if task[1].provider.third_party]
    tried = try_each("benchbox.engine.construction", foreign, timeout_s, "constructing") if foreign else {}
    made: list[Construction] = []
    for task, entry in zip(tasks, entries, strict=True):
        trial = tried.get(task)
        if trial is None:
            made.append(try_construction(entry))
        else:
            made.append(Construction(fault=trial.reason) if trial.reason else trial.answer)
    return made


def require_constructed(entries: Iterable[Entry[Any]], timeout_s: float) -> list[Construction]:
    """Construct plugins, or raise `BenchboxError` for the first that cannot be constructed."""
    entries = list(entries)
    constructed = construct(entries, timeout_s)
    for entry, made in zip(entries, constructed, strict=True):
        if made.refused:
            raise made.refused
        if made.fault:
            raise BenchboxError(f"{entry.label} of {entry.provider.label}: {made.fault}", hint="fix its constructor")
    return constructed


def main() -> None:
    """Construct the plugins that the parent names."""
    answer_each(lambda task: try_construction(task[1], hook=task[0]))


def try_construction(given: Entry[Any] | PluginSpec, hook: str = "benchbox_denoisers") -> Construction:
    """Construct a plugin here, and say what came of it."""
    try:
        made = (load_plugin(given, hook) if isinstance(given, PluginSpec) else given).make()
        if isinstance(made, Metric):
            return Construction(content_digest(made))
        if not isinstance(made, Denoiser):
            return Construction()
        content = content_digest(made)
        files = tuple(map(Path, type(made).files(made)))
        return Construction(content, made.capabilities, bool(made.starts_programs), files)
    except BenchboxError as error:
        return Construction(refused=error)
    except (Exception, SystemExit) as error:
        return Construction(fault=first_line(error))


def _hook_of(cls: type) -> str:
    return next(hook for hook, base in HOOKS.items() if issubclass(cls, base))


def content_digest(made: Denoiser | Metric) -> str:
    """Digest of the files of a denoiser or metric, 16 hex digits; empty if it has none. It need not be set up."""
    whole = hashlib.blake2b(digest_size=8)
    try:
        # Call through the class, because an instance may have an unrelated attribute of that name.
        files = [Path(path) for path in type(made).files(made)]  # type: ignore[arg-type]
        # Python code depends on the modules beside it, too.
        parts = [part for path in files for part in (plugin_sources(path) if path.suffix == ".py" else [path])]
        for part in parts:
            with part.open("rb") as file:
                whole.update(hashlib.file_digest(file, "blake2b").digest())
    except BenchboxError:
        raise
    except Exception as error:
        raise BenchboxError(
            f"{made.name}: cannot read the files it depends on: {first_line(error)}",
            hint="check their paths and permissions",
        ) from error
    return whole.hexdigest() if files else ""


def changed_files(record: RunRecord, registry: Registry) -> dict[str, str]:
    """Messages about denoisers with files that have changed since the run began, by canonical specification."""
    rows = [
        denoiser
        for denoiser in record.denoisers
        if denoiser.plugin.content and denoiser.plugin.name in registry.denoisers
    ]
    changed = {}
    made = construct([registry.denoiser(row.plugin.spec) for row in rows], record.options.timeout_s)
    for row, now in zip(rows, made, strict=True):
        if now.content == row.plugin.content:
            continue
        reason = now.refused.message if now.refused else now.fault or "its files, such as weights, have changed"
        changed[row.spec] = f"'{row.label}' differs from when run {record.run_id} began: {reason}"
    return changed


def require_same_content(plugin: PluginSpec, made: Denoiser | Metric) -> None:
    """Raise `BenchboxError` if a denoiser or metric depends on other files than it was planned with."""
    if plugin.content and content_digest(made) != plugin.content:
        raise BenchboxError(
            f"the files of '{plugin.spec}' (its weights) have changed since the run began",
            hint="restore them, or start a new run",
        )
