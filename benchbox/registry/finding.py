"""Finds plugins: built in, entry points, plugin folders and plugin files."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchbox.api.errors import BenchboxError
from benchbox.api.version import DISTRIBUTION, __version__
from benchbox.records.run import Provider
from benchbox.registry.catalogue import Broken, Registry
from benchbox.registry.quarantine import try_imports
from benchbox.system.program import killing_new_children

GROUP = "benchbox"
IMPORT_S = 120.0
SLOW_S = 5.0
"""From here on a user is told what an import took."""


@dataclass(frozen=True)
class Importing:
    """A plugin that is not a part of benchbox is about to be imported."""

    provider: Provider


@dataclass(frozen=True)
class SlowImport:
    """A plugin took `seconds` to import, which every process that uses it will take again."""

    provider: Provider
    seconds: float


PluginEvent = Importing | SlowImport | Broken


def load_registry(
    files: Iterable[Path] = (),
    folders: Iterable[Path] = (),
    *,
    forgiving: bool = False,
    timeout_s: float = IMPORT_S,
    on_event: Callable[[PluginEvent], None] = lambda event: None,
) -> Registry:
    """Load every plugin that can be found.

    A plugin that is not a part of benchbox is imported in a process of its own before it is imported here: one that
    hangs, or ends the process, is a broken plugin and nothing more.

    Parameters
    ----------
    files : iterable of Path
        Plugins of one file (``--plugin``).
    folders : iterable of Path
        Folders whose ``*.py`` files are plugins (``--plugins-dir``).
    forgiving : bool
        Whether a broken one of `files` is noted like any other; else it is an error, for it was asked for.
    timeout_s : float
        Seconds that importing one plugin may take.
    on_event : callable
        Told of each plugin that is tried, and of what is broken or slow.

    Returns
    -------
    Registry

    Raises
    ------
    BenchboxError
        A file or folder that was asked for is missing, or a file is broken.
    """
    asked_for = [_provider_of(file) for file in files]
    providers = [*_installed(), *(one for folder in folders for one in _providers_in(folder)), *asked_for]
    third_party = [one for one in providers if one.kind == "file" or one.distribution != DISTRIBUTION]
    tested = try_imports(third_party, timeout_s, lambda provider: on_event(Importing(provider)))
    registry = Registry()
    for provider in providers:
        before = len(registry.broken)
        test = tested.get(provider)
        if test is not None and test.reason:
            registry.broken.append(
                Broken(provider, test.reason, "fix what it does when it is imported, or leave it out")
            )
        else:
            # What it does when it is imported, it does here again.
            with killing_new_children(of_this_thread=True) if test is not None else contextlib.nullcontext():
                registry.add(provider)
        if test is not None and not test.reason and test.seconds > SLOW_S:
            on_event(SlowImport(provider, test.seconds))
        for broken in registry.broken[before:]:
            if provider in asked_for and not forgiving:
                raise BenchboxError(f"plugin {provider.label}: {broken.reason}", hint=broken.hint)
            on_event(broken)
    return registry


def _provider_of(file: Path) -> Provider:
    if not file.is_file():
        raise BenchboxError(f"plugin {file}: there is no such file", hint="check --plugin")
    content = hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
    return Provider("file", str(file.resolve()), version=content)


def _providers_in(folder: Path) -> list[Provider]:
    if not folder.is_dir():
        raise BenchboxError(f"plugins folder {folder}: there is no such folder", hint="check --plugins-dir")
    return [_provider_of(file) for file in sorted(folder.glob("*.py")) if not file.name.startswith("_")]


def _installed() -> Iterable[Provider]:
    yield Provider("built in", "benchbox.builtin", DISTRIBUTION, __version__)
    points = importlib.metadata.entry_points(group=GROUP)
    for point in sorted(points, key=lambda one: (one.value, one.name)):
        distribution = point.dist
        yield Provider(
            "entry point",
            point.value,
            distribution.name if distribution else "",
            distribution.version if distribution else "",
        )
