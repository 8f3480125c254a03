"""Writes a new plugin package from a template."""

from __future__ import annotations

import importlib.util
import keyword
from pathlib import Path
from string import Template

from benchbox.api.errors import BenchboxError
from benchbox.records.specs import NAME
from benchbox.registry import load_registry
from benchbox.testing.templates import TEMPLATES

_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "$package"
version = "0.1.0"
description = "A $kind for benchbox"
readme = "README.md"
requires-python = ">=3.11"
dependencies = [$dependencies]

[project.optional-dependencies]
dev = ["pytest", "ruff", "mypy"]

[project.entry-points.benchbox]
$word = "$word"

[tool.hatch.build]
include = ["/$word.py", "/tests"]

[tool.hatch.build.targets.wheel]
include = ["/$word.py"]

[tool.ruff]
line-length = 100

[tool.mypy]
strict = true

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

_README = """\
# $package

A $kind for benchbox, in `$word.py`.

```console
$$ pip install -e ".[dev]"
$commands
$$ pytest
```
$more"""


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
        "more": chosen.more,
        "title": "".join(part.capitalize() for part in word.split("_")),
    }
    folder = parent / values["package"]
    if folder.exists():
        raise BenchboxError(f"{folder} already exists", hint="choose another name or --output")
    files = {
        "pyproject.toml": _PYPROJECT,
        f"{word}.py": chosen.module,
        f"tests/test_{word}.py": chosen.tests,
        "README.md": _README,
    }
    try:
        for path, text in files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template(text).substitute(values), encoding="utf-8")
    except OSError as error:
        raise BenchboxError(f"cannot write {folder}: {error.strerror}", hint="choose another --output") from error
    return folder
