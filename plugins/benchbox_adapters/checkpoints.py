"""Opens PyTorch model files without running code from them, and finds the state dict in what they hold."""

from __future__ import annotations

import json
import shlex
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbox import BenchboxError
from benchbox_adapters import exported
from benchbox_adapters.pickle_machine import Call, TensorHeader
from benchbox_adapters.pickles import ZIP_DAMAGE, Pickles, read_pickles
from benchbox_adapters.wrappers import Several, listed, peel, short

if TYPE_CHECKING:
    import torch

_MOST_MODULES = 100_000
_LONGEST_NAME = 500
_LARGEST_HEADER = 100 * 2**20
_TRUSTED = "if you trust its author, convert it once: "


@dataclass(frozen=True)
class State:
    """The state dict of a model file."""

    tensors: dict[str, torch.Tensor]
    format: str
    wrappers: tuple[str, ...]
    """Keys and prefixes around the state dict, from the outside in; a prefix ends with a dot."""
    other: tuple[str, ...]
    """Keys left beside it."""


@dataclass(frozen=True)
class Description:
    """What a model file holds, read from its header without loading weights or running code."""

    format: str
    tensors: dict[str, TensorHeader] = field(default_factory=dict)
    """Names, data types and shapes of the state dict, as far as they can be read."""
    wrappers: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    globals: tuple[str, ...] = ()
    """Every class and function that its pickles name."""
    refused: tuple[str, ...] = ()
    """Those of them that torch's safe loader refuses."""
    unsafe: str = ""
    """Why it is not loaded; empty if it is."""
    hint: str = ""
    """What to do if it is not."""
    choices: tuple[str, ...] = ()
    """Keys to choose from, if it holds several state dicts and none was chosen."""

    @property
    def safe(self) -> bool:
        """Whether the file can be loaded without running code from it."""
        return not self.unsafe


def read_state(path: Path, key: str | None = None) -> State:
    """Load the state dict of a model file without running code from it.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file, a ``.pth``, ``.pt``, ``.ckpt`` or ``.bin`` file of `torch.save`, or a ``.pt2`` file;
        the content decides, not the suffix.
    key : str, optional
        Which state dict to take from a file with several, such as ``params_ema``; dots separate nested keys.

    Raises
    ------
    BenchboxError
        If the file holds code, no state dict, or several without a choice; the hint says how to convert it.
    """
    found = loadable(path, key)
    if not found.tensors:
        raise BenchboxError(
            f"{path} holds no state dict", hint="save one with torch.save(model.state_dict(), 'model.pth')"
        )
    tree: Any
    if found.format == "safetensors":
        from safetensors.torch import load_file

        tree = _opened(path, lambda: load_file(path))
    elif found.format == exported.FORMAT:
        tree = _opened(path, lambda: exported.read_weights(path))
    else:
        torch = safe_torch()
        tree = _opened(path, lambda: torch.load(path, map_location="cpu", weights_only=True))
    peeled = peel(tree, key, path)
    return State(peeled.tensors, found.format, peeled.wrappers, peeled.other)


def loadable(path: Path, key: str | None = None) -> Description:
    """What a file holds; raises `BenchboxError` if it is not safe to load, or if a choice of several is missing."""
    found = describe(path, key)
    if found.unsafe:
        raise BenchboxError(f"{path}: {found.unsafe}", hint=found.hint)
    if found.choices:
        raise BenchboxError(
            f"{path} holds several state dicts: {listed(found.choices)}",
            hint=f"choose one with the option key, as in key={found.choices[0]}",
        )
    return found


