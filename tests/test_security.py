"""Nobody let in: what a run imports, opens, writes and prints, whatever stands in its way."""

from __future__ import annotations

import ast
import functools
import io
import json
import os
import pty
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchbox_unet import weights_file
from benchbox_unet.weights_file import read_weights

from benchbox import BenchboxError
from benchbox.records.run import Timing
from benchbox.store import RunStore, find_run

pytestmark = pytest.mark.process

Command = Callable[..., subprocess.CompletedProcess[str]]
Plugin = Callable[[str, str], Path]

ROOT = Path(__file__).parent.parent
SOURCES = [*(ROOT / "benchbox").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
OPTIONS = ("allow_pickle", "safe_mode", "shell", "weights_only")
"""Keywords that decide whether code of others runs."""
SHORT = ("--no-timing", "--limit", "8")


@pytest.mark.slow
def test_nothing_is_imported_from_the_working_folder_or_the_results(process: Command, tmp_path: Path) -> None:
    """Decoys of all that a process of a run imports; one that ran would leave its name and end the process."""
    found = tmp_path / "found.txt"
    results = tmp_path / "results"
    names: tuple[str, ...] = (
        "json",
        "multiprocessing",
        "numpy",
        "numba",
        "pytest",
        "pytest_benchmark",
        "pyarrow",
        "psutil",
        "pebble",
    )
    names += ("scipy", "cv2", "benchbox", "benchbox_filters", "tempfile", "sitecustomize", "usercustomize", "conftest")
    for folder in (tmp_path, results):
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / f"{name}.py").write_text(f"open({str(found)!r}, 'a').write(__name__)\nraise SystemExit")
    process("run", "identity", "median", "--limit", "8")
    process("leaderboard")
    process("replay", find_run(results).name)
    assert not found.exists()


NO_NETWORK = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[1] if event in ("socket.connect", "socket.sendto", "socket.bind") else "a name"
        if not isinstance(address, (str, bytes)) or event.startswith("socket.get"):
            open({log!r}, "a").write(f"{{event}} {{address}}\\n")
            raise OSError("no network in a run")
sys.addaudithook(refuse)
"""


@pytest.mark.slow
def test_a_run_opens_no_connection(process: Command, tmp_path: Path) -> None:
    """In every process of a run, the workers' and the timed ones' too: unix sockets between them are all it needs."""
    site, log = tmp_path / "site", tmp_path / "connections.txt"
    site.mkdir()
    (site / "sitecustomize.py").write_text(NO_NETWORK.format(log=str(log)))
    asked = ("run", "identity", "median", "unet", "--limit", "8", "--report")
    process(*asked, PYTHONPATH=str(site))
    assert not log.exists(), log.read_text()
    probe = "import socket; socket.create_connection(('127.0.0.1', 9))"
    refused = subprocess.run(
        [sys.executable, "-c", probe], env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, check=False
    )
    assert b"no network in a run" in refused.stderr
    assert log.exists(), "the guard sees what it is there for"


@pytest.mark.slow
def test_a_run_works_where_there_is_no_network(tmp_path: Path) -> None:
    able = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0
    if not able:
        pytest.skip("this system does not let a process give up its network (unshare -rn)")
    command = [str(Path(sys.executable).with_name("benchbox")), "run", "identity", "median", *SHORT]
    subprocess.run(["unshare", "-rn", *command], cwd=tmp_path, capture_output=True, check=True, timeout=300)


EVIL = "\\x1b[31mred\\x1b]0;title\\x07\\x9b2J\\u202e =1+1"


def in_terminal(tmp_path: Path, *arguments: str) -> bytes:
    """What the command writes to a terminal."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("benchbox")), *arguments],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=child,
        stderr=child,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(child)
    written = b""
    with io.FileIO(parent) as terminal:
        while True:
            try:
                block = terminal.read(65536)
            except OSError:  # the other side has gone
                break
            if not block:
                break
            written += block
    process.wait()
    return written


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "evil", "--plugins-dir", "folder", *SHORT),
        ("run", "evil", "--plugin", "folder/evil.py", "--data", "a\x1b[31m\x07.csv"),
        ("list", "denoisers", "--plugins-dir", "folder"),
        ("plugins", "list", "--plugins-dir", "folder"),
        ("plugins", "check", "folder/evil.py"),
    ],
    ids=["run", "error", "list", "plugins-list", "plugins-check"],
)
def test_a_terminal_gets_no_command_from_a_plugin(arguments: tuple[str, ...], plugin: Plugin, tmp_path: Path) -> None:
    file = plugin("evil", f"raise ValueError('{EVIL}')")
    text = (
        file.read_text()
        .replace("'made by a test'", f"'{EVIL}'")
        .replace("    summary", f"    notice = '{EVIL}'\n    summary")
    )
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "evil.py").write_text(text)
    (tmp_path / "folder" / "broken.py").write_text(f"raise RuntimeError('{EVIL}')")
    written = in_terminal(tmp_path, *arguments)
    assert b"evil" in written or b"error" in written
    for harmful in (b"\x1b]0;title", b"\x07", b"\xc2\x9b", "\u202e".encode()):
        assert harmful not in written


