"""Finds plugins (built in, entry points, folders, files), and tries those of third parties in another process first."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchbox.api.errors import BenchboxError
from benchbox.api.version import DISTRIBUTION, __version__
from benchbox.records.specs import Provider
from benchbox.registry.catalogue import Broken, Registry
from benchbox.registry.loading import HOOKS, call_hooks, is_loaded, load_module, module_beside
from benchbox.system import program

GROUP = "benchbox"
SLOW_S = 5.0
"""Imports that take longer are reported."""
T = TypeVar("T", bound=Hashable)
TRIAL_S = 120.0
"""Time limit of one trial where the user can set none."""


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
    hooks: Collection[str] = HOOKS.keys(),
    forgiving: bool = False,
    timeout_s: float = TRIAL_S,
    on_event: Callable[[PluginEvent], None] = lambda event: None,
) -> Registry:
    """Load all built-in and installed plugins, plugin `files`, and the plugin files in `folders`.

    `hooks` limits what they are asked for, because most modules of a plugin are imported only then.

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
            with program.killing_new_children(of_this_thread=True) if test is not None else contextlib.nullcontext():
                registry.add(provider, hooks)
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
    import hashlib

    content = hashlib.blake2b(digest_size=8)
    for source in plugin_sources(file.resolve()):
        content.update(source.read_bytes())
    return Provider("file", str(file.resolve()), version=content.hexdigest())


def plugin_sources(file: Path) -> list[Path]:
    """A plugin file and the modules beside it that it imports, directly or through each other."""
    import ast

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
    known: dict[Any, tuple[str, str]] = {None: ("", "")}
    for point in sorted(points, key=lambda point: (point.value, point.name)):
        distribution = point.dist
        if distribution is not None and distribution not in known:
            metadata = distribution.metadata  # parses a file, README included
            known[distribution] = metadata["Name"], metadata["Version"]
        yield Provider("entry point", point.value, *known[distribution])


@dataclass(frozen=True)
class Trial:
    """How a trial ended."""

    reason: str  # why the plugin must not be used here; empty if it may be
    seconds: float
    answer: Any = None


_failed: dict[tuple[str, Hashable, float], Trial] = {}


def try_imports(
    providers: Sequence[Provider], timeout_s: float, on_begin: Callable[[Provider], None]
) -> dict[Provider, Trial]:
    """Import plugins that this process has not imported yet, call their hooks and construct their data sets.

    An ordinary exception counts as success, because importing the plugin here raises it again, where it is reported.
    `timeout_s` limits each plugin; `on_begin` is called before each.
    """
    wanted = [provider for provider in dict.fromkeys(providers) if not is_loaded(provider)]
    return try_each("benchbox.registry.finding", wanted, timeout_s, "importing", on_begin)


def try_each(
    module: str,
    items: Sequence[T],
    timeout_s: float,
    step: str,
    on_begin: Callable[[T], None] = lambda item: None,
) -> dict[T, Trial]:
    """Let ``main()`` of a module, which calls `answer_each`, answer for each item in a new process.

    `step` is what it does to an item, such as ``importing``; `timeout_s` limits it. After a hang or a death, a new
    process goes on with the next item.
    """
    # A search makes many runs, and a plugin that hangs should cost its time only once. A provider has its version.
    done = {item: _failed[step, item, timeout_s] for item in items if (step, item, timeout_s) in _failed}
    while remaining := [item for item in items if item not in done]:
        done |= _try_some(module, remaining, timeout_s, step, on_begin)
    _failed.update({(step, item, timeout_s): trial for item, trial in done.items() if trial.reason})
    return done


def _try_some(
    module: str, items: Sequence[T], timeout_s: float, step: str, on_begin: Callable[[T], None]
) -> dict[T, Trial]:
    """Try items up to and including the first one that hangs or dies."""
    done: dict[T, Trial] = {}
    with program.Child(module) as child:
        child.send((sys.path, items))
        for item in items:
            on_begin(item)
            begun = time.monotonic()
            answer, reason = None, ""
            try:
                answer = child.receive(timeout_s)  # the first one includes the start of the interpreter
            except program.ChildHangs:
                reason = program.timeout_reason(f"{step} it", timeout_s)
            except program.ChildDied as error:
                reason = f"while {step} it, {error}"
            done[item] = Trial(reason, time.monotonic() - begun, answer)
            if reason:
                break
    return done


def answer_each(answer: Callable[[Any], Any]) -> None:
    """In the new process: answer for each item that the parent sends."""
    connection = program.parent_connection()
    path, items = connection.recv()
    sys.path[:] = path
    for item in items:
        connection.send(answer(item))
    # Exit without waiting for threads that a plugin started.
    os._exit(0)


def main() -> None:
    """Import the plugins that the parent names."""
    answer_each(_import)


def _import(provider: Provider) -> None:
    with contextlib.suppress(Exception, SystemExit):
        for cls in call_hooks(load_module(provider)).get("benchbox_datasets", ()):
            cls()  # as every command that opens data does
