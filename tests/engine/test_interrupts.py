"""What ends a run from outside: interrupts, a vanished file, a full or read-only disk, a clock that jumps."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from benchbox import BenchboxError
from benchbox.notebook import run
from benchbox.store import RunStore, find_run, list_runs

pytestmark = pytest.mark.process

Command = Callable[..., subprocess.CompletedProcess[str]]
Plugin = Callable[[str, str], Path]

PROGRAM = str(Path(sys.executable).with_name("benchbox"))
HANG_S = 180.0
"""An idle machine ends a run in one or two seconds; a busy one takes longer, but not the ten minutes of the plugin."""
HANGS = "import ctypes\nctypes.PyDLL(None).sleep(600)"


def outcomes(folder: Path) -> list[str]:
    return [one.status for one in RunStore.open(find_run(folder / "results")).outcomes().values()]


def heard() -> None:
    """Have a new process hear what a shell, or nohup, may have had the tests ignore."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Started:
    """A run of `identity` and of a plugin that hangs in C; `identity` is done when this is made."""

    def __init__(self, plugin: Plugin, folder: Path, results: str = "results") -> None:
        self.results = folder / results
        # Short, for the path of a socket may not be long.
        self.temporary = Path(tempfile.mkdtemp(prefix="b"))
        begun = folder / "begun"
        file = plugin("hangs", f"open({str(begun)!r}, 'w').close()\n{HANGS}")
        self.process = subprocess.Popen(
            [PROGRAM, "run", "identity", "hangs", "--plugin", str(file), "--results", results],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=os.environ | {"TMPDIR": str(self.temporary)},
            # A shell that runs the tests in the background has them ignore the signal, and they would hand that on.
            preexec_fn=heard,
        )
        for _ in range(1200):
            if begun.exists() and list(self.results.glob("*/outcomes/*.json")):
                break
            if self.process.poll() is not None:
                pytest.fail(f"the run ended: {self.process.communicate()[1].decode()}")
            time.sleep(0.1)
        else:
            pytest.fail("the run did not begin")
        self.workers = psutil.Process(self.process.pid).children(recursive=True)

    def send(self, *signals: signal.Signals) -> str:
        """Send signals to the whole session, as a terminal does; gives what was said until the run ended."""
        for position, one in enumerate(signals):
            if position:
                time.sleep(0.05)
            os.killpg(self.process.pid, one)
        self.process.wait(HANG_S)
        return self.process.communicate(timeout=HANG_S)[1].decode()

    def statuses(self) -> list[str]:
        return [one.status for one in RunStore.open(find_run(self.results)).outcomes().values()]

    def left_behind(self) -> list[psutil.Process]:
        """Processes that are there some seconds later; the server of the workers ends when its parent has gone."""
        for _ in range(100):
            left = [one for one in self.workers if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
            if not left:
                return []
            time.sleep(0.1)
        return left


@pytest.fixture
def start(plugin: Plugin, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    begun: list[Started] = []

    def make(results: str = "results") -> Started:
        begun.append(Started(plugin, tmp_path, results))
        return begun[-1]

    yield make
    for one in begun:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.communicate()
        shutil.rmtree(one.temporary)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "results", "words"),
    [
        (signal.SIGINT, "results", ""),
        pytest.param(signal.SIGTERM, "else where", " --results 'else where'", marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, "results", "", marks=pytest.mark.slow),
    ],
)
def test_one_interrupt_keeps_what_is_finished_and_says_how_to_go_on(
    number: signal.Signals, results: str, words: str, start: Callable[..., Started]
) -> None:
    started = start(results)
    said = started.send(number)
    assert started.process.returncode == 130
    assert f"Continue with: benchbox run --resume {find_run(started.results).name}{words}\n" in said
    assert "Traceback" not in said
    assert started.statuses() == ["ok"]
    assert started.left_behind() == []
    assert list(started.temporary.iterdir()) == []


@pytest.mark.slow
def test_a_second_interrupt_ends_at_once(start: Callable[..., Started]) -> None:
    started = start()
    said = started.send(signal.SIGINT, signal.SIGINT)
    assert started.process.returncode == 130
    resume = f"benchbox run --resume {find_run(started.results).name}"
    # The first interrupt may have ended the run before the second one arrives.
    assert any(
        f"{how}; finished work is kept. Continue with: {resume}" in said for how in ("stopped at once", "interrupted")
    )
    assert "Traceback" not in said
    assert "leaked" not in said
    assert started.statuses() == ["ok"]
    assert started.left_behind() == []
    assert list(started.temporary.iterdir()) == []


