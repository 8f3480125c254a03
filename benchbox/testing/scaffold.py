"""Writes a new plugin package from the files in ``templates``."""

from __future__ import annotations

import importlib.util
import keyword
from dataclasses import dataclass
from pathlib import Path
from string import Template

from benchbox.api.errors import BenchboxError
from benchbox.records.specs import NAME
from benchbox.registry import load_registry

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class PluginTemplate:
    """A kind of plugin; the folder of its name below ``templates`` has its module and its tests.

    Attributes
    ----------
    kind : str
        What it is, in words.
    commands : tuple of str
        Templates of commands to try it with.
    dependencies : tuple of str
        Packages that it needs besides benchbox and NumPy.
    more : str
        The end of its README.
    """

    kind: str
    commands: tuple[str, ...]
    dependencies: tuple[str, ...] = ()
    more: str = ""


_CHECKED = "\n`benchbox plugins check` shows, for each rule of the contract, what it observed and what to fix.\n"
_DENOISER = "benchbox run $word identity --noise gaussian:0.1", "benchbox plugins check $word"
TEMPLATES = {
    "filter": PluginTemplate("denoiser", _DENOISER, more=_CHECKED),
    "torch": PluginTemplate("PyTorch denoiser", _DENOISER, ("torch",), _CHECKED),
    "onnx": PluginTemplate(
        "denoiser that runs an ONNX model",
        ("benchbox run $word:path=model.onnx identity", "benchbox plugins check $word:path=model.onnx"),
        ("onnxruntime",),
        _CHECKED,
    ),
    "metric": PluginTemplate("metric", ("benchbox run median identity --metric psnr --metric $word",)),
    "noise": PluginTemplate("noise model", ("benchbox run median identity --noise $dashed:0.1",)),
}
"""The kinds of `benchbox plugins new --template`."""


def commands_of(template: str, word: str) -> tuple[str, ...]:
    """Commands to try a new plugin with, beside its tests."""
    return tuple(
        Template(text).substitute(word=word, dashed=word.replace("_", "-")) for text in TEMPLATES[template].commands
    )


def write_package(name: str, parent: Path, template: str = "filter") -> Path:
    """Write a package with a working plugin into a new folder inside `parent`, and return that folder.

    `template` is a key of `TEMPLATES`. A name that is invalid or taken, and a folder that exists or cannot be written,
    are errors.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise BenchboxError(
            f"'{name}' is not a valid package name", hint="use lower-case letters, digits and hyphens: my-denoiser"
        )
    word = name.replace("-", "_")
    registry = load_registry()
    taken = {*registry.denoisers, *registry.metrics, *registry.noise_models, *registry.datasets}
    if taken & {word, word.replace("_", "-")} or importlib.util.find_spec(word) is not None:
        raise BenchboxError(f"the name '{word}' is already taken by something installed", hint="choose another name")
    chosen = TEMPLATES[template]
    values = {
        "package": name.replace("_", "-"),
        "word": word,
        "dashed": word.replace("_", "-"),
        "kind": chosen.kind,
        "dependencies": ", ".join(f'"{name}"' for name in ("benchbox-denoise", "numpy", *chosen.dependencies)),
        "commands": "\n".join(f"$ {command}" for command in commands_of(template, word)),
        "title": "".join(part.capitalize() for part in word.split("_")),
    }
    folder = parent / values["package"]
    if folder.exists():
        raise BenchboxError(f"{folder} already exists", hint="choose another name or --output")
    files = {
        "pyproject.toml": "pyproject.toml",
        f"{word}.py": f"{template}/plugin.py",
        f"tests/test_{word}.py": f"{template}/tests.py",
        "README.md": "README.md",
    }
    try:
        for path, source in files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            text = Template((_TEMPLATES / f"{source}.template").read_text("utf-8")).substitute(values)
            file.write_text(text + (chosen.more if path == "README.md" else ""), encoding="utf-8")
    except OSError as error:
        raise BenchboxError(f"cannot write {folder}: {error.strerror}", hint="choose another --output") from error
    return folder
