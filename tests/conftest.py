"""What several tests share: running the command as a user does, and plugins in one file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
