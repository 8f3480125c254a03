"""Imports a plugin and calls its hooks, without lasting changes to the process."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import random
import re
import signal
import sys
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from benchbox.api import hookspecs
from benchbox.api.dataset import Dataset
from benchbox.api.denoiser import Capabilities, Denoiser, ImageDenoiser
from benchbox.api.errors import BenchboxError
from benchbox.api.metric import Metric
from benchbox.api.noise import NoiseModel
from benchbox.records.specs import Configured, PluginSpec, Provider, configure


@contextlib.contextmanager
def process_kept() -> Iterator[None]:
    """Restore the working folder, environment, umask, signal handlers and random states afterwards.

    A plugin that changes the folder would move the results; one that ignores an interrupt would make the run ignore it.
    Standard output goes to standard error meanwhile, so that a plugin's prints do not corrupt JSON output.
    """
    with contextlib.ExitStack() as after:
        with contextlib.suppress(OSError, ValueError):
            _flush()
            output = os.dup(1)
            after.callback(os.close, output)
            after.callback(os.dup2, output, 1)
            after.callback(_flush)
            os.dup2(2, 1)
        # A file descriptor, because the folder may be renamed or removed meanwhile.
        with contextlib.suppress(OSError):
            here = os.open(os.curdir, os.O_RDONLY | os.O_CLOEXEC)
            after.callback(os.close, here)
            after.callback(os.fchdir, here)
        after.callback(_set_environment, dict(os.environ))
        mask = os.umask(0o077)
        os.umask(mask)
        after.callback(os.umask, mask)
        after.callback(random.setstate, random.getstate())
        if "numpy.random" in sys.modules:
            import numpy as np

            # The global state; benchbox itself uses generators of its own.
            after.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002
        # Only the main thread can set signal handlers.
        if threading.current_thread() is threading.main_thread():
            for number in signal.valid_signals():
                after.callback(_set_handler, number, signal.getsignal(number))
            after.callback(signal.pthread_sigmask, signal.SIG_SETMASK, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        yield


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # it may be closed or None
        sys.stdout.flush()


def _set_environment(values: dict[str, str]) -> None:
    for name in os.environ.keys() - values.keys():
        del os.environ[name]
    for name, value in values.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _set_handler(number: signal.Signals, handler: Any) -> None:
    # None means a handler not set from Python, which cannot be restored.
    if handler is not None and signal.getsignal(number) is not handler:
        signal.signal(number, handler)


HOOKS: dict[str, type] = {
    "benchbox_denoisers": Denoiser,
    "benchbox_noise_models": NoiseModel,
    "benchbox_datasets": Dataset,
    "benchbox_metrics": Metric,
}


def load_plugin(plugin: PluginSpec, hook: str) -> Configured[Any]:
    """Load and configure one plugin class again, in a worker process.

    Raises
    ------
    BenchboxError
        The plugin no longer offers it.
    """
    classes = call_hooks(load_module(plugin.provider), [hook]).get(hook, ())
    if isinstance(classes, BaseException):
        raise classes
    for cls in classes:
        if cls.name == plugin.name:
            return configure(cls, plugin.spec)
    raise BenchboxError(
        f"{plugin.provider.label} no longer offers '{plugin.name}'",
        hint="do not change plugins during a run; start the run again",
    )


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
    _let_import_from(path.parent)
    try:
        spec.loader.exec_module(module)
        if not _has_hooks(module):
            denoisers_without_hook(module)  # so that the class of a function is found by its name, as every other is
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _let_import_from(folder: Path) -> None:
    """Let a plugin file import modules that lie beside it, which come after all installed ones.

    Plugin files in different folders may have modules of one name beside them, so a module of another folder is
    forgotten; what imported it earlier keeps it.
    """
    for name, module in list(sys.modules.items()):
        # Text, because there are thousands of modules, and a path of each would take tens of milliseconds.
        beside = (getattr(module, "__file__", None) or "").rpartition(os.sep)[0]
        if beside in _plugin_folders and beside != str(folder) and module_beside(folder, name) is not None:
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if entry not in _plugin_folders] + [str(folder)]
    _plugin_folders.add(str(folder))
    importlib.invalidate_caches()


_plugin_folders: set[str] = set()


def module_beside(folder: Path, name: str) -> Path | None:
    """The file of a module in a folder, or of a package there; None if there is none."""
    candidates = folder / f"{name}.py", folder / name / "__init__.py"
    return next((file for file in candidates if file.is_file()), None)


def is_loaded(provider: Provider) -> bool:
    """Whether this process has already imported the plugin."""
    return _module_name(provider) in sys.modules


def _module_name(provider: Provider) -> str:
    if provider.kind != "file":
        return provider.target
    import hashlib

    digest = hashlib.blake2b(provider.target.encode(), digest_size=4).hexdigest()
    return f"_benchbox_plugin_{Path(provider.target).stem}_{digest}"


def call_hooks(module: ModuleType, hooks: Collection[str] = HOOKS.keys()) -> dict[str, Any]:
    """Call each of these hooks of a plugin separately; an exception takes the place of its result."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
    except pluggy.PluginValidationError as error:
        return {"hooks": BenchboxError(str(error).strip().splitlines()[-1])}
    results: dict[str, Any] = {}
    if not _has_hooks(module):
        return {"benchbox_denoisers": denoisers_without_hook(module)}
    for hook in hooks:
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            try:
                result = implementation.function()
                results[hook] = list(result) if isinstance(result, Iterable) and not isinstance(result, str) else result
            except (Exception, SystemExit) as error:
                results[hook] = error
    return results


