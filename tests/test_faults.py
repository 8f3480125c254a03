"""What plugins do to a run: each fault with real processes, a row with its reason, and nothing left behind."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
Plugin = Callable[[str, str], Path]

SEVENTH = """
self.calls = getattr(self, 'calls', 0)
for image in noisy:
    self.calls += 1
    if self.calls == 7: raise ValueError('the seventh image')
return noisy
"""
CHILD = """
import subprocess
subprocess.Popen(['sleep', '4242'], start_new_session=True)
subprocess.Popen(['sleep', '4243'])
return noisy
"""
FAULTS = {
    "seventh": (SEVENTH, "failed", "the seventh image"),
    "holds_the_gil": ("import ctypes\nctypes.PyDLL(None).sleep(600)", "timeout", "longer than 12 s"),
    "sleeps": ("time.sleep(600)", "timeout", "longer than 12 s"),
    "takes_memory": (
        "self.kept = [np.ones((256, 2**20)) for _ in range(1)]\ntime.sleep(20)\nreturn noisy",
        "out of memory",
        "more than 1 GiB (--memory)",
    ),
    "closes_files": ("os.closerange(3, 256)\nreturn noisy", "died", "its process"),
    "count": ("return noisy[:-1]", "contract", "shape (141, 48, 48)"),
    "a_list": ("return list(noisy)", "contract", "list, not an array"),
}
HARMLESS = {
    "its_own_input": "return noisy",
    "writes_into_it": "noisy *= 0.5\nreturn noisy",
    "child_processes": CHILD,
    "threads": "import threading\nthreading.Thread(target=time.sleep, args=(600,)).start()\nreturn noisy",
    "a_gigabyte": "for _ in range(1024): os.write(1, b'x' * 2**20)\nreturn noisy",
    "the_world": """
os.chdir('/')
os.environ.clear()
np.random.seed(1)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
return noisy
""",
}


def outcome(folder: Path, denoiser: str) -> tuple[str, str]:
    store = RunStore.open(find_run(folder / "results"))
    (cell,) = [cell for cell in store.record.cells if cell.denoiser == denoiser]
    found = store.outcomes()[cell.key]
    return found.status, found.reason


def left_behind(folder: Path) -> list[str]:
    """Processes that a test's plugin has left: its children by name, workers by their working folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = process.info["cmdline"] or []
        if command[:2] in (["sleep", "4242"], ["sleep", "4243"]) or process.info["cwd"] == str(folder):
            found.append(" ".join(command))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_row_with_its_reason(fault: str, benchbox: Command, plugin: Plugin, tmp_path: Path) -> None:
    body, status, reason = FAULTS[fault]
    file = plugin(fault, body)
    limits = ("--timeout", "12", "--memory", "1")
    result = benchbox("run", fault, "identity", "--plugin", file, "--no-timing", *limits, code=1)
    assert outcome(tmp_path, fault)[0] == status
    assert reason in outcome(tmp_path, fault)[1]
    assert reason in result.stdout.replace("\n", " ")
    assert outcome(tmp_path, "identity")[0] == "ok"
    assert left_behind(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("habit", HARMLESS)
def test_a_bad_habit_harms_nobody(habit: str, benchbox: Command, plugin: Plugin, tmp_path: Path) -> None:
    file = plugin(habit, HARMLESS[habit])
    benchbox("run", habit, "identity", "--plugin", file, "--no-timing")
    assert outcome(tmp_path, habit) == ("ok", "")
    assert outcome(tmp_path, "identity") == ("ok", "")
    assert left_behind(tmp_path) == []
    size = sum(file.stat().st_size for file in (tmp_path / "results").rglob("*") if file.is_file())
    assert size < 3 * 2**20
