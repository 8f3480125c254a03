"""What a plugin does while it is imported costs that plugin and nobody else."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from benchbox import BenchboxError
from benchbox.registry import Broken, Importing, PluginEvent, SlowImport, finding, load_registry

pytestmark = pytest.mark.process

Command = Callable[..., subprocess.CompletedProcess[str]]

GOOD = """
from benchbox import Denoiser, hookimpl
class Box(Denoiser):
    name = "box3"
    summary = "mean of a square"
    def denoise(self, noisy, sigma):
        return noisy
@hookimpl
def benchbox_denoisers():
    return [Box]
"""
BAD = {
    "exits": ("import os; os._exit(3)", "while importing it, its process ended with exit code 3"),
    "dies": (
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "while importing it, its process was ended by SIGKILL",
    ),
    "aborts": ("import os; os.abort()", "while importing it, its process was ended by SIGABRT"),
    "interrupts": (
        "raise KeyboardInterrupt",
        "while importing it, its process was ended by SIGINT: KeyboardInterrupt",
    ),
    "sleeps": ("import time; time.sleep(600)", "importing it took longer than 6 s"),
    "loops": ("while True: pass", "importing it took longer than 6 s"),
    "holds_the_gil": ("import ctypes; ctypes.PyDLL(None).sleep(600)", "importing it took longer than 6 s"),
    "leaves_a_child": (
        "import os, subprocess; subprocess.Popen(['sleep', '4244'], close_fds=False); os._exit(4)",
        "with exit code 4",
    ),
    "endless_hook": (
        "import itertools\nfrom benchbox import hookimpl\n@hookimpl\ndef benchbox_denoisers():\n"
        "    return (time for time in itertools.count() if time < 0)",
        "importing it took longer than 6 s",
    ),
    "data_set_exits": (
        "import os\nfrom benchbox import Dataset, hookimpl\nclass Lost(Dataset):\n    name, summary = 'lost', 'exits'\n"
        "    def __init__(self): os._exit(5)\n    def recognises(self, path): return False\n"
        "    def load(self, path, split='', *, skip_bad=False): pass\n"
        "@hookimpl\ndef benchbox_datasets(): return [Lost]",
        "while importing it, its process ended with exit code 5",
    ),
    "raises": ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", BAD)
def test_a_plugin_that_spoils_its_import_is_one_line(fault: str, tmp_path: Path) -> None:
    text, reason = BAD[fault]
    (tmp_path / "bad.py").write_text(text)
    (tmp_path / "better.py").write_text(GOOD)
    events: list[PluginEvent] = []
    registry = load_registry(folders=[tmp_path], timeout_s=6, on_event=events.append)
    assert "box3" in registry.denoisers
    (broken,) = registry.broken
    assert reason in broken.reason
    assert [Path(one.provider.target).name for one in events if isinstance(one, Importing)] == ["bad.py", "better.py"]
    assert [one for one in events if isinstance(one, Broken)] == [broken]
    for process in psutil.process_iter(["cmdline"]):
        assert process.info["cmdline"] != ["sleep", "4244"], "what an import started is ended with it"
    with pytest.raises(BenchboxError) as caught:
        registry.denoiser("bad")
    assert reason in caught.value.hint


@pytest.mark.slow
def test_many_bad_ones_are_told_apart(tmp_path: Path) -> None:
    for name in ("exits", "dies", "sleeps"):
        (tmp_path / f"{name}.py").write_text(BAD[name][0])
    registry = load_registry(folders=[tmp_path], timeout_s=6)
    assert {Path(one.provider.target).stem: one.reason for one in registry.broken} == {
        name: BAD[name][1] for name in ("exits", "dies", "sleeps")
    }


def test_one_that_was_asked_for_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(BAD["exits"][0])
    with pytest.raises(BenchboxError, match="exit code 3") as caught:
        load_registry(files=[file])
    assert caught.value.hint


def test_bundled_plugins_are_not_tried_and_no_plugin_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.py").write_text(GOOD)
    load_registry(files=[tmp_path / "good.py"])

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    assert "box3" in load_registry(files=[tmp_path / "good.py"]).denoisers


@pytest.mark.slow
def test_a_slow_import_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "SLOW_S", 0.5)
    (tmp_path / "slow.py").write_text("import time; time.sleep(0.6)\n" + GOOD)
    events: list[PluginEvent] = []
    assert "box3" in load_registry(files=[tmp_path / "slow.py"], on_event=events.append).denoisers
    (slow,) = [one for one in events if isinstance(one, SlowImport)]
    assert slow.seconds > 0.6


@pytest.mark.slow
def test_a_run_goes_on_without_a_plugin_that_dies_and_says_so(process: Command, tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "bad.py").write_text(BAD["dies"][0])
    (folder / "hangs.py").write_text(BAD["loops"][0])
    (folder / "good.py").write_text(GOOD)
    asked = ("run", "box3", "identity", "--plugins-dir", folder, "--no-timing", "--limit", "8", "--timeout", "8")
    done = process(*asked)
    assert "box3" in done.stdout
    words = " ".join(done.stderr.split())
    assert "bad.py: while importing it, its process was ended by SIGKILL" in words
    assert "hangs.py: importing it took longer than 8 s" in words
    listed = process("plugins", "list", "--plugin", folder / "bad.py", "--plugin", folder / "good.py").stdout
    assert f"broken: {folder}/bad.py: while importing it, its process was ended by SIGKILL" in listed
    assert "denoisers: box3" in listed


@pytest.mark.slow
def test_a_worker_that_cannot_import_it_is_a_row(process: Command, plugin: Callable[[str, str], Path]) -> None:
    """What happens only in a worker, where nothing else runs, is a row of the results like any other fault."""
    file = plugin("moody", "return noisy")
    guard = "import sys\nif 'benchbox.engine.forkserver' in sys.modules and 'click' not in sys.modules: {}\n"
    for fault, words in (("raise ImportError('not here')", "ImportError: not here"), ("sys.exit(5)", "SystemExit: 5")):
        text = file.read_text()
        file.write_text(guard.format(fault) + text)
        done = process("run", "moody", "identity", "--plugin", file, "--no-timing", "--limit", "8", code=1)
        assert words in " ".join(done.stdout.split())
        file.write_text(text)


def test_the_trial_ends_with_the_run_that_started_it(tmp_path: Path) -> None:
    file = tmp_path / "sleeps.py"
    number = tmp_path / "pid"
    file.write_text(
        f"import os, time\nos.write(os.open({str(number)!r}, os.O_CREAT | os.O_WRONLY), b'%d' % os.getpid())\n"
        "time.sleep(600)"
    )
    program = (
        f"from pathlib import Path; from benchbox.registry import load_registry; load_registry([Path({str(file)!r})])"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    while not number.exists() or not number.read_text():
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    child = int(number.read_text())
    for _ in range(100):
        if not psutil.pid_exists(child):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the process of the trial was left behind")
