"""What misbehaving plugins do to a run: every fault at once, with real processes.

``pytest -m slow -s tests/engine/test_faults.py`` prints the table of docs/faults.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import IO

import numpy as np
import psutil
import pytest

from benchbox.engine.shard import failure_of
from benchbox.engine.workers import worker_context
from benchbox.records.run import Outcome
from benchbox.store import RunStore, find_run
from benchbox.system.program import OutputKeeper

pytestmark = pytest.mark.process

Command = Callable[..., subprocess.CompletedProcess[str]]
Plugin = Callable[[str, str], Path]

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
TIMEOUT_S = 15
SEVENTH = """
self.calls = getattr(self, 'calls', 0)
for image in noisy:
    self.calls += 1
    if self.calls == 7: raise ValueError('the seventh image')
return noisy
"""
ODD = """
class Odd(Exception):
    def __init__(self, a, b): self.f = lambda: 0
raise Odd(1, 2)
"""
MUTE = """
class Mute(Exception):
    def __str__(self): raise RuntimeError('no words')
raise Mute
"""
CHILD = """
import subprocess
subprocess.Popen(['sleep', '4242'], start_new_session=True)
subprocess.Popen(['sleep', '4243'])
return noisy
"""
DAEMON = """
import subprocess
if not os.fork():
    os.setsid()
    if not os.fork():
        subprocess.run(['sleep', '4242'])
    os._exit(0)
"""
FILES = """
import tempfile
os.close(tempfile.mkstemp()[0])
os.mkdir(tempfile.gettempdir() + '/deep')
return noisy
"""
WORLD = """
os.chdir('/')
os.environ.clear()
np.random.seed(1)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
return noisy
"""
STRANGE = """
for name in [name for name in sys.modules if name.partition('.')[0] == 'benchbox']:
    del sys.modules[name]
return noisy
"""
ONCE = """
mark = {folder!r} + '/was-here'
if not os.path.exists(mark):
    open(mark, 'w').close()
    os.kill(os.getpid(), signal.SIGKILL)
