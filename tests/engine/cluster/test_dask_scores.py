"""A run on a Dask cluster has the scores of a local one to the bit, whatever happens to its workers."""

from __future__ import annotations

import importlib.util
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from made_clusters import SLOW, Cluster, bytes_of, occupy, wait_for, worker_pid

import benchbox as package
from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.slow
ROWS = ("median:size=3", "wiener", "dct", "--noise", "gaussian:0.1", "--noise", "poisson:30", "--repeats", "4")


def run(command: Command, results: str, *arguments: str | Path, **more: Any) -> RunStore:
    command("run", *arguments, "--no-timing", "--fresh", "--previews", "1", "--results", results, **more)
    return RunStore.open(find_run(Path(results)))


@pytest.fixture
def at(tmp_path: Path) -> Callable[[str], str]:
    return lambda name: str(tmp_path / name)


def test_scores_are_those_of_a_local_run_to_the_bit(
    process: Command, plugin: Callable[[str, str], Path], at: Callable[[str], str]
) -> None:
    pytest.importorskip("distributed")
    own = plugin("halved", "return noisy / 2")
    rows = (*ROWS, "halved", "--plugin", own)
    local = bytes_of(run(process, at("local"), *rows))
    assert len(local) == 8
    for workers in ("1", "3"):
        assert bytes_of(run(process, at(f"dask-{workers}"), *rows, "--engine", "dask", "--jobs", workers)) == local


