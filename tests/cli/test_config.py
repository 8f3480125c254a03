"""Configuration files of `benchbox run`, and the workflow of the manual that uses one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from benchbox.store import RunStore, list_runs

Command = Callable[..., subprocess.CompletedProcess[str]]
MANUAL = Path(__file__).parents[2] / "docs/ci.md"


def test_what_is_saved_repeats_the_run(benchbox: Command, tmp_path: Path) -> None:
    words = ("mine=median:size=5", "identity", "--noise", "gaussian:25/255", "--limit", "5", "--no-timing")
    more = ("--timeout", "2m", "--sigma-error", "0.5,2", "--fail-if", "psnr < 5 dB", "-q")
    benchbox("run", *words, *more, "--save-config", "bench.toml")
    saved = tomllib.loads((tmp_path / "bench.toml").read_text())
    assert saved == {
        "denoisers": ["mine=median:size=5", "identity"],
        "noise": ["gaussian:25/255"],
        "limit": 5,
        "timing": False,
        "timeout": 120.0,
        "sigma-error": [0.5, 2.0],
        "fail-if": ["psnr < 5 dB"],
    }
    benchbox("run", "-c", "bench.toml")
    first, again = (RunStore.open(run).record for run in list_runs(tmp_path / "results"))
    assert again.options == first.options


def test_the_command_line_wins(benchbox: Command, tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text('denoisers = ["median"]\nlimit = 5\nno-timing = true\nnoise = "poisson:30"\n')
    benchbox("run", "-c", "bench.toml", "identity", "--limit", "3")
    (run,) = list_runs(tmp_path / "results")
    options = RunStore.open(run).record.options
    assert (options.denoisers, options.limit, options.noise) == (("identity",), 3, ("poisson:30",))
    assert not options.timing
    assert "omit --config" in benchbox("run", "-c", "bench.toml", "--resume", run.name, code=2).stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('nose = "poisson"', "there is no option 'nose'"),
        ('limit = "many"', "limit: 'many' is not a whole number"),
        ("limit = 0", "limit: '0' is not a whole number of at least 1"),
        ("limit = true", "limit: True is not a value"),
        ("noise = 3", "noise: [3] is not text"),
        ('timing = "no"', "timing: 'no' is neither true nor false"),
        ('sigma = "guess"', "sigma: 'guess' is not one of"),
        ("[noise]\na = 1", "noise: [{'a': 1}] is not text"),
        ("limit =", "Invalid value (at"),
    ],
)
def test_a_wrong_line_is_an_error_that_names_file_and_key(
    line: str, message: str, benchbox: Command, tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text(line)
    assert f"error: bad.toml: {message}" in benchbox("run", "identity", "-c", "bad.toml", code=2).stderr
    assert not (tmp_path / "results").exists()


def test_a_config_that_is_not_there_is_said(benchbox: Command) -> None:
    assert "gone.toml: No such file" in benchbox("run", "-c", "gone.toml", code=2).stderr


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(("size", "code"), [(3, 0), (9, 3)])
def test_the_workflow_of_the_manual_gates_a_pull_request(size: int, code: int, tmp_path: Path) -> None:
    text = MANUAL.read_text(encoding="utf-8")
    (tmp_path / "bench.toml").write_text(re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)[0])
    (workflow,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    steps = yaml.safe_load(workflow)["jobs"]["quality"]["steps"]
    commands = {step["name"]: step["run"] for step in steps if "run" in step}
    assert commands.pop("Install") == "pip install benchbox-denoise"

    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    code_of = (
        "from scipy.ndimage import gaussian_filter\ndef denoise(noisy): return gaussian_filter(noisy, (0, {0}, {0}))\n"
    )
    (tmp_path / "mine.py").write_text(code_of.format(3))
    git("init", "-q")
    git("add", "bench.toml", "mine.py")
    git("commit", "-qm", "base")
    base = git("rev-parse", "HEAD")
    (tmp_path / "mine.py").write_text(code_of.format(size))
    codes = {}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name, command in commands.items():
        script = command.replace("${{ github.event.pull_request.base.sha }}", base)
        environment = os.environ | {"PATH": path, "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
        done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, check=False)
        codes[name] = done.returncode
    assert codes == {"Score the pull request": 0, "Score its base": 0, "Write the summary": 0, "Compare": code}
    assert "mine" in (tmp_path / "summary.md").read_text()
