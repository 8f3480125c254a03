"""Imports a plugin and calls its hooks."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from benchbox.api import hookspecs
from benchbox.api.dataset import Dataset
from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError
from benchbox.api.metric import Metric
from benchbox.api.noise import NoiseModel
from benchbox.api.records import Provider

HOOKS: dict[str, type] = {
    "benchbox_denoisers": Denoiser,
    "benchbox_noise_models": NoiseModel,
    "benchbox_datasets": Dataset,
    "benchbox_metrics": Metric,
}


def load_class(provider: Provider, hook: str, name: str) -> type[Any]:
    """Load just one class again, in a worker process.

    Raises
    ------
    BenchboxError
        The plugin no longer offers it.
    """
    classes = call_hooks(load_module(provider)).get(hook, ())
    if isinstance(classes, BaseException):
        raise classes
    for cls in classes:
        if cls.name == name:
            return cls  # type: ignore[no-any-return]
    raise BenchboxError(f"{provider.label} no longer offers '{name}'", hint="was the plugin changed during the run?")


def load_module(provider: Provider) -> ModuleType:
    """Import the module of a plugin."""
    if provider.kind != "file":
        return importlib.import_module(provider.target)
    path, name = Path(provider.target), _module_name(provider)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BenchboxError(f"plugin {path}: not a Python file", hint="a plugin file ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def is_loaded(provider: Provider) -> bool:
    """Whether this process has imported a plugin already."""
    return _module_name(provider) in sys.modules


def _module_name(provider: Provider) -> str:
    if provider.kind != "file":
        return provider.target
    digest = hashlib.blake2b(provider.target.encode(), digest_size=4).hexdigest()
    return f"_benchbox_plugin_{Path(provider.target).stem}_{digest}"


def call_hooks(module: ModuleType) -> dict[str, Any]:
    """Call each hook of one plugin by itself, so that one that raises takes nothing else along."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
    except pluggy.PluginValidationError as error:
        return {"hooks": BenchboxError(str(error).strip().splitlines()[-1])}
    found: dict[str, Any] = {}
    for hook in HOOKS:
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            try:
                result = implementation.function()
                found[hook] = list(result) if isinstance(result, Iterable) and not isinstance(result, str) else result
            except (Exception, SystemExit) as error:
                found[hook] = error
    return found


def first_line(error: BaseException) -> str:
    """Kind of an exception and the first line of what it says."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