def safe_torch() -> Any:
    """The module torch; raises `BenchboxError` if it is missing or older than 2.6.

    Before 2.6, `torch.load` ran code from a file even with ``weights_only=True`` (CVE-2025-32434).
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise BenchboxError(
            "the package torch is missing", hint='install it: pip install "benchbox-denoise[torch]"'
        ) from None
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        raise BenchboxError(
            f"torch {torch.__version__} can run code from a file of which it loads only weights (CVE-2025-32434)",
            hint="update it: pip install 'torch>=2.6'",
        )
    return torch


def describe(path: Path, key: str | None = None) -> Description:
    """Read what a model file holds, without loading its weights, running code from it, or importing torch.

    Raises
    ------
    BenchboxError
        If the file is missing, no PyTorch or safetensors file, damaged, or does not have the `key`.
    """
    if not path.is_file():
        raise BenchboxError(
            f"{path} is a folder" if path.is_dir() else f"there is no file {path}", hint="give the path of a model file"
        )
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise BenchboxError(f"{path} is a Git LFS pointer, not the model", hint="run 'git lfs pull' in its repository")
    if head[8:9] == b"{" and 0 < struct.unpack("<Q", head[:8])[0] < _LARGEST_HEADER:
        return _described(path, "safetensors", _read_safetensors(path), key)
    if head.startswith(b"PK\x03\x04"):
        names = _zip_names(path)
        if exported.is_exported(names):
            found = exported.inspect(path)
            return _described(
                path, exported.FORMAT, found.tensors, key, globals=found.globals, unsafe=found.unsafe, hint=found.hint
            )
    return _describe_pickles(path, key)


def _describe_pickles(path: Path, key: str | None) -> Description:
    found = read_pickles(path)
    if found.container == "pickle" and found.damage and not found.globals:
        raise BenchboxError(
            f"{path} is neither a PyTorch nor a safetensors file",
            hint="give a .safetensors, .pth, .pt, .ckpt or .pt2 file",
        )
    about: dict[str, Any] = {"globals": found.globals, "refused": found.refused}
    if found.container == "zip" and any(
        "/code/" in name or name.endswith("constants.pkl") for name in _zip_names(path)
    ):
        return _described(
            path,
            "TorchScript",
            dict(_module_tensors(found.value)),
            key,
            **about,
            unsafe="a TorchScript archive is a program, and is not loaded",
            hint=_TRUSTED + _command(path, f'torch.jit.load({_literal(path)}, map_location="cpu").state_dict()'),
        )
    if not found.streams:
        raise BenchboxError(f"{path} is a zip without a pickle", hint="give a file that torch.save wrote")
    format = {
        "zip": "PyTorch (zip)",
        "legacy": "PyTorch (before 1.6)",
        "tar": "PyTorch (tar, before 0.1.10)",
        "pickle": "pickle",
    }[found.container]
    module = _find_module(found.value)
    tree = dict(_module_tensors(module)) if module else found.value
    unsafe = _unsafe(found, module)
    hint = ""
    if unsafe and unsafe == found.damage:
        hint = "download or save the file again"
    elif unsafe:
        hint = _TRUSTED + _command(path, _unpickled(path, found, module))
        if module:
            hint += " (in the folder of the model's code)"
    return _described(path, format, tree, key, **about, unsafe=unsafe, hint=hint)


def _unsafe(found: Pickles, module: Call | None) -> str:
    """Why torch's safe loader would refuse a file."""
    if found.refused:
        return (
            f"a pickled {short(module.function)} instead of a state dict; loading it would run its code"
            if module
            else f"it names {listed(found.refused)}, which torch's safe loader refuses because loading would run it"
        )
    if found.damage:
        return found.damage
    if found.container == "tar":
        return "a file from before PyTorch 0.1.10, which the safe loader does not read"
    if found.container == "pickle":
        return "a pickle that torch.save did not write"
    if found.opcodes:
        return f"a pickle of another protocol ({listed(found.opcodes)}), which the safe loader does not read"
    return ""


