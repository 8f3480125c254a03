"""What several tests share: their marks, the command as a user types it, finished runs, plugins in one file."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from hypothesis import settings
from made_faces import USAGES, Faces, row, write

from benchbox.builtin.datasets.sample import Sample
from benchbox.cli.main import _run
from benchbox.engine.workers import worker_context

Command = Callable[..., subprocess.CompletedProcess[str]]

# Few examples, the same each time, for the tests of every change; more, other ones each time, for the checks of a clean
# checkout; many for the whole suite.
settings.register_profile("quick", max_examples=10, deadline=None, derandomize=True)
settings.register_profile("checks", max_examples=100, deadline=None)
settings.register_profile("thorough", max_examples=300, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

NEEDS = {"process": {"benchbox", "process", "finished_run"}, "browser": {"browser"}}
"""Fixtures that say what a test needs; a test that starts processes without them is marked `process` itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what it needs, so that `-m pure` and the like select it."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        for mark, names in NEEDS.items():
            if names & fixtures:
                item.add_marker(mark)
        if not any(item.get_closest_marker(mark) for mark in NEEDS):
            item.add_marker("pure")


def pytest_collection_finish() -> None:
    """Leave modules and tests, which live to the end, out of every later search for garbage: 5 % of the time."""
    gc.collect()
    gc.freeze()


def command_in(folder: Path) -> Command:
    """Run the command in a folder, as its own process."""

    def run(*arguments: str | Path, code: int | None = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("benchbox")), *map(str, arguments)]
        result = subprocess.run(
            command,
            cwd=folder,
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
def shared_memory_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IO[str]]:
    """A file to lock: killed workers of Dask leave semaphores, of which a test that looks for any must know nothing."""
    with (tmp_path_factory.getbasetemp().parent / "shared-memory.lock").open("a") as file:
        yield file


@pytest.fixture
def process(tmp_path: Path) -> Command:
    """Run the command in an empty folder, as a process of its own."""
    return command_in(tmp_path)


@pytest.fixture
def benchbox(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command in an empty folder, in this process, which has everything imported and keeps its fork server.

    Workers and guarded programs are processes as ever. What a test says about exits, signals, streams, imports or
    variables that Python reads when it starts needs `process`.
    """

    def run(*arguments: str | Path, code: int | None = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        worker_context()  # before the command, which kills what it has started itself
        command = ["benchbox", *map(str, arguments)]
        modules = set(sys.modules)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", command)
            patch.setattr(sys, "path", [*sys.path])
            for name, value in {"COLUMNS": "120", "MPLBACKEND": "agg", **variables}.items():
                patch.setenv(name, value)
            before = capfd.readouterr()
            ended = int(_run())
            printed = capfd.readouterr()
        for name in set(sys.modules) - modules:  # a test may write its plugin again
            if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
                del sys.modules[name]
        print(*before, *printed, sep="")  # for the report of a failure
        if code is not None:
            assert ended == code, printed.out + printed.err
        return subprocess.CompletedProcess(command, ended, printed.out, printed.err)

    return run


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk(pytestconfig: pytest.Config) -> Iterator[None]:
    """Tests write some eight thousand small files in their own processes, and no test takes the power away."""
    with pytest.MonkeyPatch.context() as patch:
        if not (pytestconfig.getoption("benchmark_enable") or pytestconfig.getoption("benchmark_only")):
            patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run of three denoisers and two noises, without timing; made once, to be read or copied."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "run once"
    with folder.with_suffix(".lock").open("w") as lock:  # test processes share it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            denoisers = ("identity", "median", "wiener")
            command_in(folder)("run", *denoisers, "--noise", "gaussian:0.1", "--noise", "poisson:30", "--no-timing")
    return folder / "results"


@pytest.fixture
def finished_run(run_once: Path, tmp_path: Path) -> Path:
    """A copy of that run in the folder in which the command runs, to be changed at will."""
    return shutil.copytree(run_once, tmp_path / "results") / next(run_once.iterdir()).name


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
