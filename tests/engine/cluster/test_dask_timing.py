"""Denoisers are timed on the worker that is named, and nowhere else."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_clusters import Cluster, occupy, wait_for

import benchbox as package
from benchbox.api.errors import BenchboxError
from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.slow
SAYS = """
if 'BENCHBOX_TIMING_TASK' in os.environ:
    open({folder!r} + '/timed at ' + os.environ.get('SITE', 'home'), 'w').close()
return noisy
"""
KILLS_ITS_WORKER = """
import psutil
if "FATAL" in os.environ and "BENCHBOX_TIMING_TASK" in os.environ:
    psutil.Process().parent().parent().kill()
    time.sleep(60)
return noisy
"""
FAILS = "if 'BENCHBOX_TIMING_TASK' in os.environ: os._exit(9)\nreturn noisy"


def test_denoisers_are_timed_on_the_named_worker(
    process: Command, plugin: Callable[[str, str], Path], cluster: Cluster, tmp_path: Path
) -> None:
    files = [
        part
        for name, body in (("says", SAYS.format(folder=str(tmp_path))), ("fails", FAILS))
        for part in ("--plugin", plugin(name, body))
    ]
    cluster.add("first", SITE="first")
    cluster.add_elsewhere("second", "gpu-3", SITE="second")
    asked = ("run", "identity", "says", "fails", *files, "--limit", "20", "--previews", "0", "--fresh")
    process(*asked, "--scheduler-file", cluster.file, "--timing-on", "second", code=1)
    store = RunStore.open(find_run(tmp_path / "results"))
    assert store.record.options.timing_on == "second"
    timings = store.timings()
    assert [timing.status for timing in timings.values()] == ["ok", "ok", "died"]
    assert {timing.machine.partition(" (")[0] for timing in timings.values()} == {"gpu-3"}
    calibration = timings["identity"].calibration
    assert calibration is not None and calibration.time_ms > 0
    assert [file.name for file in tmp_path.glob("timed at *")] == ["timed at second"]
    shown = " ".join(process("leaderboard", "--verbose").stdout.split())
    assert "on gpu-3 (" in shown
    assert "not comparable" not in shown
    # A run goes on here, unless the cluster is named again.
    (store.folder / "timing" / f"{store.log_file('identity', 'timing').name.removesuffix('.timing.log')}.json").unlink()
    process("run", "--resume", store.record.run_id, code=1)
    timings = RunStore.open(store.folder).timings()
    assert timings["identity"].machine == ""
    assert timings["says"].machine
    shown = " ".join(process("leaderboard", "--verbose").stdout.split())
    assert "rows were timed on 2 machines. Their latencies are not comparable" in shown


def test_a_run_says_that_it_waits_for_the_worker_that_times(process: Command, cluster: Cluster, tmp_path: Path) -> None:
    asked = ["run", "identity", "--limit", "20", "--previews", "0", "--fresh", "--timing-budget", "100ms"]
    asked += ["--scheduler-file", str(cluster.file), "--timing-on", "gpu-3"]
    said = " ".join(process(*asked, "--wait", "1s", code=2).stderr.split())
    assert "waiting for worker gpu-3 of --timing-on, up to 1 s (--wait)" in said
    assert "the cluster has no worker of that name or address, and none came in 1 s (--wait)" in said
    assert said.count("start workers; then continue with: benchbox run --resume") == 1
    cluster.add("gpu-2")
    assert wait_for(lambda: "Registered to" in (cluster.folder / "worker-0.log").read_text())
    said = ""
    command = [sys.executable, "-m", "benchbox", *asked, "--wait", "60s"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as client:
        assert client.stderr is not None
        for line in client.stderr:
            said += line
            if "did you mean 'gpu-2'?" in line:
                cluster.add("gpu-3")
    assert client.returncode == 0, said
    (timing,) = RunStore.open(find_run(tmp_path / "results")).timings().values()
    assert timing.status == "ok"


def test_a_run_says_that_it_waits_for_other_tasks(cluster: Cluster, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    asked = ["run", "identity", "--limit", "20", "--previews", "0", "--fresh", "--timing-budget", "100ms"]
    asked += ["--scheduler-file", str(cluster.file), "--timing-on", "near"]
    free = {"near": tmp_path / "near is free", "beside": tmp_path / "beside is free"}
    for name in free:
        cluster.add(name)
    said = ""
    with distributed.Client(scheduler_file=str(cluster.file)) as other:
        other.wait_for_workers(2)
        busy = [occupy(other, name, file) for name, file in free.items()]
        command = [sys.executable, "-m", "benchbox", *asked, "--wait", "60s"]
        ignored = subprocess.DEVNULL
        with subprocess.Popen(command, cwd=tmp_path, stdout=ignored, stderr=subprocess.PIPE, text=True) as client:
            assert client.stderr is not None
            for line in client.stderr:
                said += line
                if "waiting for an answer of worker near" in line:
                    free["near"].touch()
                if "waiting for other tasks on the machine of worker near to end, up to 60 s (--wait)" in line:
                    free["beside"].touch()
        assert client.returncode == 0, said
        assert [task.result() for task in busy] == [0, 0]


def test_a_worker_that_freezes_while_it_times_is_taken_for_gone(
    process: Command,
    plugin: Callable[[str, str], Path],
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("benchbox.engine.cluster.dask_worker.Pulse.frozen_s", 5.0)
    worker = cluster.add("near", "--no-nanny")
    begun = str(tmp_path / "begun")
    once = f"if 'BENCHBOX_TIMING_TASK' in os.environ and not os.path.exists({begun!r}):"
    own = plugin("slow", f"{once}\n    open({begun!r}, 'w').close()\n    time.sleep(60)\nreturn noisy")

    def freeze() -> None:
        wait_for((tmp_path / "begun").exists, 120)
        worker.send_signal(signal.SIGSTOP)

    freezer = threading.Thread(target=freeze)
    freezer.start()
    with distributed.Client(scheduler_file=str(cluster.file)) as client:
        options: dict[str, Any] = {"plugins": own, "limit": 20, "previews": 0, "timing_on": "near"}
        with pytest.raises(BenchboxError, match="--timing-on near: that worker is gone"):
            package.run("slow", engine=client, results=tmp_path / "results", **options)
    freezer.join()
    worker.send_signal(signal.SIGCONT)
    process("run", "--resume", "latest", "--scheduler-file", cluster.file, "--timing-on", "near")
    (timing,) = RunStore.open(find_run(tmp_path / "results")).timings().values()
    assert timing.status == "ok"


def test_a_worker_on_the_host_of_the_client_is_the_same_machine(
    process: Command, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.add("near")
    asked = ("run", "identity", "--limit", "20", "--previews", "0", "--fresh", "--timing-budget", "100ms")
    process(*asked, "--scheduler-file", cluster.file, "--timing-on", "near")
    (timing,) = RunStore.open(find_run(tmp_path / "results")).timings().values()
    assert (timing.status, timing.machine) == ("ok", "")


def test_a_scheduler_that_goes_while_a_worker_times_stops_the_run(
    process: Command, plugin: Callable[[str, str], Path], cluster: Cluster, tmp_path: Path
) -> None:
    said = f"open({str(tmp_path / 'begun')!r}, 'w').close()\n    time.sleep(60)"
    own = plugin("slow", f"if 'BENCHBOX_TIMING_TASK' in os.environ:\n    {said}\nreturn noisy")
    cluster.add("near")

    def kill() -> None:
        wait_for(lambda: (tmp_path / "begun").exists(), 120)
        cluster.scheduler.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    asked = ("run", "slow", "--plugin", own, "--limit", "20", "--previews", "0", "--fresh")
    stopped = process(*asked, "--scheduler-file", cluster.file, "--timing-on", "near", code=2).stderr
    killer.join()
    assert "the connection to the scheduler is lost" in stopped
    assert "Traceback" not in stopped
    assert " ".join(stopped.split()).count("--resume") == 1


def test_a_run_whose_timing_stops_names_its_cluster_in_the_command_that_continues_it(
    process: Command, plugin: Callable[[str, str], Path], cluster: Cluster, tmp_path: Path
) -> None:
    """The worker dies while it times, and the command as printed times the rest on its successor."""
    own = plugin("deadly", KILLS_ITS_WORKER)
    cluster.add_elsewhere("near", "gpu-3", "--no-nanny", FATAL="1")
    asked = ("run", "identity", "deadly", "--plugin", own, "--limit", "20", "--previews", "0", "--fresh")
    said = process(*asked, "--scheduler-file", cluster.file, "--timing-on", "near", "--wait", "20s", code=2).stderr
    assert "--timing-on near: that worker is gone" in said
    said = " ".join(said.split())
    assert said.count("--resume") == 1
    store = RunStore.open(find_run(tmp_path / "results"))
    same = ("--scheduler-file", str(cluster.file), "--wait", "20s", "--timing-on", "near")
    command = shlex.join(["benchbox", "run", "--resume", store.record.run_id, *same])
    assert f"then continue with: {command}" in said
    cluster.kill("near")  # what is left of it
    cluster.add_elsewhere("near", "gpu-3")
    process(*shlex.split(command)[1:])
    assert {timing.machine.partition(" (")[0] for timing in store.timings().values()} == {"gpu-3"}
