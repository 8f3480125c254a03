"""What several tests share: running the command as a user does, and plugins in one file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_faces import USAGES, Faces, row, write

from benchbox.builtin.datasets.sample import Sample

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def benchbox(tmp_path: Path) -> Command:
    """Run the command in an empty folder, as its own process."""

    def run(*arguments: str | Path, code: int | None = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("benchbox")), *map(str, arguments)]
        result = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "120"} | variables,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if code is not None:
            assert result.returncode == code, result.stdout + result.stderr
        return result

    return run


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a plugin of one file whose denoiser has the given body of `denoise`."""

    def write(name: str, body: str) -> Path:
        lines = "\n".join("        " + line for line in body.strip().splitlines())
        file = tmp_path / f"{name}.py"
        file.write_text(
            "import os, signal, sys, time\n"
            "import numpy as np\n"
            "from benchbox import Denoiser, hookimpl\n\n\n"
            f"class Made(Denoiser):\n    name = '{name}'\n    summary = 'made by a test'\n\n"
            f"    def denoise(self, noisy, sigma):\n{lines}\n\n\n"
            "@hookimpl\ndef benchbox_denoisers():\n    return [Made]\n",
            encoding="utf-8",
        )
        return file

    return write


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for a test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(folder))
    return folder / "fer2013"


@pytest.fixture(scope="session")
def tiles() -> Faces:
    """Twelve different tiles of real photographs, uint8, shape (12, 48, 48)."""
    images = Sample().load(None)
    stack = images.stack(np.linspace(0, len(images) - 1, 12).astype(np.intp))
    return np.rint(stack * 255).astype(np.uint8)


@pytest.fixture
def csv(tmp_path: Path, tiles: Faces) -> Path:
    rows = [row(image, index % 7, usage) for index, (image, usage) in enumerate(zip(tiles, USAGES, strict=True))]
    return write(tmp_path / "fer2013.csv", rows)