def _has_hooks(module: ModuleType) -> bool:
    return any(name in HOOKS for name in vars(module))


def denoisers_without_hook(module: ModuleType) -> list[type[Denoiser]]:
    """Denoisers of a plugin without hooks: the classes that it defines, or its function `denoise` or `denoise_image`.

    A function takes (noisy, sigma) as the method of that name; without the second parameter it is blind.
    """
    own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
    classes = [cls for cls in own if isinstance(cls, type) and issubclass(cls, Denoiser)]
    if classes:
        return [cls for cls in classes if not inspect.isabstract(cls)] or classes
    for method, base in (("denoise", Denoiser), ("denoise_image", ImageDenoiser)):
        function = getattr(module, method, None)
        if inspect.isfunction(function) and function in own:
            stem = re.sub("[^a-z0-9]+", "_", Path(str(module.__file__)).stem.lower()).strip("_")
            name = stem if stem[:1].isalpha() else f"plugin_{stem}"
            if not hasattr(module, "FunctionDenoiser"):  # the module keeps it, so that another process finds it there
                made = function_denoiser(function, name, method, base)  # type: ignore[type-abstract]
                made.__module__ = module.__name__
                module.__dict__["FunctionDenoiser"] = made
            return [vars(module)["FunctionDenoiser"]]
    return []


def function_denoiser(function: Any, name: str, method: str, base: type[Denoiser]) -> type[Denoiser]:
    """A denoiser whose method `denoise` or `denoise_image` calls a function of (noisy, sigma), or of (noisy)."""
    informed = len(inspect.signature(function).parameters) > 1

    def call(self: Denoiser, noisy: Any, sigma: Any) -> Any:
        return function(noisy, sigma) if informed else function(noisy)

    body = {
        "__doc__": function.__doc__,
        "name": name,
        "capabilities": Capabilities(sigma="optional" if informed else "unused"),
        method: call,
    }
    return type("FunctionDenoiser", (base,), body)


def first_line(error: BaseException) -> str:
    """Type of an exception, the first line of its message, and what to do about a file that a plugin did not find."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    try:
        text = str(error).strip()
    except Exception:  # __str__ of a foreign exception may raise
        text = ""
    if not text:
        return type(error).__name__
    return f"{type(error).__name__}: {text.splitlines()[0]}{_beside_plugin(error, text)}"


def _beside_plugin(error: BaseException, text: str) -> str:
    """Where the file is that an error is about, if a plugin file has it beside it but looks in the working folder."""
    named = getattr(error, "filename", None)
    for folder in map(Path, sorted(_plugin_folders)):
        with contextlib.suppress(OSError):
            for name in [named] if isinstance(named, str) else [file.name for file in folder.iterdir() if file.suffix]:
                missing = name in text and not Path(name).is_absolute() and not Path(name).exists()
                if missing and (folder / name).is_file() and re.search(rf"(?<![\w/.-]){re.escape(name)}", text):
                    return f' (it is beside the plugin: open Path(__file__).parent / "{name}")'
    return ""
