"""Finds, loads and looks up plugins through four doors, and reports the broken ones."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import pluggy

from benchbox.api import hookspecs
from benchbox.api.dataset import Dataset
from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.api.metric import Metric
from benchbox.api.noise import NoiseModel
from benchbox.api.options import options_of
from benchbox.api.records import Provider
from benchbox.api.spec import NAME

T = TypeVar("T")
GROUP = "benchbox"
_HOOKS: dict[str, type] = {
    "benchbox_denoisers": Denoiser,
    "benchbox_noise_models": NoiseModel,
    "benchbox_datasets": Dataset,
    "benchbox_metrics": Metric,
}


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A class that a plugin offers."""

    name: str
    cls: type[T]
    provider: Provider


@dataclass(frozen=True)
class Broken:
    """A plugin, or one thing it offers, that cannot be used, and why."""

    provider: Provider
    reason: str
    hint: str = ""
    offers: str = ""


@dataclass
class Registry:
    """What can be named in a run."""

    denoisers: dict[str, Entry[Denoiser]] = field(default_factory=dict)
    noise_models: dict[str, Entry[NoiseModel]] = field(default_factory=dict)
    datasets: dict[str, Entry[Dataset]] = field(default_factory=dict)
    metrics: dict[str, Entry[Metric]] = field(default_factory=dict)
    providers: list[Provider] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    clashes: dict[str, tuple[Provider, ...]] = field(default_factory=dict)

    def denoiser(self, name: str) -> Entry[Denoiser]:
        """Look a denoiser up; raises `BenchboxError` with "did you mean"."""
        return self._find("denoiser", name, self.denoisers)

    def noise_model(self, name: str) -> Entry[NoiseModel]:
        """Look a noise model up; raises `BenchboxError` with "did you mean"."""
        return self._find("noise model", name, self.noise_models)

    def dataset(self, name: str) -> Entry[Dataset]:
        """Look a data set up; raises `BenchboxError` with "did you mean"."""
        return self._find("data set", name, self.datasets)

    def metric(self, name: str) -> Entry[Metric]:
        """Look a metric up; raises `BenchboxError` with "did you mean"."""
        return self._find("metric", name, self.metrics)

    def offers(self, provider: Provider) -> dict[str, list[str]]:
        """Names that one plugin offers, by kind."""
        shelves: dict[str, Mapping[str, Entry[Any]]] = {
            "denoisers": self.denoisers,
            "noises": self.noise_models,
            "datasets": self.datasets,
            "metrics": self.metrics,
        }
        names = {
            kind: sorted(name for name, entry in shelf.items() if entry.provider == provider)
            for kind, shelf in shelves.items()
        }
        return {kind: offered for kind, offered in names.items() if offered}

    def _find(self, kind: str, name: str, entries: Mapping[str, Entry[T]]) -> Entry[T]:
        if name in self.clashes:
            both = " and ".join(provider.label for provider in self.clashes[name])
            raise BenchboxError(f"'{name}' is offered twice: by {both}", hint="uninstall or leave out one of them")
        if name in entries:
            return entries[name]
        for broken in self.broken:
            if name == broken.offers:
                raise BenchboxError(f"{kind} '{name}' of {broken.provider.label}: {broken.reason}", hint=broken.hint)
        raise BenchboxError(f"there is no {kind} '{name}'", hint=did_you_mean(name, entries))

    def _add(self, hook: str, cls: Any, provider: Provider) -> None:
        problem = _problem(cls, _HOOKS[hook], hook)
        if problem is not None:
            name = getattr(cls, "name", "")
            self.broken.append(Broken(provider, *problem, offers=name if isinstance(name, str) else ""))
            return
        shelf = self._shelf(hook)
        if cls.name in shelf and shelf[cls.name].provider != provider:
            self.clashes[cls.name] = (shelf[cls.name].provider, provider)
            self.broken.append(
                Broken(
                    provider,
                    f"'{cls.name}' is offered by {shelf[cls.name].provider.label} too",
                    "rename one of them or uninstall one of the plugins",
                    cls.name,
                )
            )
            return
        shelf[cls.name] = Entry(cls.name, cls, provider)

    def _shelf(self, hook: str) -> dict[str, Entry[Any]]:
        shelves: dict[str, dict[str, Entry[Any]]] = {
            "benchbox_denoisers": self.denoisers,
            "benchbox_noise_models": self.noise_models,
            "benchbox_datasets": self.datasets,
            "benchbox_metrics": self.metrics,
        }
        return shelves[hook]

    def add_file(self, file: Path) -> None:
        """Load a plugin of one file."""
        content = hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
        self.add(Provider("file", str(file.resolve()), version=content))

    def add(self, provider: Provider) -> None:
        """Load one plugin and shelve what it offers; what is broken is noted, never raised."""
        try:
            module = load_module(provider)
        except (Exception, SystemExit) as error:
            self.broken.append(Broken(provider, _first_line(error), "fix the plugin, or leave it out"))
            return
        self.providers.append(provider)
        for name in vars(module):
            if name.startswith("benchbox_") and name not in _HOOKS and hasattr(getattr(module, name), "benchbox_impl"):
                self.broken.append(Broken(provider, f"there is no hook '{name}'", did_you_mean(name, _HOOKS)))
        for hook, classes in _call_hooks(module).items():
            if isinstance(classes, BaseException):
                self.broken.append(Broken(provider, f"{hook}: {_first_line(classes)}", "fix the hook"))
                continue
            if isinstance(classes, (str, bytes, type)) or not isinstance(classes, Iterable):
                reason = f"{hook} returned {type(classes).__name__}, not a list of classes"
                self.broken.append(Broken(provider, reason, f"return [{_HOOKS[hook].__name__} subclasses]"))
                continue
            for cls in classes:
                self._add(hook, cls, provider)


