"""What goes wrong on a Dask cluster costs a row only if the denoiser is to blame, and leaves no process behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from made_clusters import Cluster, bytes_of, wait_for, worker_pid

import benchbox as package
from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
Plugin = Callable[[str, str], Path]
pytestmark = pytest.mark.slow

BLIND = """
import os
from dataclasses import replace
from benchbox import BenchboxError, Dataset, hookimpl
from benchbox.builtin.datasets.sample import Sample


class Elsewhere(Dataset):
    name = "elsewhere"
    summary = "the sample, on machines that have it"

    def colored(self, color):
        return self

    def recognises(self, path):
        return False

    def load(self, path, *, split="", skip_bad=False):
        if "BLIND" in os.environ:
            raise BenchboxError("there is no such folder", hint="")
        return replace(Sample().load(None), dataset="elsewhere")


@hookimpl
def benchbox_datasets():
    return [Elsewhere]
"""
MANY = """

def many(images, dataset):
    import numpy as np
    count = 60
    return replace(
        images,
        dataset=dataset,
        ids=tuple(f"{turn}-{name}" for turn in range(count) for name in images.ids),
        shapes=np.tile(images.shapes, (count, 1)),
        read=lambda indices: images.read(indices % len(images)),
        labels={},
    )
"""
IN_C = "import ctypes\nctypes.PyDLL(None).sleep(1000)"  # holds the interpreter's lock
KILLS_ITS_WORKER = """
import psutil
child = psutil.Process()
if noisy.shape[0] and os.environ.get("FATAL"):
    child.parent().parent().kill()
    time.sleep(60)
return noisy
"""


def outcomes(results: Path) -> dict[str, tuple[str, str]]:
    store = RunStore.open(find_run(results))
    ended = store.outcomes()
    return {cell.denoiser: (ended[cell.key].status, ended[cell.key].reason) for cell in store.record.cells}


def test_a_hang_in_c_and_a_death_are_rows_and_the_worker_goes_on(
    process: Command, plugin: Plugin, cluster: Cluster, tmp_path: Path
) -> None:
    files = [
        plugin("hangs", IN_C),
        plugin("dies", "os._exit(3)"),
        plugin("grows", "kept = bytearray(3 << 30)\nkept[::4096] = b'x' * len(kept[::4096])\ntime.sleep(60)"),
    ]
    for name in ("a", "b"):
        cluster.add(name, "--no-nanny")
    named = [word for file in files for word in ("--plugin", str(file))]
    limits = ("--timeout", "8s", "--memory", "1.5")
    rows = ("median", "hangs", "dies", "grows", "--noise", "gaussian:0.1", "--no-timing", *named, *limits)
    process("run", *rows, "--scheduler-file", cluster.file, "--repeats", "3", code=1)
    found = outcomes(tmp_path / "results")
    assert {row: status for row, (status, _) in found.items()} == {
        "median": "ok",
        "hangs": "timeout",
        "dies": "died",
        "grows": "out of memory",
    }
    assert "exit code 3" in found["dies"][1]
    assert all(worker.poll() is None for worker in cluster.workers.values())


def test_a_shard_that_takes_its_workers_with_it_is_tried_alone_then_blamed(
    process: Command, plugin: Plugin, cluster: Cluster, tmp_path: Path
) -> None:
    own = plugin("deadly", KILLS_ITS_WORKER)
    for name in ("a", "b"):
        cluster.add(name, FATAL="1")
    rows = ("median", "deadly", "--noise", "gaussian:0.1", "--no-timing", "--plugin", own)
    process("run", *rows, "--repeats", "4", "--scheduler-file", cluster.file, code=1)
    found = outcomes(tmp_path / "results")
    assert found["median"][0] == "ok"
    assert found["deadly"][0] == "died"
    assert "3 workers of the cluster died while they ran it" in found["deadly"][1]
    assert "the last one alone" in found["deadly"][1]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_child_processes_end_within_2_s_after_the_client(
    how: signal.Signals, plugin: Plugin, cluster: Cluster, tmp_path: Path
) -> None:
    own = plugin("hangs", f"from pathlib import Path\nPath('{tmp_path}', str(os.getpid())).touch()\n{IN_C}")
    for name in ("a", "b"):
        cluster.add(name)
    command = [sys.executable, "-m", "benchbox", "run", "hangs", "--noise", "gaussian:0.1", "--noise", "gaussian:0.2"]
    options = ["--no-timing", "--plugin", str(own), "--scheduler-file", str(cluster.file)]
    client = subprocess.Popen(
        [*command, *options], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert wait_for(lambda: len([file for file in tmp_path.iterdir() if file.name.isdigit()]) == 2)
    children = [int(file.name) for file in tmp_path.iterdir() if file.name.isdigit()]
    assert all(psutil.pid_exists(pid) for pid in children)
    client.send_signal(how)
    begun = time.monotonic()
    ended = wait_for(lambda: not any(map(psutil.pid_exists, children)), 20)
    print(f"{how.name}: child processes ended after {time.monotonic() - begun:.1f} s")
    _, errors = client.communicate(timeout=60)
    assert ended
    assert all(worker.poll() is None for worker in cluster.workers.values())
    if how == signal.SIGINT:
        assert client.returncode == 130
        assert "--resume" in errors


SLOW_THERE = """
    def __init__(self):
        if "SITE" in os.environ:
            open(f"{folder}/{{os.getpid()}}", "w").close()
            time.sleep(60)

    def files(self):
        return [__file__]

