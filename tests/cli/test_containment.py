"""Every command that runs plugins is protected like a run: what a plugin does costs its own line, nothing is left."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from benchbox.store import find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
Plugin = Callable[[str, str], Path]

LEAVES = """
import subprocess
from benchbox import Dataset


def leave():
    print("printed while it is imported")
    subprocess.Popen(["sleep", "4246"])
    if not os.fork():
        os.setsid()
        if not os.fork():
            subprocess.run(["sleep", "4246"])
        os._exit(0)


class Nothing(Dataset):
    name = "nothing"
    summary = "takes no path"

    def __init__(self):
        leave()

    def recognises(self, path):
        return False

    def load(self, path, split="", *, skip_bad=False):
        raise AssertionError


@hookimpl
def benchbox_datasets():
    return [Nothing]


leave()
"""
CONSTRUCTOR = """
    def __init__(self, *, size: int = 3):
        leave()
"""


def left_behind() -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "4246"]]


@pytest.fixture
def leaves(plugin: Plugin) -> Path:
    """A module that leaves a child and a daemon behind and prints, each time it is imported or constructs anything."""
    file = plugin("leaves", "return noisy")
    file.write_text(file.read_text().replace("\n    def denoise", CONSTRUCTOR + "\n    def denoise") + LEAVES)
    return file


def test_a_new_command_is_protected_unless_it_is_named_as_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    main = importlib.import_module("benchbox.cli.main")  # the name in the package is the function
    protected: list[bool] = []

    @contextlib.contextmanager
    def contained() -> Iterator[None]:
        protected.append(True)
        yield

    monkeypatch.setattr(main, "contained", contained)
    monkeypatch.setitem(main._COMMANDS, "novel", ("reports:leaderboard", "A command of tomorrow."))
    for name, expected in (("novel", [True]), ("leaderboard", []), ("list", [True])):
        protected.clear()
        main.cli.main([name, "--help"], standalone_mode=False)
        assert protected == expected, name
    assert main._COMMANDS.keys() > main._READERS


@pytest.mark.slow
def test_listing_plugins_leaves_nothing_and_prints_pure_json(process: Command, leaves: Path) -> None:
    for command in (("list", "denoisers"), ("plugins", "list")):
        done = process(*command, "--plugin", leaves, "--format", "json")
        assert "leaves" in json.dumps(json.loads(done.stdout))
        assert left_behind() == []


@pytest.mark.slow
def test_a_health_check_leaves_nothing(process: Command, leaves: Path) -> None:
    page = process("plugins", "check", leaves, code=None).stdout
    assert "leaves" in page
    assert "no answer" not in page
    assert left_behind() == []


@pytest.mark.slow
def test_a_search_is_no_worse_for_a_neighbour_that_hangs(process: Command, leaves: Path, tmp_path: Path) -> None:
    """The neighbour costs its time once, though a search makes several runs."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    mark = tmp_path / "imports"
    (folder / "hangs.py").write_text(f"open({str(mark)!r}, 'a').write('.')\nwhile True: pass")
    asked = ("median", "--space", "size=3,5", "--noise", "salt-pepper:0.1", "--limit", "4", "--timeout", "8")
    done = process("tune", *asked, "--plugins-dir", folder, "--plugin", leaves)
    assert "median tuned on" in done.stdout
    assert "hangs.py: importing it took longer than 8 s" in " ".join(done.stderr.split())
    assert mark.read_text() == "."
    assert left_behind() == []


@pytest.mark.slow
def test_a_replay_leaves_nothing(process: Command, leaves: Path, tmp_path: Path) -> None:
    process("run", "leaves", "--plugin", leaves, "--limit", "4", "--no-timing", "--previews", "0")
    process("replay", find_run(tmp_path / "results").name)
    assert left_behind() == []


@pytest.mark.slow
def test_the_python_interface_leaves_nothing_and_spares_what_is_not_its_own(leaves: Path, tmp_path: Path) -> None:
    """The plugin is imported in a process that belongs to somebody else, whose other processes must live."""
    script = f"""
import subprocess, threading, benchbox
ours = []
thread = threading.Thread(target=lambda: ours.append(subprocess.Popen(["sleep", "60"])))
thread.start(); thread.join()
ours.append(subprocess.Popen(["sleep", "60"]))
frames = benchbox.run(["leaves:size=5"], plugins=[{str(leaves)!r}], limit=4, timing=False)
assert list(frames.frame(all=True).status) == ["ok"], frames.frame(all=True)
assert all(one.poll() is None for one in ours)
for one in ours: one.kill()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert left_behind() == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_search_ends_in_order(number: signal.Signals, plugin: Plugin, tmp_path: Path) -> None:
    temporary, begun = tmp_path / "temporary", tmp_path / "begun"
    temporary.mkdir()
    file = plugin("hangs", f"open({str(begun)!r}, 'w').close()\ntime.sleep(600)")
    file.write_text(
        file.read_text().replace(
            "    def denoise", "    def __init__(self, *, size: int = 3):\n        pass\n\n    def denoise"
        )
    )
    program = str(Path(sys.executable).with_name("benchbox"))
    process = subprocess.Popen(
        [program, "tune", "hangs", "--space", "size=3,5", "--noise", "gaussian:0.1", "--limit", "4", "--plugin", file],
        cwd=tmp_path, env=os.environ | {"TMPDIR": str(temporary)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not begun.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert psutil.wait_procs(started, timeout=10)[1] == []
    assert list(temporary.iterdir()) == []
