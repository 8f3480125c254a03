"""Finds the state dict in what a checkpoint holds: below wrappers and prefixes, beside the state of the training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchbox import BenchboxError
from benchbox_adapters.pickle_machine import TensorHeader

# Wrappers by preference: averaged weights are what their authors evaluate.
_WRAPPERS = (
    *("params_ema", "ema_state_dict", "state_dict_ema", "model_ema", "netG_ema", "ema_model", "ema", "params"),
    *("state_dict", "model_state_dict", "model_state", "net_state_dict", "network_state_dict", "generator_state_dict"),
    *("model", "net", "netG", "net_g", "network", "generator", "denoiser", "module", "weights", "state"),
)
_PREFIXES = "module.", "netG.", "model.", "net.", "network.", "denoiser.", "generator.", "_orig_mod.", "ema_model."
# Training state, which may hold tensors but is no network.
_BESIDE = ("optim", "scheduler", "scaler", "callbacks", "loops", "hyper_parameters", "rng")
# Rooms beside the network in the state dict of a whole training.
_BESIDE_ROOMS = "netd", "net_d", "discriminator", "criterion", "loss", "perceptual", "vgg", "lpips", "metric", "teacher"
# Counters that profilers and averaging leave among the weights.
_COUNTERS = "total_ops", "total_params", "n_averaged"
_DEEPEST = 10


@dataclass(frozen=True)
class Peeled:
    """A state dict, of tensors or headers, and what was around it."""

    tensors: dict[str, Any]
    keys: list[str]
    prefixes: list[str]
    other: tuple[str, ...]

    @property
    def wrappers(self) -> tuple[str, ...]:
        """Keys and prefixes from the outside in."""
        return (*self.keys, *self.prefixes)


class Several(Exception):
    """Several state dicts, none of which was chosen."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__(*keys)
        self.keys = keys


def peel(tree: Any, key: str | None, path: Path) -> Peeled:
    """Find the state dict in what a file holds, be it real tensors or headers."""
    keys: list[str] = []
    if key is not None:
        tree, keys = _chosen(tree, key, path)
    other: list[str] = []
    for _ in range(_DEEPEST):
        if not isinstance(tree, Mapping) or (wrapper := _wrapper(tree)) is None:
            break
        other += [str(name) for name in tree if name != wrapper]
        keys.append(str(wrapper))
        tree = tree[wrapper]
    if not isinstance(tree, Mapping):
        return Peeled({}, keys, [], tuple(other))
    tensors = {str(name): value for name, value in tree.items() if _is_tensor(value)}
    other += [str(name) for name, value in tree.items() if not _is_tensor(value)]
    counters = [name for name in tensors if name.rpartition(".")[2] in _COUNTERS]
    for name in counters:
        del tensors[name]
    prefixes: list[str] = []
    if room := _room(tensors):
        other += [name for name in tensors if not name.startswith(room)]
        tensors = {name: value for name, value in tensors.items() if name.startswith(room)}
    while prefix := _prefix(tensors):
        prefixes.append(prefix)
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return Peeled(tensors, keys, prefixes, (*other, *counters))


def _chosen(tree: Any, key: str, path: Path) -> tuple[Any, list[str]]:
    """What is at a key, or at nested keys separated by dots."""
    if isinstance(tree, Mapping):
        names = {str(name): name for name in tree}
        if key in names:
            return tree[names[key]], [key]
        first, _, rest = key.partition(".")
        if rest and first in names:
            inner, keys = _chosen(tree[names[first]], rest, path)
            return inner, [first, *keys]
        known = [name for name in names if _holds_tensors(tree[names[name]])] or list(names)
        raise BenchboxError(f"{path} has no key '{key}'", hint=f"keys that it has: {listed(known)}")
    raise BenchboxError(f"{path} has no key '{key}', because it holds no dictionary", hint="leave out the option key")


def _wrapper(tree: Mapping[Any, Any]) -> Any:
    """The key below which the state dict is; None if it is here."""
    inside = [name for name, value in tree.items() if isinstance(value, Mapping) and _holds_tensors(value)]
    networks = [name for name in inside if not str(name).lower().startswith(_BESIDE)]
    if not networks or any(_is_tensor(value) and value.shape for value in tree.values()):
        return None
    for name in _WRAPPERS:
        if name in networks:
            return name
    if len(networks) == 1:
        return networks[0]
    raise Several(tuple(map(str, networks)))


def _holds_tensors(root: Any) -> bool:
    seen: set[int] = set()  # dictionaries of a hostile file can contain themselves
    rooms = [root]
    while rooms:
        value = rooms.pop()
        if _is_tensor(value):
            return True
        if isinstance(value, Mapping) and id(value) not in seen:
            seen.add(id(value))
            rooms += value.values()
    return False


def _is_tensor(value: Any) -> bool:
    return isinstance(value, TensorHeader) or (hasattr(value, "shape") and hasattr(value, "storage_offset"))


def _room(tensors: Mapping[str, Any]) -> str:
    """The one room of a state dict that is the network, if all others belong to its training."""
    rooms = list(dict.fromkeys(name.partition(".")[0] + "." for name in tensors))
    networks = [room for room in rooms if not room.lower().startswith(_BESIDE_ROOMS)]
    if sorted(networks) == ["ema_model.", "model."]:
        return "ema_model."
    return networks[0] if len(networks) == 1 and len(rooms) > 1 else ""


def _prefix(tensors: Mapping[str, Any]) -> str:
    """A prefix of all names that says nothing; one before a number names a sequence, and stays."""
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) and not name[len(prefix)].isdigit() for name in tensors):
            return prefix
    return ""


def listed(names: Iterable[object], most: int = 6) -> str:
    """Names of a file as a short text."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(short, names[:most])) + more


def short(name: object) -> str:
    """A name of a file, cut where it is too long to be one."""
    return text if len(text := str(name)) <= 80 else f"{text[:77]}..."