@pytest.mark.slow
def test_a_worker_that_dies_of_an_interrupt_is_no_failure(process: Command, plugin: Plugin, tmp_path: Path) -> None:
    """A terminal or a scheduler signals every process of a run; a worker may be gone before the run has heard of it."""
    body = (
        "import os, psutil, signal\nserver, run = psutil.Process().parents()[:2]\n"
        "run.suspend()\nos.kill(run.pid, signal.SIGTERM)\n"
        "if not os.fork():\n    os.setsid()\n    import time; time.sleep(0.3); run.resume(); os._exit(0)\n"
        "os._exit(1)"
    )
    said = process("run", "identity", "gone", "--plugin", plugin("gone", body), "--jobs", "1", code=130).stderr
    assert "Continue with" in said
    assert outcomes(tmp_path) == ["ok"]


@pytest.mark.slow
def test_workers_end_with_a_run_that_is_killed(start: Callable[..., Started]) -> None:
    started = start()
    os.kill(started.process.pid, signal.SIGKILL)
    started.process.communicate(timeout=HANG_S)
    assert started.left_behind() == []
    assert started.statuses() == ["ok"]


TIMED = """
if 'BENCHBOX_TIMING_TASK' in os.environ:
    open({begun!r}, 'w').close()
    time.sleep(600)
return noisy
"""


def of_folder(folder: Path) -> list[psutil.Process]:
    """Processes that work in a folder."""
    found = psutil.process_iter(["cwd", "status", "cmdline"])
    return [one for one in found if one.info["cwd"] == str(folder) and one.info["status"] != psutil.STATUS_ZOMBIE]


def until(holds: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("early", [True, False])
def test_nothing_is_left_of_a_run_that_ends_at_once_while_it_times(early: bool, plugin: Plugin, tmp_path: Path) -> None:
    """Killed as soon as the timed process is there; interrupted twice while the plugin is called."""
    temporary, begun = Path(tempfile.mkdtemp(prefix="b")), tmp_path / "begun"
    file = plugin("sleeps", TIMED.format(begun=str(begun)))
    command = [PROGRAM, "run", "sleeps", "--plugin", str(file), "--limit", "4", "--previews", "0"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"TMPDIR": str(temporary)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True, preexec_fn=heard,
    )  # fmt: skip
    if early:
        assert until(lambda: any("timing_case" in str(one.info["cmdline"]) for one in of_folder(tmp_path)))
        os.kill(process.pid, signal.SIGKILL)
    else:
        assert until(begun.exists)
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    assert until(lambda: not of_folder(tmp_path), 10), of_folder(tmp_path)
    assert until(lambda: list(temporary.iterdir()) == [], 10), list(temporary.iterdir())
    shutil.rmtree(temporary)


def test_an_interrupt_at_the_very_start_shows_no_traceback_of_the_server(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [PROGRAM, "run", "identity", "--limit", "4"], cwd=tmp_path, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard,
    )  # fmt: skip
    # In the middle of its imports; the main process is in the middle of its own then, and no run is made yet.
    assert until(lambda: any("forkserver" in str(one.info["cmdline"]) for one in of_folder(tmp_path)))
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=HANG_S)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    assert until(lambda: not of_folder(tmp_path), 10)


