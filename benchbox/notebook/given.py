"""Makes files of what a notebook hands over as objects, so that every process of a run can open them.

Denoisers become a plugin file that holds them pickled by cloudpickle, arrays become ``.npy`` files. Both lie in the
folder ``given`` beside the runs, under a name made from their content, so a run can be replayed.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.array_file import check_stack
from benchbox.records.specs import options_of, quote, write_value
from benchbox.registry import load_registry
from benchbox.registry.loading import function_denoiser

FOLDER = "given"
_KINDS = "names, classes and instances of benchbox.Denoiser, networks of PyTorch, and functions f(noisy, sigma)"
_PLUGIN = '''"""Denoisers that benchbox.run() got as objects."""

import base64

import cloudpickle

import benchbox

_OFFERED = cloudpickle.loads(base64.b64decode("{content}"))


@benchbox.hookimpl
def benchbox_denoisers():
    return _OFFERED
'''


def hand_over(denoisers: Sequence[Any], results: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Specifications of denoisers, and the plugin file that offers those that are objects.

    A row is called like the function or class; an instance also shows its options. Raises `BenchboxError` for anything
    else, and for an object that cannot be pickled.
    """
    specs: list[str] = []
    labels: list[str] = []
    offered: list[type[Denoiser]] = []
    for given in denoisers:
        if isinstance(given, str):
            specs.append(given)
            continue
        name = f"given_{len(offered) + 1}"
        given = _adopted(given)
        offered.append(_class_of(given, name))
        labels.append(_label_of(given))
        # Two networks of one class are two rows.
        again = f" {labels.count(labels[-1])}" if labels.count(labels[-1]) > 1 else ""
        specs.append(f"{labels[-1]}{again}={name}")
    functions = [given for given in denoisers if inspect.isfunction(given)]
    return tuple(specs), (str(_write_plugin(offered, functions, results)),) if offered else ()


def _adopted(given: Any) -> Any:
    """A denoiser that an installed plugin makes of an object, such as a network; the object itself if none does."""
    if isinstance(given, type | Denoiser) or inspect.isfunction(given):
        return given
    made = (entry.cls.adopt(given) for entry in load_registry().denoisers.values())
    return next((denoiser for denoiser in made if denoiser is not None), given)


def torch(module: object, **options: Any) -> Denoiser:
    """Make a denoiser of a PyTorch network, for `run`.

    Parameters
    ----------
    module : torch.nn.Module
        Takes a float32 tensor of shape (N, C, H, W), and the noise level if it wants to; returns one of the same shape.
    **options
        Options of the denoiser ``torch``, such as ``sigma='channel'`` or ``residual=True``; what is not given is
        detected.

    Returns
    -------
    Denoiser

    Raises
    ------
    BenchboxError
        It is not a PyTorch network, or an option is unknown or wrong.
    """
    try:
        denoiser = load_registry().denoiser("torch").cls.adopt(module, **options)
    except (TypeError, ValueError) as error:
        raise BenchboxError(f"benchbox.torch: {error}", hint="'benchbox list denoisers' shows the options") from error
    if denoiser is None:
        raise BenchboxError(
            f"benchbox.torch: {type(module).__name__} is not a PyTorch network",
            hint="pass an instance of torch.nn.Module",
        )
    return denoiser


def _class_of(given: Any, name: str) -> type[Denoiser]:
    """A denoiser class without options that does what the object does."""
    if isinstance(given, type) and issubclass(given, Denoiser):
        return type(given.__name__, (given,), {"name": name})
    if isinstance(given, Denoiser):
        state = dict(vars(given))

        def restore(self: Denoiser) -> None:
            self.__dict__.update(state)

        restore.__annotations__ = {}  # it has no options, and another process could not resolve these names
        body = {"name": name, "capabilities": given.capabilities, "__init__": restore}
        return type(type(given).__name__, (type(given),), body)
    if isinstance(given, type) or not callable(given):
        what = given.__name__ if isinstance(given, type) else type(given).__name__
        raise BenchboxError(f"denoisers: {what} is not a denoiser", hint=f"give {_KINDS}")
    return function_denoiser(given, name, "denoise", Denoiser)  # type: ignore[type-abstract]


def _label_of(given: Any) -> str:
    """What the row is called; a colon would begin the options of a specification."""
    if label := getattr(given, "label", ""):
        return str(label)
    if isinstance(given, Denoiser):
        options = [
            f"{option.name} {quote(write_value(value))}"
            for option in options_of(type(given))
            if (value := getattr(given, option.name, option.default)) != option.default
        ]
        return given.name + (f" ({', '.join(options)})" if options else "")
    attribute = "name" if isinstance(given, type) else "__name__"
    name = getattr(given, attribute, type(given).__name__)
    return str(name).strip("<>")


def _write_plugin(offered: list[type[Denoiser]], functions: list[Any], results: Path) -> Path:
    import cloudpickle

    # Modules beside a script or notebook are not found by other processes, so what they define is pickled whole.
    bases = {sys.modules[base.__module__] for cls in offered for base in cls.__mro__}
    modules = {*bases, *(sys.modules[function.__module__] for function in functions)}
    local = [module for module in modules if _is_local(module)]
    try:
        for module in local:
            cloudpickle.register_pickle_by_value(module)
        content = base64.b64encode(cloudpickle.dumps(offered)).decode("ascii")
    except Exception as error:
        raise BenchboxError(
            f"denoisers: an object cannot be handed to another process: {error}",
            hint="write it as a plugin file that loads what it needs in setup, and name the file in plugins=",
        ) from error
    finally:
        for module in local:
            cloudpickle.unregister_pickle_by_value(module)
    return _write(results, _PLUGIN.format(content=content).encode(), ".py")


def _is_local(module: ModuleType) -> bool:
    """Whether a module is neither installed nor part of Python or benchbox."""
    file = Path(getattr(module, "__file__", None) or sys.prefix)
    # Plugins may be installed in editable mode, that is, from any folder.
    plugins = {provider.target.partition(".")[0] for provider in load_registry().providers if provider.kind != "file"}
    installed = "site-packages" in file.parts or module.__name__.partition(".")[0] in {"benchbox", *plugins}
    return not installed and not any(file.is_relative_to(folder) for folder in (sys.prefix, sys.base_prefix))


def save_array(array: Any, results: Path) -> Path:
    """Save an array of images, or return the file that holds it already; raises `BenchboxError` if it is none."""
    if isinstance(array, list | tuple) and any(isinstance(item, str | Path) for item in array):
        raise BenchboxError(
            "data: a run has one data set, not a list of paths",
            hint="give one for each run; benchbox leaderboard RUN RUN shows runs side by side",
        )
    stack = check_stack(np.asarray(array), "data")
    header = f"{stack.dtype.str} {stack.shape}".encode()
    file = results / FOLDER / f"array-{_digest(header + stack.tobytes())}.npy"
    if not file.is_file():
        _make_folder(file.parent)
        np.save(file, stack)
    return file


def _write(results: Path, content: bytes, suffix: str) -> Path:
    file = results / FOLDER / f"{_digest(content)}{suffix}"
    _make_folder(file.parent)
    file.write_bytes(content)
    return file


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchboxError(f"cannot write to {folder}: {error.strerror}", hint="choose another results=") from error


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