return noisy
"""


@dataclass(frozen=True)
class Fault:
    """What a denoiser does, in words and as the body of `denoise`, and what becomes of its row.

    One whose name begins with ``constructor`` does it in its constructor, and is named with an option.
    """

    words: str
    body: str
    status: str
    reason: str = ""
    tries: int = 1


FAULTS = {
    "raises": Fault("raises", "raise ValueError('no such image')", "failed", "ValueError: no such image"),
    "seventh": Fault("raises at the 7th image", SEVENTH, "failed", "ValueError: the seventh image"),
    "unpicklable": Fault("raises an exception that cannot be pickled", ODD, "failed", "Odd"),
    "mute": Fault("raises an exception that cannot be printed", MUTE, "failed", "Mute"),
    "recursion": Fault(
        "recurses forever", "return self.denoise(noisy, sigma)", "failed", "RecursionError: maximum recursion", 0
    ),
    "long_words": Fault(
        "raises a message of 20 MB", "raise ValueError('y' * 20_000_000)", "failed", "ValueError: yyyyyyyyyy"
    ),
    "drops_modules": Fault("removes benchbox from `sys.modules`", STRANGE, "failed", "PicklingError: "),
    "system_exit": Fault("calls `sys.exit(0)`", "sys.exit(0)", "failed", "SystemExit: 0"),
    "constructor_raises": Fault(
        "raises in its constructor", "raise RuntimeError('no licence')", "failed", "RuntimeError: no licence", 0
    ),
    "nan": Fault(
        "returns NaN", "noisy[1, 2, 3] = np.nan\nreturn noisy", "contract", "NaN or infinity in 1 of 142 images"
    ),
    "shape": Fault("returns another shape", "return noisy[:, 1:]", "contract", "shape (142, 47, 48)"),
    "count": Fault("returns too few images", "return noisy[:-1]", "contract", "shape (141, 48, 48)"),
    "dtype": Fault("returns float64", "return noisy.astype(float)", "contract", "float64, not float32"),
    "masked": Fault(
        "returns a masked array",
        "noisy[1, 2, 3] = np.nan\nreturn np.ma.masked_invalid(noisy)",
        "contract",
        "MaskedArray, not a plain array",
    ),
    "a_list": Fault("returns a list", "return list(noisy)", "contract", "list, not an array"),
    "generator": Fault("returns a generator", "return (one for one in noisy)", "contract", "generator, not an array"),
    "loops": Fault("loops forever in Python", "while True: pass", "timeout", "longer than 15 s (--timeout)"),
    "holds_the_gil": Fault(
        "hangs in C and holds the GIL",
        "import ctypes\nctypes.PyDLL(None).sleep(600)",
        "timeout",
        "longer than 15 s (--timeout)",
    ),
    "sleeps": Fault("sleeps beyond `--timeout`", "time.sleep(600)", "timeout", "longer than 15 s (--timeout)"),
    "constructor_hangs": Fault(
        "hangs in its constructor", "while True: pass", "timeout", "longer than 15 s (--timeout)", 0
    ),
    "takes_memory": Fault(
        "allocates past `--memory`",
        "self.kept = np.ones((40, 2**20))\ntime.sleep(20)\nreturn noisy",
        "out of memory",
        "more than 0.3 GiB (--memory)",
    ),
    "exits": Fault("calls `os._exit(3)`", "os._exit(3)", "died", "exit code 3"),
    "constructor_exits": Fault("calls `os._exit(3)` in its constructor", "os._exit(3)", "died", "exit code 3", 0),
    "aborts": Fault("aborts in native code", "os.abort()", "died", "ended by SIGABRT"),
    "signal_40": Fault(
        "is killed by a signal without a name", "os.kill(os.getpid(), 40)", "died", "ended by signal 40"
    ),
    "segfault": Fault("reads address 0", "import ctypes\nctypes.string_at(0)", "died", "ended by SIGSEGV"),
    "closes_files": Fault("closes files it does not own", "os.closerange(3, 256)\nreturn noisy", "died", "its process"),
    "killed": Fault(
        "is killed by SIGKILL every time", "os.kill(os.getpid(), signal.SIGKILL)", "died", "ended by SIGKILL", 2
    ),
    "killed_once": Fault("is killed by SIGKILL, once", ONCE, "ok", "", 2),
    "its_own_input": Fault("returns its own input", "return noisy", "ok"),
    "writes_into_it": Fault("writes into its input", "noisy *= 0.5\nreturn noisy", "ok"),
    "child_processes": Fault("leaves child processes behind", CHILD, "ok"),
    "daemon": Fault("leaves a daemon behind", DAEMON + "return noisy", "ok"),
    "daemon_of_the_dead": Fault("leaves a daemon behind and dies", DAEMON + "os._exit(4)", "died", "exit code 4"),
    "temporary_files": Fault("leaves temporary files behind", FILES, "ok"),
    "threads": Fault(
        "leaves threads behind",
        "import threading\nthreading.Thread(target=time.sleep, args=(600,)).start()\nreturn noisy",
        "ok",
    ),
    "a_gigabyte": Fault("prints a gigabyte", "for _ in range(1024): os.write(1, b'x' * 2**20)\nreturn noisy", "ok"),
    "the_world": Fault("changes the working directory, environment, random state and signal handlers", WORLD, "ok"),
}
IMPORTS = {
    "import_raises": Fault("raises on import", "raise RuntimeError('no licence')", "", "RuntimeError: no licence"),
    "import_exits": Fault("ends the process on import", "import os; os._exit(3)", "", "exit code 3"),
    "import_takes_60_s": Fault(
        "takes longer than `--timeout` to import",
        "import time; time.sleep(60)",
        "",
        "importing it took longer than 15 s",
    ),
}
TOUCHED = {
    "failed": "`failed`, with its exception and traceback",
    "contract": "`contract`, with what it returned",
    "timeout": "`timeout`; its process is killed",
    "out of memory": "`out of memory`; its process is killed",
    "died": "`died`, with its signal or exit code",
    "ok": "`ok`; anything it leaves behind is ended or deleted",
    "": "left out, with the reason; naming it is an error",
}


def matrix(ended: dict[str, tuple[str, int]]) -> str:
    """The table, from how each row ended and how often it was tried."""
    groups: dict[tuple[str, int], list[str]] = {}
    for name, (status, tries) in ended.items():
        groups.setdefault((status, tries), []).append((FAULTS | IMPORTS)[name].words)
    lines = ["| The plugin | Its row |", "|---|---|"]
    for (status, tries), words in groups.items():
        row = f"retried once, in case the system did it; then `{status}`" if tries == 2 else TOUCHED[status]
        lines.append(f"| {'; '.join(words)} | {row} |")
    return "\n".join(lines) + "\n"


def left_behind(folder: Path) -> list[str]:
    """Processes that a test's plugin has left: its children by name, workers by their working folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = process.info["cmdline"] or []
        if command[:2] in (["sleep", "4242"], ["sleep", "4243"]) or process.info["cwd"] == str(folder):
            found.append(" ".join(command))
    return found