def photographs(folder: Path) -> Path:
    folder.mkdir()
    for index in range(3):
        picture = np.random.default_rng(index).integers(0, 256, (64, 64)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    return folder


@pytest.mark.slow
def test_images_that_vanish_stop_the_run_and_it_can_go_on(process: Command, plugin: Plugin, tmp_path: Path) -> None:
    data = photographs(tmp_path / "photographs")
    kept = shutil.copytree(data, tmp_path / "kept")
    file = plugin("thief", f"import pathlib\npathlib.Path({str(data / '1.png')!r}).unlink()\nreturn noisy")
    asked = ("identity", "thief", "median", "--plugin", file, "--data", data, "--jobs", "1", "--no-timing")
    stopped = process("run", *asked, code=2).stderr
    folder = find_run(tmp_path / "results")
    assert "photographs have changed since this run began" in stopped
    assert f"then continue with: benchbox run --resume {folder.name}" in stopped
    assert outcomes(tmp_path) == ["ok", "ok"]
    assert "have changed since run" in process("run", "--resume", folder.name, code=2).stderr
    shutil.copy(kept / "1.png", data / "1.png")
    process("run", "--resume", folder.name, "--jobs", "2")
    assert outcomes(tmp_path) == ["ok", "ok", "ok"]


def mounted(script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount, in a namespace of its own; skips where the system does not allow that."""
    (tmp_path / "mount").mkdir(exist_ok=True)
    allowed = "mount -t tmpfs none mount"
    if subprocess.run(
        ["unshare", "-rm", "sh", "-c", allowed], cwd=tmp_path, capture_output=True, check=False
    ).returncode:
        pytest.skip("this system does not let a process mount anything (unshare -rm)")
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )


RUN = f"{PROGRAM} run identity median wiener --noise gaussian:0.1 --noise poisson:30 --results mount/results"


@pytest.mark.slow
def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    done = mounted(f"mount -t tmpfs -o ro none mount && {RUN}", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write mount/results")
    assert "--results" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(process: Command, tmp_path: Path) -> None:
    """Filled up after the first finished shards, by a file of somebody else."""
    fill = (
        "while ! ls mount/results/*/scores/*/*.parquet; do sleep 0.05; done >/dev/null 2>&1;"
        " dd if=/dev/zero of=mount/filler bs=4k 2>/dev/null"
    )
    script = (
        "mount -t tmpfs -o size=20m none mount\n"
        f"({fill}) &\n"
        f"{RUN} --jobs 1 --no-timing; echo code $?\n"
        "wait; ls mount/results/*/scores/*/*.parquet | wc -l\n"
        "rm mount/filler\n"
        f"{PROGRAM} run --results mount/results --resume 2; echo code $?\n"
        "cp -r mount/results copied"
    )
    done = mounted(script, tmp_path)
    assert "cannot write mount/results/" in done.stderr
    assert "the disk is full: free some space; finished work is kept; then continue with: benchbox run" in done.stderr
    assert "Traceback" not in done.stderr
    codes = [line for line in done.stdout.splitlines() if line.startswith("code ")]
    assert codes == ["code 2", "code 0"]
    asked = ("identity", "median", "wiener", "--noise", "gaussian:0.1", "--noise", "poisson:30", "--no-timing")
    process("run", *asked)
    stores = [RunStore.open(find_run(tmp_path / name)) for name in ("copied", "results")]
    for one, other in zip(stores[0].record.cells, stores[1].record.cells, strict=True):
        left, right = stores[0].scores(one.key), stores[1].scores(other.key)
        for column in right:
            np.testing.assert_array_equal(left[column], right[column])
    assert not [file for file in (tmp_path / "copied").rglob("*") if file.name.endswith(".part")]


@pytest.mark.slow
def test_no_room_for_what_is_to_be_timed_is_said(plugin: Plugin, tmp_path: Path) -> None:
    small = Path(tempfile.mkdtemp(prefix="b"))  # short, for the path of a socket may not be long
    fill = f"with open({str(small / 'filler')!r}, 'wb', 0) as file:\n    try:\n"
    fill += "        while True: file.write(bytes(4096))\n    except OSError: pass\nreturn noisy"
    file = plugin("fills", fill)
    run = f"TMPDIR={small} {PROGRAM} run fills --plugin {file} --limit 8 --jobs 1 --previews 0"
    done = mounted(f"mount -t tmpfs -o size=4m none {small} && {run}", tmp_path)
    small.rmdir()
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-2].startswith("error: cannot write what is timed")
    assert "TMPDIR" in done.stderr.splitlines()[-1]
    assert "benchbox run --resume" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


class _Clock(datetime):
    """A clock that is set back by a day at each look."""

    looks = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        cls.looks += 1
        return datetime(2026, 1, 31, tzinfo=UTC) - timedelta(days=cls.looks)


@pytest.mark.slow
def test_a_clock_that_is_set_back_mixes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchbox.store.layout.datetime", _Clock)
    frames = [run(["identity"], results=tmp_path, timing=False, limit=4) for _ in range(2)]
    assert len(list_runs(tmp_path)) == 2
    assert frames[0].scores.equals(frames[1].scores)
    again = RunStore.open(list_runs(tmp_path)[0])
    before = {file: file.read_bytes() for file in again.folder.rglob("*") if file.is_file()}
    with pytest.raises(BenchboxError, match="cannot write") as caught:
        RunStore.create(tmp_path, again.record, again.images())
    assert "run again" in caught.value.hint
    assert {file: file.read_bytes() for file in again.folder.rglob("*") if file.is_file()} == before


def test_no_duration_is_taken_from_the_wall_clock() -> None:
    """The cache and the health check compare the age of files with it; else it only names a run."""
    root = Path(__file__).parents[2] / "benchbox"
    clock = re.compile(r"\btime\.time(_ns)?\b|\bdatetime\.now\b")
    found = {
        file.relative_to(root).as_posix().removesuffix(".py")
        for file in root.rglob("*.py")
        if clock.search(file.read_text(encoding="utf-8"))
    }
    assert "engine/run" in found
    assert found <= {
        "system/files",
        "engine/run",
        "engine/merge",
        "store/layout",
        "training/loop",
        "testing/fresh",
    }


@pytest.mark.slow
def test_a_folder_for_temporary_files_may_lie_deep(process: Command, tmp_path: Path) -> None:
    """Deeper than the path of a socket may be."""
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    process("run", "identity", "--limit", "4", TMPDIR=str(deep))
    assert list(deep.iterdir()) == []