@functools.cache
def imports_calls_and_texts() -> dict[type[ast.AST], list[tuple[Path, Any]]]:
    """These nodes of all sources, read once for the tests that look at them."""
    kinds: dict[type[ast.AST], list[tuple[Path, Any]]] = {
        kind: [] for kind in (ast.Import, ast.ImportFrom, ast.Call, ast.Constant)
    }
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if type(node) in kinds:
                kinds[type(node)].append((file, node))
    return kinds


@functools.cache
def called(call: ast.Call) -> str:
    return ast.unparse(call.func)


def test_no_pickle_no_eval_and_no_unsafe_loader_anywhere() -> None:
    """Multiprocessing pickles between our own processes; nothing that is read from a file or a plugin is unpickled."""
    assert len(SOURCES) > 100
    forbidden = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}
    forbidden |= {
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
        "tempfile.mktemp",
        "keras.config.enable_unsafe_deserialization",
    }
    modules = {"cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "urllib", "requests", "http"}
    nodes = imports_calls_and_texts()
    for file, node in (*nodes[ast.Import], *nodes[ast.ImportFrom]):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
        # urllib.parse splits addresses and opens none.
        found = {name.partition(".")[0] for name in names if name != "urllib.parse"} & modules
        # Pickles what a notebook hands over; the plugin file that it writes runs by the rule of plugin files.
        assert found <= ({"cloudpickle"} if file.name == "given.py" else set()), f"{file}:{node.lineno}"
    for file, node in nodes[ast.Call]:
        where, name = f"{file}:{node.lineno}", called(node)
        assert name not in forbidden, where
        options = {one.arg: ast.unparse(one.value) for one in node.keywords if one.arg in OPTIONS}
        assert options.get("allow_pickle", "False") == "False", where
        assert options.get("safe_mode", "True") == "True", where
        assert options.get("shell", "False") == "False", where
        if name == "torch.load":
            assert options.get("weights_only") == "True", where
        if name in ("np.load", "numpy.load"):
            assert options.get("allow_pickle") == "False", where
        if name.endswith("load_model"):
            assert options.get("safe_mode") == "True", where


def test_no_temporary_file_has_a_name_that_can_be_guessed() -> None:
    nodes = imports_calls_and_texts()
    for file, node in nodes[ast.Constant]:
        if isinstance(node.value, str):
            assert not node.value.startswith(("/tmp", "/var/tmp", "/dev/shm")), f"{file}:{node.lineno}"
    for file, node in nodes[ast.Call]:
        assert called(node) not in ("tempfile.gettempdir", "gettempdir"), f"{file}:{node.lineno}"


@pytest.mark.parametrize("name", ["..", "../other", "/", "a/../..", "*", "20260101-000000-000aaaa/..", "x\0y", "~"])
def test_a_run_is_named_by_its_id_or_the_path_of_a_run(name: str, tmp_path: Path) -> None:
    results = tmp_path / "results"
    for number in (1, 2):
        run = results / f"2026010{number}-000000-000aaaa"
        run.mkdir(parents=True)
        (run / "run.json").write_text("{}")
    with pytest.raises((BenchboxError, ValueError)):
        find_run(results, name)


def test_nothing_that_a_run_writes_leaves_its_folder(benchbox: Command, tmp_path: Path) -> None:
    """Names that look like paths: of an option's value, of a noise's key, of a run id in a foreign run.json."""
    benchbox("run", 'command:run="cp {in} {out} ../../../../etc"', "identity", *SHORT, code=None)
    store = RunStore.open(find_run(tmp_path / "results"))
    for name in ("../../evil:x=1", "/etc/evil", "..", "a/b:c", "x\0y"):
        try:
            store.write_timing(name, Timing("timeout", "none"))
        except (BenchboxError, ValueError):
            continue
    outside = [file for file in tmp_path.rglob("*") if file.is_file() and store.folder not in file.parents]
    assert outside == []


def bomb(file: Path) -> Path:
    """A small archive whose one array claims to take 40 GB."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (100_000, 100_000)})
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("a.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for _ in range(64):
            member.write(bytes(2**20))
    return file


@pytest.mark.slow
def test_weights_that_unpack_to_more_than_a_network_has_are_refused(benchbox: Command, tmp_path: Path) -> None:
    file = bomb(tmp_path / "weights.npz")
    assert file.stat().st_size < 2**20
    shown = benchbox("run", f"unet:weights={file}", "identity", *SHORT, "--memory", "2", code=1).stdout
    row = next(line for line in shown.splitlines() if "weights.npz" in line and "failed" in line)
    assert "weights" in row


def test_what_an_archive_unpacks_to_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights.npz"
    np.savez_compressed(file, a=np.zeros(2**20, np.float32))
    assert read_weights(file)["a"].nbytes == 2**22
    monkeypatch.setattr(weights_file, "MAX_BYTES", 2**22)
    with pytest.raises(BenchboxError, match=r"unpacks to 4,194,432 bytes; the limit is 4,194,304"):
        read_weights(file)


@pytest.mark.slow
def test_a_plugin_file_that_a_foreign_run_names_is_not_imported(
    benchbox: Command, plugin: Plugin, tmp_path: Path
) -> None:
    file = plugin("mine", "return noisy")
    ours, theirs = ({"BENCHBOX_CACHE_DIR": str(tmp_path / who)} for who in ("ours", "theirs"))
    benchbox("run", "mine", "identity", "--plugin", file, *SHORT, **theirs)
    run = find_run(tmp_path / "results")
    ran = tmp_path / "ran"
    file.write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()\n" + file.read_text())
    for arguments in (("replay", run.name), ("run", "--resume", run.name)):
        refused = benchbox(*arguments, code=2, **ours).stderr
        assert f"the plugin file {file}, which you have not run on this machine" in refused
        assert f"--plugin {file}" in refused
        assert not ran.exists()
    assert "'mine' was" in benchbox("replay", run.name, "--plugin", file, **ours).stdout
    assert "now it is" in benchbox("run", "--resume", run.name, "--plugin", file, code=2, **ours).stderr


MEDDLING = """
os.chdir("/")
os.umask(0o777)
os.environ["BENCHBOX_CACHE_DIR"] = "/nowhere"
os.environ.pop("HOME", None)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
np.random.seed(1)
"""
STATE = """
import os, random, signal, sys
import numpy as np
from pathlib import Path
from benchbox.registry import load_registry
def state():
    mask = os.umask(0); os.umask(mask)
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    draws = random.getstate(), np.random.get_state()[1].tolist()
    return os.getcwd(), dict(os.environ), mask, handlers, signal.pthread_sigmask(signal.SIG_BLOCK, ()), draws
before = state()
registry = load_registry([Path(sys.argv[1])])
assert "meddling" in registry.denoisers
assert state() == before
"""


def test_the_import_of_a_plugin_changes_nothing_of_the_process(plugin: Plugin, tmp_path: Path) -> None:
    file = plugin("meddling", "return noisy")
    file.write_text(file.read_text() + MEDDLING + "import random; random.seed(1)\n")
    done = subprocess.run(
        [sys.executable, "-c", STATE, str(file)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["threading.Thread(target=time.sleep, args=(3000,)).start()", "atexit.register(time.sleep, 3000)"]
)
def test_a_command_ends_whatever_a_plugin_has_started(
    line: str, plugin: Plugin, process: Command, tmp_path: Path
) -> None:
    file = plugin("lasting", "return noisy")
    file.write_text(file.read_text() + f"import atexit, threading\n{line}\n")
    done = process("list", "denoisers", "--plugin", file)
    assert "lasting" in done.stdout
    assert "left something running" in done.stderr


def test_a_record_whose_keys_are_paths_is_no_run(benchbox: Command, tmp_path: Path) -> None:
    benchbox("run", "identity", *SHORT)
    file = find_run(tmp_path / "results") / "run.json"
    values = json.loads(file.read_text())
    for key in ("../../../evil", "/etc/evil", "", "abc/def012345678"):
        values["cells"][0]["key"] = key
        file.write_text(json.dumps(values))
        with pytest.raises(BenchboxError, match=r"at `\$.cells\[0\].key`"):
            RunStore.open(file.parent)


@pytest.mark.slow
def test_a_program_that_a_foreign_run_names_is_not_started(benchbox: Command, tmp_path: Path) -> None:
    ours, theirs = ({"BENCHBOX_CACHE_DIR": str(tmp_path / who)} for who in ("ours", "theirs"))
    row = f'command:run="sh {tmp_path}/copy.sh {{in}} {{out}}"'
    (tmp_path / "copy.sh").write_text('cp "$1" "$2"')
    benchbox("run", row, "identity", "--no-timing", "--limit", "2", **theirs)
    run = find_run(tmp_path / "results")
    (tmp_path / "copy.sh").write_text(f'touch {tmp_path}/ran; cp "$1" "$2"')
    for arguments in (("replay", run.name), ("run", "--resume", run.name)):
        refused = benchbox(*arguments, code=2, **ours).stderr
        assert "starts a program that you have not run on this machine" in refused
    assert not (tmp_path / "ran").exists()
    assert "have changed" in benchbox("replay", run.name, **theirs).stdout