def _unpickled(path: Path, found: Pickles, module: Call | None) -> str:
    """The expression that unpickles a trusted file and takes its state dict."""
    opened = f'torch.load({_literal(path)}, map_location="cpu", weights_only=False)'
    if found.container == "pickle":
        opened = f'__import__("pickle").load(open({_literal(path)}, "rb"))'
    if module is not None:
        tree = found.value if isinstance(found.value, dict) else {}
        keys = [name for name, value in tree.items() if value is module][:1]
        return "".join([opened, *(f"[{_literal(key)}]" for key in keys), ".state_dict()"])
    try:
        keys = peel(found.value, None, path).keys
    except Several:
        keys = []
    return "".join([opened, *(f"[{_literal(key)}]" for key in keys)])


def _literal(value: object) -> str:
    """A Python literal without single quotes, which the shell needs."""
    return repr(value) if isinstance(value, (int, float)) else json.dumps(str(value), ensure_ascii=False)


def _command(path: Path, state: str) -> str:
    code = (
        f"import torch; from safetensors.torch import save_file; state = {state}; "
        "save_file({k: v.detach().clone().contiguous() for k, v in state.items() if torch.is_tensor(v)}, "
        f"{_literal(path.with_suffix('.safetensors'))})"
    )
    return f"python -c {shlex.quote(code)}"


def _read_safetensors(path: Path) -> dict[str, TensorHeader]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        raw = file.read(length)
    try:
        header = json.loads(raw)
        return {
            name: TensorHeader(_SAFETENSORS.get(entry["dtype"], str(entry["dtype"])), tuple(map(int, entry["shape"])))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchboxError(
            f"{path}: the safetensors header cannot be read ({error})", hint="download the file again"
        ) from None


_SAFETENSORS = {
    **{f"F{bits}": f"float{bits}" for bits in (64, 32, 16)},
    **{f"I{bits}": f"int{bits}" for bits in (64, 32, 16, 8)},
    **{f"U{bits}": f"uint{bits}" for bits in (64, 32, 16, 8)},
    **{"BF16": "bfloat16", "BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"},
}


def _zip_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except ZIP_DAMAGE as error:
        raise BenchboxError(f"{path}: damaged zip ({error})", hint="download the file again") from None


def _opened(path: Path, load: Any) -> Any:
    try:
        return load()
    except Exception as error:  # whatever the loaders raise on a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BenchboxError(f"{path} cannot be loaded: {reason}", hint="download or save the file again") from error


def _described(path: Path, format: str, tree: Any, key: str | None, **about: Any) -> Description:
    try:
        peeled = peel(tree, key, path)
    except Several as several:
        return Description(format, choices=several.keys, **about)
    return Description(format, peeled.tensors, peeled.wrappers, peeled.other, **about)


def _find_module(value: Any) -> Call | None:
    """The pickled `nn.Module` of a file, at the top or one level below."""
    if isinstance(value, dict):
        return next((inner for inner in value.values() if isinstance(inner, Call) and _is_module(inner)), None)
    return value if isinstance(value, Call) and _is_module(value) else None


def _is_module(call: Call) -> bool:
    return isinstance(call.state, dict) and "_modules" in call.state and "_parameters" in call.state


def _module_tensors(root: Any) -> Iterator[tuple[str, TensorHeader]]:
    """Names and headers of the weights of a module, as its `state_dict` would name them."""
    rooms: list[tuple[str, Any]] = [("", root)]
    for _ in range(_MOST_MODULES):  # modules of a hostile file can contain themselves
        if not rooms:
            return
        prefix, value = rooms.pop()
        if isinstance(value, TensorHeader):
            yield prefix[:-1], value
        elif isinstance(value, Call) and isinstance(value.state, dict) and len(prefix) < _LONGEST_NAME:
            own = [value.state[room] for room in ("_parameters", "_buffers", "_modules") if room in value.state]
            inside = [item for room in own or [value.state] if isinstance(room, dict) for item in room.items()]
            rooms += [(f"{prefix}{name}.", inner) for name, inner in reversed(inside)]