def load_registry(files: Iterable[Path] = (), folders: Iterable[Path] = ()) -> Registry:
    """Load every plugin that can be found.

    Parameters
    ----------
    files : iterable of Path
        Plugins of one file (``--plugin``). One of these that is broken is an error, for it was asked for.
    folders : iterable of Path
        Folders whose ``*.py`` files are plugins (``--plugins-dir``).

    Returns
    -------
    Registry

    Raises
    ------
    BenchboxError
        A file or folder that was asked for is missing, or a file is broken.
    """
    registry = Registry()
    for provider in _installed():
        registry.add(provider)
    for folder in folders:
        if not folder.is_dir():
            raise BenchboxError(f"plugins folder {folder}: there is no such folder", hint="check --plugins-dir")
        for file in sorted(folder.glob("*.py")):
            if not file.name.startswith("_"):
                registry.add_file(file)
    for file in files:
        if not file.is_file():
            raise BenchboxError(f"plugin {file}: there is no such file", hint="check --plugin")
        before = len(registry.broken)
        registry.add_file(file)
        for broken in registry.broken[before:]:
            raise BenchboxError(f"plugin {file}: {broken.reason}", hint=broken.hint)
    return registry


def load_class(provider: Provider, hook: str, name: str) -> type[Any]:
    """Load just one class again, in a worker process.

    Raises
    ------
    BenchboxError
        The plugin no longer offers it.
    """
    classes = _call_hooks(load_module(provider)).get(hook, ())
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
    path = Path(provider.target)
    name = f"_benchbox_plugin_{path.stem}_{hashlib.blake2b(provider.target.encode(), digest_size=4).hexdigest()}"
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


def _installed() -> Iterable[Provider]:
    yield Provider("built in", "benchbox.builtin", "benchbox", importlib.metadata.version("benchbox"))
    points = importlib.metadata.entry_points(group=GROUP)
    for point in sorted(points, key=lambda one: (one.value, one.name)):
        distribution = point.dist
        yield Provider(
            "entry point",
            point.value,
            distribution.name if distribution else "",
            distribution.version if distribution else "",
        )


def _call_hooks(module: ModuleType) -> dict[str, Any]:
    """Call each hook of one plugin by itself, so that one that raises takes nothing else along."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
    except pluggy.PluginValidationError as error:
        return {"hooks": BenchboxError(str(error).strip().splitlines()[-1])}
    found: dict[str, Any] = {}
    for hook in _HOOKS:
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            try:
                result = implementation.function()
                found[hook] = list(result) if isinstance(result, Iterable) and not isinstance(result, str) else result
            except (Exception, SystemExit) as error:
                found[hook] = error
    return found


def _problem(cls: Any, base: type, hook: str) -> tuple[str, str] | None:
    """Why a class cannot be used, and what to do; None when it can."""
    if not isinstance(cls, type):
        return f"{hook} returned {cls!r}, which is not a class", "return the class itself, not an object"
    if not issubclass(cls, base):
        return f"{hook}: {cls.__name__} is not a {base.__name__}", f"derive it from benchbox.{base.__name__}"
    name = getattr(cls, "name", None)
    if not isinstance(name, str):
        return f"{hook}: {cls.__name__} has no name", f"add the class attribute name = '{cls.__name__.lower()}'"
    if not NAME.fullmatch(name):
        return f"{hook}: '{name}' is not a valid name", "use lower-case letters, digits and underscores"
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        return f"{hook}: {cls.__name__} lacks {missing}", f"write the method {missing}"
    if not isinstance(getattr(cls, "summary", None), str):
        return f"{hook}: {cls.__name__} has no summary", "add the class attribute summary = '...'"
    try:
        options_of(cls)
    except BenchboxError as error:
        return error.message, error.hint
    return None


def _first_line(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
