"""Templates of a new plugin package, and the function that writes them."""

from __future__ import annotations

import importlib.util
import keyword
from pathlib import Path
from string import Template

from benchbox.api.errors import BenchboxError
from benchbox.records.specs import NAME
from benchbox.registry import load_registry

_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "$package"
version = "0.1.0"
description = "A denoiser for benchbox"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["benchbox-denoise", "numpy"]

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

_MODULE = '''\
"""A denoiser for benchbox: replace the body of `denoise` with yours."""

from __future__ import annotations

import numpy as np
from benchbox import Capabilities, Denoiser, Images, Sigma, hookimpl


class $title(Denoiser):
    """Local mean, mixed with the original pixel where the variance exceeds that of the noise.

    Parameters
    ----------
    size : int
        Side of the window in pixels; odd.
    """

    name = "$word"
    summary = "local mean that preserves detail"
    reference = "Lee 1980, doi:10.1109/TPAMI.1980.4766994"
    capabilities = Capabilities(sigma="optional")

    def __init__(self, *, size: int = 5) -> None:
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size must be odd and at least 1, got {size}")
        self.size = size

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack of shape (N, H, W); assume sigma = 0.1 if the noise level is unknown."""
        levels = np.full(len(noisy), 0.1, np.float32) if sigma is None else sigma
        noise = np.square(levels)[:, np.newaxis, np.newaxis]
        mean = self.local_mean(noisy)
        variance = self.local_mean(np.square(noisy - mean))
        kept = np.maximum(variance - noise, 0) / np.maximum(variance, np.float32(1e-12))
        result: Images = mean + kept * (noisy - mean)
        return result

    def local_mean(self, images: Images) -> Images:
        """Mean of the window around each pixel; edge pixels are repeated beyond the border."""
        half = self.size // 2
        padded = np.pad(images, ((0, 0), (half, half), (half, half)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, (self.size, self.size), axis=(1, 2)
        )
        result: Images = windows.mean(axis=(3, 4))
        return result


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Offer the denoiser."""
    return [$title]
'''

_TESTS = '''\
"""Tests of the contract, quality and speed of the denoiser."""

from __future__ import annotations

import pytest
from benchbox.testing import BenchmarkDenoiser, NoisyFaces, check_denoiser

from $word import $title


def test_it_fulfils_the_contract() -> None:
    check_denoiser($title)


def test_it_is_found_by_its_name() -> None:
    check_denoiser("$word:size=3", probes=["shape", "gain"])


def test_a_flat_image_comes_back_flat(noisy_faces: NoisyFaces) -> None:
    clean, _, sigma = noisy_faces("gaussian:0.1", 4)
    flat = 0 * clean + clean.dtype.type(0.5)
    assert abs($title().denoise(flat, sigma) - flat).max() < 1e-6


@pytest.mark.parametrize("batch", [1, 16])
def test_speed(benchmark_denoiser: BenchmarkDenoiser, batch: int) -> None:
    benchmark_denoiser("$word", batch)
'''

_README = """\
# $package

A denoiser for benchbox. The method is `denoise` in `$word.py`.

```console
$$ pip install -e ".[dev]"
$$ benchbox run $word identity --noise gaussian:0.1
$$ benchbox plugins check $word
$$ pytest
$$ pytest --benchmark-only --benchmark-save=first
$$ pytest --benchmark-only --benchmark-compare --benchmark-compare-fail=median:20%
```

`benchbox plugins check` shows, for each rule of the contract, what it observed and what to fix.
"""


def write_package(name: str, parent: Path) -> Path:
    """Write a package with a working denoiser into a new folder inside `parent`, and return that folder.

    A name that is invalid or taken, and a folder that exists or cannot be written, are errors.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise BenchboxError(
            f"'{name}' is not a valid package name", hint="use lower-case letters, digits and hyphens: my-denoiser"
        )
    word = name.replace("-", "_")
    if word in load_registry().denoisers or importlib.util.find_spec(word) is not None:
        raise BenchboxError(f"the name '{word}' is already taken by something installed", hint="choose another name")
    values = {
        "package": name.replace("_", "-"),
        "word": word,
        "title": "".join(part.capitalize() for part in word.split("_")),
    }
    folder = parent / values["package"]
    if folder.exists():
        raise BenchboxError(f"{folder} already exists", hint="choose another name or --output")
    files = {
        "pyproject.toml": _PYPROJECT,
        f"{word}.py": _MODULE,
        f"tests/test_{word}.py": _TESTS,
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