def test_a_client_scores_the_same_and_stays_open(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    arguments: dict[str, Any] = {"noise": "gaussian:0.1", "timing": False, "progress": False, "repeats": 5}
    local = package.run(["median", "wiener"], results=tmp_path / "local", **arguments)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        distant = package.run(["median", "wiener"], results=tmp_path / "dask", engine=client, **arguments)
        assert client.status == "running"
        assert not client.futures
        with pytest.raises(package.BenchboxError, match="a scheduler is named, too"):
            package.run("median", engine=client, scheduler="tcp://127.0.0.1:8786")
    assert bytes_of(distant.store) == bytes_of(local.store)
    store = distant.store
    shards = [(cell.key, *shard) for cell in store.record.cells for shard in store.finished_shards(cell.key)]
    assert len(shards) == 10
    (machine,) = store.machines().machines
    assert {store.machine_of(*shard) for shard in shards} == {machine}


def test_workers_killed_at_30_random_moments_change_nothing(
    process: Command, plugin: Callable[[str, str], Path], at: Callable[[str], str], cluster: Cluster, tmp_path: Path
) -> None:
    done = tmp_path / "done"  # until then, a shard takes a second, so that the run outlasts the killing
    slow = f"""
from pathlib import Path
end = time.monotonic() + 1
while time.monotonic() < end and not Path({str(done)!r}).exists(): time.sleep(0.05)
return np.clip(noisy, 0.1, 0.9)
"""
    own = plugin("slow", slow)
    rows = ("median", "slow", "--noise", "gaussian:0.1", "--repeats", "300", "--plugin", own)
    for name in "abcd":
        cluster.add(name)
    chance, killed, ended = random.Random(0), [0] * 4, threading.Event()

    def kill() -> None:
        while sum(killed) < 30 and not ended.wait(chance.uniform(0.1, 1.0)):
            place = chance.randrange(4)
            log = (cluster.folder / f"worker-{place}.log").read_text()
            victim = worker_pid(cluster.workers["abcd"[place]])
            # Not the nanny, nor a worker that has not started, after whose death a nanny gives up.
            if log.count("Registered to:") > killed[place] and victim != cluster.workers["abcd"[place]].pid:
                psutil.Process(victim).send_signal(signal.SIGKILL)
                killed[place] += 1
        done.touch()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        distant = run(process, at("dask"), *rows, "--scheduler-file", cluster.file)
    finally:
        ended.set()
        killer.join()
    print(f"{sum(killed)} workers were killed")
    assert sum(killed) == 30
    assert bytes_of(distant) == bytes_of(run(process, at("local"), *rows))


def test_with_no_worker_left_the_run_waits_stops_and_resumes_locally(
    process: Command, plugin: Callable[[str, str], Path], at: Callable[[str], str], cluster: Cluster
) -> None:
    own = plugin("slow", SLOW)
    rows = ("slow", "--noise", "gaussian:0.1", "--repeats", "60", "--plugin", own)
    cluster.add("only")

    def kill() -> None:
        scores = Path(at("dask"))
        wait_for(lambda: len(list(scores.glob("*/scores/*/*.parquet"))) > 5)
        cluster.kill("only")

    threading.Thread(target=kill).start()
    command = ("run", *rows, "--no-timing", "--fresh", "--results", at("dask"))
    stopped = process(*command, "--scheduler-file", cluster.file, "--wait", "3s", code=2)
    assert "no worker of the cluster could be used for 3 s" in stopped.stderr
    assert "--resume" in stopped.stderr
    store = RunStore.open(find_run(Path(at("dask"))))
    done = len(store.finished_shards(store.record.cells[0].key))
    assert 5 < done < 60
    process("run", "--resume", store.record.run_id, "--results", at("dask"))
    assert bytes_of(store) == bytes_of(run(process, at("local"), *rows))


def test_a_run_says_that_it_waits_for_workers_that_are_busy(cluster: Cluster, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    free = tmp_path / "free"
    cluster.add("only")
    command = [sys.executable, "-m", "benchbox", "run", "identity", "--limit", "20", "--previews", "0", "--no-timing"]
    command += ["--scheduler-file", str(cluster.file), "--wait", "1s"]  # for one that could answer
    with distributed.Client(scheduler_file=str(cluster.file)) as other:
        other.wait_for_workers(1)
        busy = occupy(other, "only", free)
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as client:
            assert client.stderr is not None
            for line in client.stderr:
                if b"waiting for an answer of the workers, which may be busy with other tasks" in line:
                    free.touch()
        assert client.returncode == 0
        assert busy.result() == 0


def test_when_the_scheduler_is_gone_the_run_stops_and_resumes_on_another_cluster(
    process: Command, plugin: Callable[[str, str], Path], at: Callable[[str], str], cluster: Cluster, tmp_path: Path
) -> None:
    own = plugin("slow", SLOW)
    rows = ("slow", "--noise", "gaussian:0.1", "--repeats", "60", "--plugin", own)
    cluster.add("a")

    def kill() -> None:
        wait_for(lambda: len(list(Path(at("dask")).glob("*/scores/*/*.parquet"))) > 5)
        cluster.scheduler.kill()

    threading.Thread(target=kill).start()
    command = ("run", *rows, "--no-timing", "--fresh", "--results", at("dask"))
    stopped = process(*command, "--scheduler-file", cluster.file, code=2)
    assert "the connection to the scheduler is lost" in stopped.stderr
    assert "--resume" in stopped.stderr
    store = RunStore.open(find_run(Path(at("dask"))))
    other = Cluster(tmp_path / "other")
    try:
        other.add("b")
        resumed = ("run", "--resume", store.record.run_id, "--results", at("dask"))
        process(*resumed, "--scheduler-file", other.file)
    finally:
        other.end()
    assert bytes_of(store) == bytes_of(run(process, at("local"), *rows))


def test_a_connection_that_breaks_for_a_moment_costs_nothing(
    tmp_path: Path, plugin: Callable[[str, str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """The scheduler forgets all tasks of a client whose connection breaks; nothing is wrong with the workers."""
    distributed = pytest.importorskip("distributed")
    own = plugin("slow", SLOW)
    arguments: dict[str, Any] = {"noise": "gaussian:0.1", "timing": False, "repeats": 30, "plugins": own}
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):

        async def break_while_asked(**asked: object) -> None:
            del client.scheduler.gather
            client.scheduler_comm.comm.abort()
            raise distributed.comm.CommClosedError("in <TCP (closed)>: Stream is closed")

        def cut() -> None:
            wait_for(lambda: len(list((tmp_path / "dask").glob("*/scores/*/*.parquet"))) > 5)
            client.loop.add_callback(client.scheduler_comm.comm.abort)
            wait_for(lambda: len(list((tmp_path / "dask").glob("*/scores/*/*.parquet"))) > 15)
            client.scheduler.gather = break_while_asked

        cutter = threading.Thread(target=cut)
        cutter.start()
        distant = package.run("slow", results=tmp_path / "dask", engine=client, **arguments)
        cutter.join()
        assert "gather" not in vars(client.scheduler)
    said = capfd.readouterr().err
    assert "left out" not in said
    assert ("dashboard of the cluster" in said) == (importlib.util.find_spec("bokeh") is not None)
    local = package.run("slow", results=tmp_path / "local", progress=False, **arguments)
    assert bytes_of(distant.store) == bytes_of(local.store)


def test_an_adaptive_cluster_grows_with_what_waits(tmp_path: Path, plugin: Callable[[str, str], Path]) -> None:
    distributed = pytest.importorskip("distributed")
    own = plugin("slow", SLOW)
    arguments: dict[str, Any] = {"noise": "gaussian:0.1", "timing": False, "progress": False, "repeats": 60}
    most = [0]
    with (
        distributed.LocalCluster(
            n_workers=0, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        cluster.adapt(minimum=0, maximum=3, interval="200ms")
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.1):
                most[0] = max(most[0], len(cluster.scheduler_info["workers"]))

        watcher = threading.Thread(target=watch)
        watcher.start()
        distant = package.run("slow", results=tmp_path / "dask", plugins=own, engine=client, **arguments)
        ended.set()
        watcher.join()
    local = package.run("slow", results=tmp_path / "local", plugins=own, **arguments)
    assert bytes_of(distant.store) == bytes_of(local.store)
    assert most[0] >= 2


MEETS = """
from pathlib import Path
elsewhere = os.environ.get("PRETENDED_HOST") == "gpu-3"
Path({folder!r}, str(elsewhere)).touch()
end = time.monotonic() + 60  # until both hosts are at work
while time.monotonic() < end and len(list(Path({folder!r}).iterdir())) < 2: time.sleep(0.05)
return noisy + np.float32({apart} * elsewhere)
"""


def test_two_machines_that_compute_alike_or_not_are_said(
    process: Command, plugin: Callable[[str, str], Path], at: Callable[[str], str], cluster: Cluster
) -> None:
    """Each host has its own canary; what differs, and by how much, is what two local runs differ by."""
    files = {}
    for name, apart in (("alike", 0), ("unlike", 2**-10)):
        Path(at(f"hosts-{name}")).mkdir()
        files[name] = plugin(name, MEETS.format(folder=at(f"hosts-{name}"), apart=apart))
    cluster.add("near")
    cluster.add_elsewhere("far", "gpu-3")
    rows = ("--noise", "gaussian:0.1", "--repeats", "6", "--scheduler-file", cluster.file)
    alike = run(process, at("alike"), "alike", *rows, "--plugin", files["alike"])
    (canary,) = alike.machines().canaries
    assert (canary.differences, canary.failure) == ({}, "")
    here, there = canary.machines
    assert {alike.machines().machines[key].name for key in (here, there)} == {socket.gethostname(), "gpu-3"}
    assert "1 shard scored twice, with bit-identical results" in notes(process, at("alike"))

    unlike = run(process, at("unlike"), "unlike", *rows, "--plugin", files["unlike"])
    (canary,) = unlike.machines().canaries
    assert {unlike.machines().machines[key].name for key in canary.machines} == {socket.gethostname(), "gpu-3"}
    near, far = (
        run(process, at(host), "unlike", *rows[:4], "--plugin", files["unlike"], PRETENDED_HOST=host).shard(
            canary.cell, canary.start, canary.stop
        )
        for host in ("here", "gpu-3")
    )
    widest = {name: float(np.abs(values.astype(np.float64) - far[name]).max()) for name, values in near.items()}
    assert canary.differences == {name: width for name, width in widest.items() if width > 0}
    assert canary.differences["psnr"] > 0
    said = notes(process, at("unlike"))
    assert "of 1 shard scored twice, 1 differs (" in said
    assert f"psnr by up to {canary.differences['psnr']:.2g}" in said


def notes(command: Command, results: str) -> str:
    return " ".join(command("leaderboard", "--results", results, "--verbose").stdout.split())
