"""From nothing to a row: the package that `plugins new` writes installs, runs, passes its tests and is clean."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import site
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from benchbox.testing.check import PROBES

Command = Callable[..., subprocess.CompletedProcess[str]]


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command that must succeed, outside every project's settings; what it printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_new_package_is_clean_and_keeps_the_contract(benchbox: Command, tmp_path: Path) -> None:
    printed = benchbox("plugins", "new", "my-denoiser").stdout
    assert 'pip install -e "my-denoiser"' in printed
    folder = tmp_path / "my-denoiser"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["benchbox"] == {"my_denoiser": "my_denoiser"}
    assert project["dependencies"] == ["benchbox-denoise", "numpy"]
    run(sys.executable, "-m", "ruff", "check", folder, cwd=tmp_path)
    run(sys.executable, "-m", "ruff", "format", "--check", folder, cwd=tmp_path)
    card = benchbox("plugins", "check", folder / "my_denoiser.py").stdout
    assert "0 fail, 0 skip" in card


@pytest.mark.slow
@pytest.mark.parametrize("template", ["torch", "onnx", "metric", "noise"])
def test_every_template_is_clean_and_passes_its_tests(template: str, benchbox: Command, tmp_path: Path) -> None:
    printed = benchbox("plugins", "new", "my-plugin", "--template", template).stdout
    folder = tmp_path / "my-plugin"
    tomllib.loads((folder / "pyproject.toml").read_text())
    run(sys.executable, "-m", "ruff", "check", folder, cwd=tmp_path)
    run(sys.executable, "-m", "ruff", "format", "--check", folder, cwd=tmp_path)
    if template != "torch" or importlib.util.find_spec("torch"):
        done = run(sys.executable, "-m", "pytest", "-q", "-W", "error", cwd=folder, PYTHONPATH=str(folder))
        assert "passed" in done
    if template in ("metric", "noise"):
        (command,) = [line.split()[1:] for line in printed.splitlines() if line.startswith("  benchbox run")]
        board = benchbox(*command, "--plugin", folder / "my_plugin.py", "--limit", "6", "--no-timing", "-v").stdout
        assert "my-plugin:0.1" in board if template == "noise" else "my_plugin" in board


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Denoiser", "is not a valid package name"),
        ("../evil", "is not a valid package name"),
        ("class", "is not a valid package name"),
        ("median", "already taken by something installed"),
        ("numpy", "already taken by something installed"),
    ],
)
def test_a_name_that_is_wrong_or_taken_is_refused(name: str, message: str, benchbox: Command, tmp_path: Path) -> None:
    result = benchbox("plugins", "new", name, code=2)
    assert message in result.stderr
    assert "hint:" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(benchbox: Command, tmp_path: Path) -> None:
    benchbox("plugins", "new", "mine", "--output", "here")
    (tmp_path / "here" / "mine" / "mine.py").write_text("my work")
    assert "exists" in benchbox("plugins", "new", "mine", "--output", "here", code=2).stderr
    assert (tmp_path / "here" / "mine" / "mine.py").read_text() == "my work"
    (tmp_path / "file").write_text("")
    assert "cannot write" in benchbox("plugins", "new", "other", "--output", "file/in", code=2).stderr


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A fresh virtual environment that sees what is installed here: its interpreter."""
    folder = tmp_path / "venv"
    run(sys.executable, "-m", "venv", folder, cwd=tmp_path)
    python = folder / "bin" / "python"
    packages = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=tmp_path).strip()
    # The hooks that make benchbox itself importable lie in that folder, too: a plain path would not run them.
    lines = "".join(f"import site; site.addsitedir({one!r})\n" for one in site.getsitepackages())
    (Path(packages) / "installed.pth").write_text(lines)
    return python


@pytest.mark.slow
def test_from_nothing_to_a_row_in_a_fresh_environment(benchbox: Command, environment: Path, tmp_path: Path) -> None:
    benchbox("plugins", "new", "my-denoiser")
    folder = tmp_path / "my-denoiser"
    pip = environment, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps"
    run(*pip, "-e", folder, cwd=tmp_path)
    command = environment, "-c", "from benchbox.cli import main; main()"
    board = run(*command, "run", "my_denoiser", "identity", "--noise", "gaussian:0.1", "--limit", "20", cwd=tmp_path)
    assert board.index("my_denoiser") < board.index("identity")
    assert "failed" not in board
    found = json.loads(run(*command, "plugins", "list", "--format", "json", cwd=tmp_path))
    assert {"denoisers": ["my_denoiser"]} in [one["offers"] for one in found["plugins"]]
    assert f"{len(PROBES)} pass, 0 fail" in run(*command, "plugins", "check", "my_denoiser", cwd=tmp_path)
    assert "passed" in run(environment, "-m", "pytest", "-W", "error", cwd=folder)
    table = run(environment, "-m", "pytest", "--benchmark-only", cwd=folder)
    assert "benchmark 'gaussian:0.1, batch 16'" in table
    assert "Success" in run(environment, "-m", "mypy", "--strict", ".", cwd=folder)
    run(environment, "-m", "ruff", "check", ".", cwd=folder)


@pytest.mark.slow
def test_a_package_of_somebody_else_installs_and_has_a_row(environment: Path, tmp_path: Path) -> None:
    package = shutil.copytree(Path(__file__).parents[1] / "fixtures" / "benchbox-shrink", tmp_path / "package")
    run(environment, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", package, cwd=tmp_path)
    command = environment, "-c", "from benchbox.cli import main; main()"
    arguments = "run", "shrink", "identity", "--noise", "dead:0.3+gaussian:0.1", "--limit", "5", "--no-timing"
    board = run(*command, *arguments, cwd=tmp_path)
    assert board.index("shrink") < board.index("identity")
    assert "benchbox-shrink 1.2" in run(*command, "plugins", "list", cwd=tmp_path)
