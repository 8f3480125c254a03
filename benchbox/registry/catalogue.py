"""The registry: everything that plugins offer, by type and name, and whatever is broken."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from benchbox.api.dataset import Dataset
from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.api.metric import Metric
from benchbox.api.noise import NoiseModel
from benchbox.records.specs import (
    NAME,
    Configured,
    PluginSpec,
    Provider,
    Spec,
    options_of,
    parse_composition,
    parse_spec,
)
from benchbox.registry.loading import HOOKS, call_hooks, first_line, load_module, process_kept

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Configured[T]):
    """A class that a plugin offers, with values for its options."""

    provider: Provider = field(kw_only=True)

    @property
    def plugin(self) -> PluginSpec:
        """Enough to make the same thing in another process."""
        return PluginSpec(self.provider, self.spec)


@dataclass(frozen=True)
class Broken:
    """A plugin, or one thing it offers, that cannot be used, and why."""

    provider: Provider
    reason: str
    hint: str = ""
    offers: str = ""


@dataclass
class Registry:
    """Everything that a run can use, by name."""

    denoisers: dict[str, Entry[Denoiser]] = field(default_factory=dict)
    noise_models: dict[str, Entry[NoiseModel]] = field(default_factory=dict)
    datasets: dict[str, Entry[Dataset]] = field(default_factory=dict)
    metrics: dict[str, Entry[Metric]] = field(default_factory=dict)
    providers: list[Provider] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    clashes: dict[str, tuple[Provider, ...]] = field(default_factory=dict)

    def denoiser(self, given: str | Spec) -> Entry[Denoiser]:
        """Find and configure a denoiser; raises `BenchboxError` for an unknown name or option."""
        return self._find("denoiser", given, self.denoisers)

    def noise_model(self, given: str | Spec) -> Entry[NoiseModel]:
        """Find and configure one noise model; raises `BenchboxError` for an unknown name or option."""
        return self._find("noise model", given, self.noise_models)

    def noise(self, text: str) -> tuple[Entry[NoiseModel], ...]:
        """Find and configure the noise models that a text joins by ``+``, in the order in which they apply."""
        return tuple(self.noise_model(spec) for spec in parse_composition(text))

    def dataset(self, given: str | Spec) -> Entry[Dataset]:
        """Find and configure a data set; raises `BenchboxError` for an unknown name or option."""
        return self._find("data set", given, self.datasets)

    def metric(self, given: str | Spec) -> Entry[Metric]:
        """Find and configure a metric; raises `BenchboxError` for an unknown name or option."""
        return self._find("metric", given, self.metrics)

    def offers(self, provider: Provider) -> dict[str, list[str]]:
        """Names that one plugin offers, by type."""
        by_kind: dict[str, Mapping[str, Entry[Any]]] = {
            "denoisers": self.denoisers,
            "noises": self.noise_models,
            "datasets": self.datasets,
            "metrics": self.metrics,
        }
        names = {
            kind: sorted(name for name, entry in entries.items() if entry.provider == provider)
            for kind, entries in by_kind.items()
        }
        return {kind: offered for kind, offered in names.items() if offered}

    def _find(self, kind: str, given: str | Spec, entries: Mapping[str, Entry[T]]) -> Entry[T]:
        spec = parse_spec(given) if isinstance(given, str) else given
        name = spec.name
        if name in self.clashes:
            both = " and ".join(provider.label for provider in self.clashes[name])
            raise BenchboxError(f"two plugins offer '{name}': {both}", hint="uninstall or omit one of them")
        if name in entries:
            return entries[name].configured(spec, given.strip() if isinstance(given, str) else "")
        for broken in self.broken:
            if name == broken.offers:
                raise BenchboxError(f"{kind} '{name}' of {broken.provider.label}: {broken.reason}", hint=broken.hint)
        unread = "; ".join(f"{broken.provider.label}: {broken.reason}" for broken in self.broken if not broken.offers)
        hint = did_you_mean(name, entries) + (f" Plugins that do not load: {unread}" if unread else "")
        raise BenchboxError(f"there is no {kind} '{name}'", hint=hint)

    def _add(self, hook: str, cls: Any, provider: Provider) -> None:
        problem = _problem(cls, HOOKS[hook], hook)
        if problem is not None:
            name = getattr(cls, "name", "")
            self.broken.append(Broken(provider, *problem, offers=name if isinstance(name, str) else ""))
            return
        if not isinstance(getattr(cls, "summary", None), str):
            cls.summary = next(iter((cls.__dict__.get("__doc__") or "").strip().splitlines()), cls.name)
        entries = self._entries_of(hook)
        if cls.name in entries and entries[cls.name].provider != provider:
            self.clashes[cls.name] = (entries[cls.name].provider, provider)
            self.broken.append(
                Broken(
                    provider,
                    f"'{cls.name}' is also offered by {entries[cls.name].provider.label}",
                    "rename one of them or uninstall one of the plugins",
                    cls.name,
                )
            )
            return
        entries[cls.name] = Entry(cls, cls.name, cls.name, provider=provider)

    def _entries_of(self, hook: str) -> dict[str, Entry[Any]]:
        by_hook: dict[str, dict[str, Entry[Any]]] = {
            "benchbox_denoisers": self.denoisers,
            "benchbox_noise_models": self.noise_models,
            "benchbox_datasets": self.datasets,
            "benchbox_metrics": self.metrics,
        }
        return by_hook[hook]

    def add(self, provider: Provider, hooks: Collection[str] = HOOKS.keys()) -> None:
        """Load one plugin and add what it offers by these hooks; errors are recorded in `broken`, never raised."""
        with process_kept():
            self._load(provider, hooks)

    def _load(self, provider: Provider, hooks: Collection[str]) -> None:
        try:
            module = load_module(provider)
        except (Exception, SystemExit) as error:
            self.broken.append(Broken(provider, first_line(error), "fix the plugin, or omit it"))
            return
        self.providers.append(provider)
        for name in vars(module):
            if name.startswith("benchbox_") and name not in HOOKS and hasattr(getattr(module, name), "benchbox_impl"):
                self.broken.append(Broken(provider, f"there is no hook '{name}'", did_you_mean(name, HOOKS)))
            if name in HOOKS and not hasattr(getattr(module, name), "benchbox_impl"):
                self.broken.append(
                    Broken(provider, f"{name} is not marked as a hook", "write @benchbox.hookimpl above its def")
                )
        for hook, classes in call_hooks(module, hooks).items():
            if isinstance(classes, BaseException):
                self.broken.append(Broken(provider, f"{hook}: {first_line(classes)}", "fix the hook"))
                continue
            if isinstance(classes, (str, bytes, type)) or not isinstance(classes, Iterable):
                reason = f"{hook} returned {type(classes).__name__}, not a list of classes"
                self.broken.append(Broken(provider, reason, f"return [{HOOKS[hook].__name__} subclasses]"))
                continue
            for cls in classes:
                self._add(hook, cls, provider)


def _problem(cls: Any, base: type, hook: str) -> tuple[str, str] | None:
    """Why a class cannot be used, and what to do; None if it can."""
    if not isinstance(cls, type):
        return f"{hook} returned {cls!r}, which is not a class", "return the class itself, not an instance"
    if not issubclass(cls, base):
        return f"{hook}: {cls.__name__} is not a {base.__name__}", f"make it a subclass of benchbox.{base.__name__}"
    name = getattr(cls, "name", None)
    if not isinstance(name, str):
        return f"{hook}: {cls.__name__} has no name", f"add the class attribute name = '{cls.__name__.lower()}'"
    if not NAME.fullmatch(name):
        return f"{hook}: '{name}' is not a valid name", "use lower-case letters, digits and underscores"
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        return f"{hook}: {cls.__name__} lacks {missing}", f"implement {missing}"
    try:
        options_of(cls)
        if issubclass(cls, Dataset):
            cls()  # every command that opens data does so
    except BenchboxError as error:
        return error.message, error.hint
    except Exception as error:
        return f"{hook}: {cls.__name__}() raised {first_line(error)}", "store only options in the constructor"
    return None