def memory_left_behind(before: set[Path], seconds: float = 10) -> set[Path]:
    """Shared memory and semaphores that appeared and that no process maps: other tests' runs have theirs mapped."""
    until = time.monotonic() + seconds  # a run beside may have made one and not mapped it yet
    left = shared_memory() - before
    while left and time.monotonic() < until:
        mapped = ""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                mapped += (process / "maps").read_text(errors="replace")
        left = {one for one in left & shared_memory() if str(one) not in mapped}
        if left:
            time.sleep(0.2)
    return left


def shared_memory() -> set[Path]:
    """Every such file of this user."""
    found = set()
    for one in Path("/dev/shm").glob("*"):
        with contextlib.suppress(OSError):
            if one.stat().st_uid == os.getuid():
                found.add(one)
    return found


@pytest.mark.slow
def test_memory_that_nobody_maps_is_seen() -> None:
    before = shared_memory()
    held = SharedMemory(create=True, size=1)
    try:
        file = Path("/dev/shm", held.name)
        if file not in shared_memory():
            pytest.skip("the system shows no shared memory as files")
        assert file not in memory_left_behind(before)
        held.close()
        assert file in memory_left_behind(before, seconds=1)
    finally:
        held.unlink()
    assert file not in memory_left_behind(before)


def rows_of(store: RunStore) -> dict[str, Outcome]:
    outcomes = store.outcomes()
    return {cell.denoiser: outcomes[cell.key] for cell in store.record.cells if cell.key in outcomes}


@pytest.mark.slow
def test_every_fault_is_a_row_with_its_reason_and_touches_nobody(
    process: Command, plugin: Plugin, tmp_path: Path, shared_memory_lock: IO[str]
) -> None:
    process("run", "identity", "median", "--no-timing")
    alone = RunStore.open(find_run(tmp_path / "results"))
    folder, broken, calls = tmp_path / "plugins", tmp_path / "broken", tmp_path / "calls"
    for made in (folder, broken, calls):
        made.mkdir()
    temporary = Path(tempfile.mkdtemp(prefix="b"))  # short, for the path of a socket may not be long
    for name, fault in FAULTS.items():
        body = fault.body.replace("{folder!r}", repr(str(tmp_path)))
        count = f"os.close(os.open({str(calls / name)!r}, os.O_CREAT)); open({str(calls / name)!r}, 'a').write('.')\n"
        file = plugin(name, ("" if fault.tries == 0 else count) + body).rename(folder / f"{name}.py")
        if name.startswith("constructor"):
            moved = file.read_text().replace("denoise(self, noisy, sigma)", "__init__(self, *, size: int = 3)")
            file.write_text(
                moved.replace("\n\n\n@hookimpl", "\n    denoise = lambda self, noisy, sigma: noisy\n\n\n@hookimpl")
            )
    for name, fault in IMPORTS.items():
        (broken / f"{name}.py").write_text(fault.body)
    fcntl.flock(shared_memory_lock, fcntl.LOCK_EX)
    shared = shared_memory()
    specs = {name + ":size=5" * name.startswith("constructor"): fault for name, fault in FAULTS.items()}
    # Most of the time somebody hangs, which others need not wait for.
    limits = f"--jobs 4 --timeout {TIMEOUT_S} --memory 0.3 --no-timing --previews 0 --fresh --verbose".split()
    folders = ("--plugins-dir", folder, "--plugins-dir", broken)
    done = process("run", "identity", *specs, "median", *folders, *limits, code=1, TMPDIR=str(temporary))
    assert left_behind(tmp_path) == []
    temporary.rmdir()  # which is empty again
    assert memory_left_behind(shared) == set()
    fcntl.flock(shared_memory_lock, fcntl.LOCK_UN)

    store = RunStore.open(find_run(tmp_path / "results"))
    rows, shown = rows_of(store), " ".join(done.stdout.split())
    rows = {spec.partition(":")[0]: outcome for spec, outcome in rows.items()}
    keys = {cell.denoiser.partition(":")[0]: cell.key for cell in store.record.cells}
    ended: dict[str, tuple[str, int]] = {}
    for name, fault in FAULTS.items():
        assert (rows[name].status, fault.reason in rows[name].reason) == (fault.status, True), (name, rows[name])
        tries = len((calls / name).read_text()) if (calls / name).exists() else 0
        assert tries == fault.tries, name
        ended[name] = (rows[name].status, max(1, tries))
        if fault.status == "failed" and name != "drops_modules":  # which raises nothing itself
            assert "Traceback" in store.failure_file(keys[name]).read_text(), name
        if fault.status != "ok":
            assert fault.reason in shown, name
    words = " ".join(done.stderr.split())
    for name, fault in IMPORTS.items():
        assert f"{name}.py: " in words
        assert fault.reason in words
        ended[name] = ("", 1)
        refused = process("run", name, "--plugins-dir", broken, "--timeout", "3", code=2).stderr
        assert fault.reason.replace("15 s", "3 s") in " ".join(refused.split())
    for cell in alone.record.cells:
        before, after = alone.scores(cell.key), store.scores(keys[cell.denoiser])
        assert before.keys() == after.keys()
        for column in before:
            np.testing.assert_array_equal(before[column], after[column])
    size = sum(file.stat().st_size for file in store.folder.rglob("*") if file.is_file())
    assert size < 8 * 2**20, "a gigabyte was printed"
    print("\n" + matrix(ended))
    assert matrix(ended) in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_nothing_is_left_of_what_is_started_when_it_is_imported_or_timed(
    process: Command, plugin: Plugin, tmp_path: Path
) -> None:
    temporary = Path(tempfile.mkdtemp(prefix="b"))
    file = plugin("leaves", f"{CHILD.replace('return noisy', '')}\n{DAEMON}\n{FILES.replace('os.mkdir', '#')}")
    file.write_text(file.read_text() + CHILD.replace("return noisy", "") + DAEMON)
    process("run", "leaves", "--plugin", file, "--limit", "4", "--batch", "2", TMPDIR=str(temporary))
    assert left_behind(tmp_path) == []
    temporary.rmdir()
    store = RunStore.open(find_run(tmp_path / "results"))
    assert [timing.status for timing in store.timings().values()] == ["ok"]


