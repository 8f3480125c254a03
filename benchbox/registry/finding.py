"""Finds plugins: built in, entry points, plugin folders and plugin files."""

from __future__ import annotations

import ast
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
from benchbox.registry.loading import module_beside
from benchbox.registry.quarantine import TRIAL_S, try_imports
from benchbox.system.program import killing_new_children

GROUP = "benchbox"
SLOW_S = 5.0
"""Imports that take longer are reported."""


@dataclass(frozen=True)
class Importing:
    """A third-party plugin is about to be imported."""

    provider: Provider


@dataclass(frozen=True)
class SlowImport:
    """A plugin took `seconds` to import, as it will in every process that uses it."""

    provider: Provider
    seconds: float


PluginEvent = Importing | SlowImport | Broken


def load_registry(
    files: Iterable[Path] = (),
    folders: Iterable[Path] = (),
    *,
    forgiving: bool = False,
    timeout_s: float = TRIAL_S,
    on_event: Callable[[PluginEvent], None] = lambda event: None,
) -> Registry:
    """Load all built-in and installed plugins, plugin `files`, and the plugin files in `folders`.

    Third-party plugins are imported in a separate process first, so one that hangs or exits is only a broken plugin.
    `timeout_s` limits each import. A broken one of `files` is an error, because the user named it, unless `forgiving`.
    """
    named = [_provider_of(file) for file in files]
    providers = [*_installed(), *(provider for folder in folders for provider in _providers_in(folder)), *named]
    third_party = [provider for provider in providers if provider.third_party]
    tested = try_imports(third_party, timeout_s, lambda provider: on_event(Importing(provider)))
    registry = Registry()
    for provider in providers:
        before = len(registry.broken)
        test = tested.get(provider)
        if test is not None and test.reason:
            registry.broken.append(Broken(provider, test.reason, "fix what it does on import, or omit it"))
        else:
            # On import it may start processes here, too.
            with killing_new_children(of_this_thread=True) if test is not None else contextlib.nullcontext():
                registry.add(provider)
        if test is not None and not test.reason and test.seconds > SLOW_S:
            on_event(SlowImport(provider, test.seconds))
        for broken in registry.broken[before:]:
            if provider in named and not forgiving:
                raise BenchboxError(f"plugin {provider.label}: {broken.reason}", hint=broken.hint)
            on_event(broken)
    return registry


def _provider_of(file: Path) -> Provider:
    if not file.is_file():
        raise BenchboxError(f"plugin {file}: no such file", hint="check --plugin")
    content = hashlib.blake2b(digest_size=8)
    for source in _sources(file.resolve()):
        content.update(source.read_bytes())
    return Provider("file", str(file.resolve()), version=content.hexdigest())


def _sources(file: Path) -> list[Path]:
    """A plugin file and the modules beside it that it imports, directly or through each other."""
    sources, waiting = [file], [file]
    while waiting:
        try:
            tree = list(ast.walk(ast.parse(waiting.pop().read_bytes())))
        except (SyntaxError, ValueError):
            continue  # importing it says so
        imported = [alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names]
        imported += [node.module for node in tree if isinstance(node, ast.ImportFrom) and node.module]
        for name in dict.fromkeys(name.partition(".")[0] for name in imported):
            module = module_beside(file.parent, name)
            parts = sorted(module.parent.rglob("*.py")) if module and module.name == "__init__.py" else [module]
            new = [part for part in parts if part and part not in sources]
            sources += new
            waiting += new
    return sources


def _providers_in(folder: Path) -> list[Provider]:
    if not folder.is_dir():
        raise BenchboxError(f"plugins folder {folder}: no such folder", hint="check --plugins-dir")
    return [_provider_of(file) for file in sorted(folder.glob("*.py")) if not file.name.startswith("_")]


def _installed() -> Iterable[Provider]:
    yield Provider("built in", "benchbox.builtin", DISTRIBUTION, __version__)
    points = importlib.metadata.entry_points(group=GROUP)
    for point in sorted(points, key=lambda point: (point.value, point.name)):
        distribution = point.dist
        yield Provider(
            "entry point",
            point.value,
            distribution.name if distribution else "",
            distribution.version if distribution else "",
        )