"""


def test_the_constructor_that_a_worker_tries_ends_with_the_client(
    plugin: Plugin, cluster: Cluster, tmp_path: Path
) -> None:
    own = plugin("weighted", "return noisy")
    own.write_text(own.read_text().replace("    def denoise", SLOW_THERE.format(folder=tmp_path) + "    def denoise"))
    cluster.add("a", SITE="a")
    command = [sys.executable, "-m", "benchbox", "run", "weighted", "--plugin", str(own), "--no-timing"]
    client = subprocess.Popen([*command, "--scheduler-file", str(cluster.file)], cwd=tmp_path)
    assert wait_for(lambda: any(file.name.isdigit() for file in tmp_path.iterdir()))
    (child,) = [int(file.name) for file in tmp_path.iterdir() if file.name.isdigit()]
    client.kill()
    client.wait()
    assert wait_for(lambda: not psutil.pid_exists(child), 20)


@pytest.mark.parametrize("early", [True, False])
def test_an_interrupt_at_the_terminal_ends_workers_on_this_machine_without_a_word(
    early: bool, plugin: Plugin, tmp_path: Path
) -> None:
    """Ctrl-C reaches every process of the terminal, also the workers that the client has started."""
    pytest.importorskip("distributed")
    own = plugin("hangs", f"open({str(tmp_path / 'begun')!r}, 'w').close()\n{IN_C}")
    command = [sys.executable, "-m", "benchbox", "run", "hangs", "--plugin", str(own), "--limit", "4"]
    client = subprocess.Popen(
        [*command, "--engine", "dask", "--jobs", "2"], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip

    def workers() -> list[psutil.Process]:
        found = [one for one in psutil.process_iter(["ppid", "cmdline"]) if one.info["ppid"] == client.pid]
        return [one for one in found if "spawn_main" in " ".join(one.info["cmdline"] or ())]

    assert wait_for(workers if early else (tmp_path / "begun").exists, 120)
    started = psutil.Process(client.pid).children(recursive=True)
    os.killpg(client.pid, signal.SIGINT)
    errors = client.communicate(timeout=60)[1]
    assert client.returncode == 130
    assert "Traceback" not in errors
    assert errors.count("--resume") == 1
    assert psutil.wait_procs(started, timeout=10)[1] == []


def test_an_interrupt_while_nobody_listens_ends_the_run(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with socket.socket() as bound:  # nobody else gets this port, and nobody listens to it
        bound.bind(("127.0.0.1", 0))
        where = ("--scheduler", f"tcp://127.0.0.1:{bound.getsockname()[1]}")
        client = subprocess.Popen(
            [sys.executable, "-m", "benchbox", "run", "identity", "--limit", "4", *where], cwd=tmp_path,
            stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        assert wait_for(lambda: list(tmp_path.glob("results/*/run.json")))
        time.sleep(3)  # to import Dask; it tries for half a minute
        client.send_signal(signal.SIGINT)
        errors = client.communicate(timeout=50)[1]
    assert client.returncode == 130
    assert "Traceback" not in errors
    assert f"{' '.join(where)}" in errors


def test_a_worker_with_an_older_benchbox_is_left_out_by_name_and_reason(
    process: Command, cluster: Cluster, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    source = Path(package.__file__).parent
    shutil.copytree(source, older / "benchbox", ignore=shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc"))
    version = older / "benchbox" / "api" / "version.py"
    version.write_text(version.read_text().replace(package.__version__, "0.0.1"))
    cluster.add("old", PYTHONPATH=str(older))
    edited = tmp_path / "edited"
    shutil.copytree(source, edited / "benchbox", ignore=shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc"))
    with (edited / "benchbox" / "builtin" / "metrics.py").open("a") as file:
        file.write("\n# edited\n")
    cluster.add("edited", PYTHONPATH=str(edited))
    ancient = tmp_path / "ancient"
    (ancient / "benchbox").mkdir(parents=True)
    (ancient / "benchbox" / "__init__.py").touch()
    cluster.add("ancient", PYTHONPATH=str(ancient))
    assert wait_for(lambda: "Registered to" in (cluster.folder / "worker-2.log").read_text())
    only_old = ("run", "median", "--noise", "gaussian:0.1", "--no-timing", "--scheduler-file", cluster.file)
    stopped = process(*only_old, "--wait", "15s", code=2)
    assert f"worker old is left out: it has benchbox 0.0.1, not {package.__version__}" in stopped.stderr
    assert "worker edited is left out: the code of its benchbox differs" in stopped.stderr
    assert "worker ancient is left out: it has another benchbox, or none" in stopped.stderr
    cluster.add("new")
    process("run", "--resume", "latest", "--scheduler-file", cluster.file)
    assert outcomes(tmp_path / "results")["median"][0] == "ok"


def test_a_worker_with_other_weights_is_left_out(
    process: Command, plugin: Plugin, cluster: Cluster, tmp_path: Path
) -> None:
    for name in ("own", "other"):
        (tmp_path / name).write_text(name)
    file = plugin("weighted", "return noisy")
    weights = f"    def files(self):\n        return [{str(tmp_path)!r} + '/' + os.environ.get('WEIGHTS', 'own')]\n\n"
    file.write_text(file.read_text().replace("    def denoise", f"{weights}    def denoise"))
    cluster.add("other", WEIGHTS="other")
    rows = ("run", "weighted", "--plugin", file, "--no-timing", "--limit", "4", "--previews", "0")
    stopped = process(*rows, "--scheduler-file", cluster.file, "--wait", "5s", code=2).stderr
    assert "worker other is left out: weighted: its files, such as weights, differ" in stopped
    cluster.add("own")
    process("run", "--resume", "latest", "--scheduler-file", cluster.file)
    assert outcomes(tmp_path / "results") == {"weighted": ("ok", "")}


def test_a_worker_that_does_not_see_the_data_gets_them_or_is_left_out(
    process: Command, cluster: Cluster, tmp_path: Path
) -> None:
    own = tmp_path / "elsewhere.py"
    own.write_text(BLIND)
    cluster.add("blind", BLIND="1")
    rows = ("run", "median", "wiener", "--dataset", "elsewhere", "--data", tmp_path, "--plugin", own)
    more = ("--noise", "gaussian:0.1", "--no-timing", "--fresh", "--repeats", "3", "--results")
    process(*rows, *more, tmp_path / "sent", "--scheduler-file", cluster.file)
    process(*rows, *more, tmp_path / "local")
    sent, local = (bytes_of(RunStore.open(find_run(tmp_path / name))) for name in ("sent", "local"))
    assert sent == local


def test_a_worker_that_does_not_see_large_data_is_left_out_unless_they_are_to_be_sent(
    process: Command, cluster: Cluster, tmp_path: Path
) -> None:
    own = tmp_path / "elsewhere.py"
    own.write_text(BLIND.replace("return replace(", "return many(") + MANY)
    cluster.add("blind", BLIND="1")
    rows = ("run", "identity", "--dataset", "elsewhere", "--data", tmp_path, "--plugin", own, "--no-timing")
    more = ("--metric", "mse", "--previews", "0", "--scheduler-file", cluster.file)
    stopped = process(*rows, *more, "--wait", "20s", code=2)
    assert "worker blind is left out: it does not see the data, there is no such folder; add --send-data" in (
        stopped.stderr
    )
    process("run", "--resume", "latest", "--send-data", "--plugin", own, "--scheduler-file", cluster.file)
    assert outcomes(tmp_path / "results")["identity"][0] == "ok"


def test_a_worker_that_freezes_is_taken_for_gone_and_may_come_back(
    plugin: Plugin, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("benchbox.engine.cluster.dask_worker.Pulse.frozen_s", 15.0)
    workers = [cluster.add(name, "--no-nanny") for name in ("a", "b")]
    own = plugin("slow", "time.sleep(0.2)\nreturn np.clip(noisy, 0.1, 0.9)")

    def freeze() -> None:
        wait_for(lambda: len(list((tmp_path / "results").glob("*/scores/*/*.parquet"))) > 5)
        workers[1].send_signal(signal.SIGSTOP)

    freezer = threading.Thread(target=freeze)
    freezer.start()
    with distributed.Client(scheduler_file=str(cluster.file)) as client:
        client.wait_for_workers(2)
        options: dict[str, Any] = {"noise": "gaussian:0.1", "timing": False, "repeats": 40, "plugins": own}
        run = package.run("slow", engine=client, results=tmp_path / "results", **options)
        freezer.join()
        workers[1].send_signal(signal.SIGCONT)
        assert "worker b has not been heard of for 15 s, and is taken for gone" in capfd.readouterr().err
        assert [outcome.status for outcome in run.store.outcomes().values()] == ["ok"]
        assert wait_for(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == 2)


TELLS = """
timed = 'BENCHBOX_TIMING_TASK' in os.environ
open(f'{folder}/{{"timed" if timed else "scored"}}', 'w').close()
end = time.monotonic() + 60
while time.monotonic() < end and not os.path.exists('{folder}/go on' + ' timing' * timed): time.sleep(0.02)
return noisy
"""


def test_no_temporary_file_is_left_by_a_worker_that_ends_or_is_killed(
    process: Command, plugin: Plugin, cluster: Cluster, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    own = plugin("tells", TELLS.format(folder=tmp_path))
    worker = cluster.add("a", TMPDIR=str(scratch))
    asked = [sys.executable, "-m", "benchbox", "run", "tells", "--plugin", str(own), "--limit", "4"]
    asked += ["--previews", "0", "--scheduler-file", str(cluster.file), "--timing-on", "a", "--wait", "30s"]
    client = subprocess.Popen(asked, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def kill_worker() -> None:
        assert list(scratch.glob("benchbox-*"))
        psutil.Process(worker_pid(worker)).kill()  # its nanny starts another
        assert wait_for(lambda: not list(scratch.glob("benchbox-*")), 10), list(scratch.iterdir())

    assert wait_for((tmp_path / "scored").exists)
    kill_worker()
    (tmp_path / "go on").touch()
    assert wait_for((tmp_path / "timed").exists)
    kill_worker()
    (tmp_path / "go on timing").touch()
    said = client.communicate(timeout=60)[1]
    assert client.returncode == 2
    assert "--timing-on a: that worker is gone" in said
    process("run", "--resume", "latest", "--scheduler-file", cluster.file, "--timing-on", "a")
    assert wait_for(lambda: not list(scratch.glob("benchbox-*")), 30)