def test_the_documentation_shows_the_matrix() -> None:
    """Of what the test above holds every row to."""
    ended = {name: (fault.status, max(1, fault.tries)) for name, fault in (FAULTS | IMPORTS).items()}
    assert matrix(ended) in PAGE.read_text(encoding="utf-8"), matrix(ended)


def test_an_exception_without_words_still_has_a_name() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    failure = failure_of(Mute())
    assert failure.reason == "Mute"
    assert re.search(r"Mute", failure.detail)


def test_what_cannot_be_kept_is_read_all_the_same(tmp_path: Path) -> None:
    """A plugin that prints must not wait for a reader for ever, and be told to be too slow."""
    log = tmp_path / "log"
    log.mkdir()
    with pytest.warns(RuntimeWarning, match="not logged: .*Is a directory"):
        keeper = OutputKeeper(log, tmp_path).__enter__()
    with keeper.pipe.open("wb", buffering=0) as pipe:
        subprocess.run(["head", "-c", "4M", "/dev/zero"], stdout=pipe, timeout=20, check=True)
    keeper.__exit__(None, None, None)


@pytest.mark.slow
def test_some_faults_beside_a_sound_row(benchbox: Command, plugin: Plugin, tmp_path: Path) -> None:
    """The quick ones, for every day."""
    names = ("unpicklable", "nan", "masked", "exits", "signal_40", "system_exit", "long_words", "drops_modules")
    benchbox("run", "identity", "--no-timing")
    alone = RunStore.open(find_run(tmp_path / "results"))
    for name in names:
        plugin(name, FAULTS[name].body)
    files = [word for name in names for word in ("--plugin", f"{name}.py")]
    done = benchbox("run", *names, "identity", *files, "--no-timing", "--fresh", "--verbose", code=1)
    store = RunStore.open(find_run(tmp_path / "results"))
    for name, outcome in rows_of(store).items():
        assert outcome.status == (FAULTS[name].status if name in names else "ok")
        if name in names:
            assert FAULTS[name].reason in outcome.reason
            assert FAULTS[name].reason in " ".join(done.stdout.split())
    scores = [one.scores({cell.denoiser: cell.key for cell in one.record.cells}["identity"]) for one in (alone, store)]
    for column in scores[0]:
        np.testing.assert_array_equal(scores[0][column], scores[1][column])
    assert left_behind(tmp_path) == []


@pytest.mark.slow
def test_how_a_worker_ended_is_read_once_by_whoever_looks() -> None:
    """Whoever starts a process looks after all others: of two readers of its end, one would find nothing."""
    context = worker_context()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            multiprocessing.active_children()

    lookers = [threading.Thread(target=look) for _ in range(4)]
    for one in lookers:
        one.start()
    try:
        for _ in range(20):
            process = context.Process(target=signal.raise_signal, args=[signal.SIGRTMIN + 6])
            process.start()
            process.join()
            assert process.exitcode == -(signal.SIGRTMIN + 6)
    finally:
        done.set()
        for one in lookers:
            one.join()
