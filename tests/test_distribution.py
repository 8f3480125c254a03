"""The distribution is `benchbox-denoise`: an unrelated `benchbox` beside it is a clear error, not a strange one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import benchbox as package
from benchbox.api.version import DISTRIBUTION
from benchbox.records.run import Provider
from benchbox.registry import load_registry
from benchbox_denoise import problem_with_the_package

pytestmark = pytest.mark.process

Command = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[1]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder into which pip has installed a wheel of the unrelated project."""
    wheel = tmp_path / "benchbox-0.4.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("benchbox/__init__.py", "raise RuntimeError('the stranger was imported')\n")
        archive.writestr("benchbox/cli/__init__.py", "")
        info = "benchbox-0.4.2.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: benchbox\nVersion: 0.4.2\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    folder = tmp_path / "site"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", "--no-index")
    subprocess.run([*pip, "--target", folder, wheel], check=True, timeout=300)
    return folder


def test_a_stranger_that_hides_the_package_is_named(process: Command, site: Path) -> None:
    said = process("--version", code=2, PYTHONPATH=str(site)).stderr
    assert f"error: the package 'benchbox' in {site / 'benchbox'} belongs to another project" in said
    assert "hint: pip uninstall benchbox" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_stranger_whose_files_are_among_ours_is_named(process: Command, site: Path) -> None:
    shutil.copytree(ROOT / "benchbox", site / "benchbox", dirs_exist_ok=True)
    said = process("--version", code=2, PYTHONPATH=str(site)).stderr
    assert "another project, benchbox 0.4.2, has installed its files among those of benchbox-denoise" in said


def test_a_package_of_which_a_part_is_left_is_no_package(process: Command, tmp_path: Path) -> None:
    (tmp_path / "site" / "benchbox" / "cli").mkdir(parents=True)
    assert "missing or incomplete" in run_isolated(tmp_path / "site")


def run_isolated(site: Path) -> str:
    """Start the entry point where only `site` and the standard library can be imported; what it says."""
    shutil.copy(ROOT / "benchbox_denoise.py", site)
    script = f"import sys; sys.path.append({str(site)!r}); import benchbox_denoise; benchbox_denoise.main()"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    return done.stderr


def test_here_the_package_is_ours() -> None:
    assert problem_with_the_package() == ""


def test_nothing_asks_pip_for_the_stranger(tmp_path: Path) -> None:
    """Whatever the project tells people or pip to install is called by the name of the distribution."""
    for project in (ROOT / "pyproject.toml", ROOT / "tests" / "fixtures" / "benchbox-shrink" / "pyproject.toml"):
        assert "benchbox" not in tomllib.loads(project.read_text())["project"]["dependencies"]
    for file in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("plugins/**/*.md")]:
        assert "install benchbox" not in file.read_text().replace('"', "").replace("benchbox-denoise", ""), file


def test_name_and_version_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    expected = Provider("built in", "benchbox.builtin", DISTRIBUTION, package.__version__)
    assert load_registry().noise_model("gaussian").provider == expected
