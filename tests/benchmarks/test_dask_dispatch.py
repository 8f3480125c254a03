"""How many shards a second one client hands to the workers of a Dask cluster that do nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from made_clusters import Cluster

from benchbox.engine.environment import environment
from benchbox.engine.plan import Limits, make_shards
from benchbox.engine.run import execute
from benchbox.engine.shard import ShardScores
from benchbox.engine.work_loop import WorkQueue
from benchbox.records.machines import Machine
from benchbox.records.options import RunOptions
from benchbox.store import IMAGE

pytestmark = pytest.mark.slow

WORKERS = """
import asyncio, sys
from distributed import Worker

async def main():
    made = [Worker(scheduler_file=sys.argv[1], nthreads=1, host="127.0.0.1", dashboard=False) for _ in range({count})]
    await asyncio.gather(*made)
    await asyncio.gather(*(worker.finished() for worker in made))

asyncio.run(main())
"""
"""Real workers, as threads of one process: on a few cores, 32 processes would compete with the client."""


@pytest.mark.parametrize("workers", [2, 8, 32])
def test_shards_a_second(workers: int, measured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler is a process of its own, as on a cluster; whoever needs most for a shard limits the rate."""
    distributed = pytest.importorskip("distributed")
    if workers > 2 and not measured:
        pytest.skip("shows no more than two workers do; 'just bench' measures it")
    shards = 1000 if measured else 100
    from benchbox.engine.cluster import dask_worker, dispatch
    from benchbox.engine.cluster.parcels import Answer, Welcome, pack

    options = RunOptions(denoisers=("identity",), timing=False, results=str(tmp_path), previews=0, repeats=2)
    made = execute(options, lambda event: None)
    cell = made.record.cells[0]
    columns = made.scores(cell.key)
    once = {name: values[columns["repeat"] == 0] for name, values in columns.items()}
    answer = pack(Answer.of(ShardScores(once, "blind")))
    welcome = pack(Welcome("", Machine.here(replace(environment(), load=0.0))))
    monkeypatch.setattr(dask_worker, "CALL", f"{welcome!r} if kind == 'visit' else {answer!r}")
    scoring = Many(made, once, shards)
    cluster = Cluster(tmp_path / "cluster")
    script = WORKERS.format(count=workers)
    try:
        cluster.workers["all"] = subprocess.Popen(
            [sys.executable, "-c", script, str(cluster.file)], stderr=subprocess.DEVNULL
        )
        with distributed.Client(scheduler_file=str(cluster.file)) as client:
            client.wait_for_workers(workers, timeout=300)
            processes = {
                "the client": psutil.Process(),
                "the scheduler": psutil.Process(cluster.scheduler.pid),
                "all workers": psutil.Process(cluster.workers["all"].pid),
            }
            used = {name: _cpu_s(process) for name, process in processes.items()}
            begun = time.perf_counter()
            dispatch.Dispatch(client, scoring, options).run("")
            seconds = time.perf_counter() - begun
            used = {name: _cpu_s(process) - used[name] for name, process in processes.items()}
    finally:
        cluster.end()
    assert scoring.kept == shards
    load = os.getloadavg()[0]
    print(f"\n{workers} workers that do nothing, load {load:.1f}: {shards / seconds:,.0f} shards a second")
    for name, cpu_s in used.items():
        rate = shards / max(cpu_s, 1e-9)
        busy = ", ".join(f"{rate * shard_s:,.0f} threads at {shard_s:g} s a shard" for shard_s in (0.3, 1, 5))
        print(f"  {name}: {1000 * cpu_s / shards:.2f} ms of CPU time a shard, {rate:,.0f} a second; keeps busy {busy}")


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class Many:
    """A quality pass of equal shards, each of which is written like those of a run."""

    def __init__(self, store: Any, columns: dict[str, np.ndarray[Any, Any]], shards: int) -> None:
        self.kept = 0
        self.limits = Limits()
        self.record = replace(
            store.record, denoisers=tuple(replace(row, deterministic=False) for row in store.record.denoisers)
        )
        self._store = store
        images = store.images()
        shapes = np.column_stack([images["height"], images["width"]]).astype(np.int64)
        (shard,) = make_shards(shapes)
        assert np.array_equal(shard.indices, columns[IMAGE])
        from benchbox.engine.engines import ShardWork
        from benchbox.engine.run import make_conditions
        from benchbox.registry import load_registry

        (self._condition,) = make_conditions(self.record, load_registry()).values()
        cell, row = self.record.cells[0], self.record.denoisers[0]
        works = deque(ShardWork(cell, row.plugin, shard) for _ in range(shards))
        self.queues = [WorkQueue(row.label, Path("/dev/null"), works)]

    def task(self, work: Any) -> Any:
        from benchbox.engine.shard import ShardTask

        metrics = tuple(metric.plugin for metric in self.record.metrics)
        return ShardTask(work.denoiser, self._condition, metrics, work.shard.indices, work.shard.repeat)

    def is_wanted(self, work: Any) -> bool:
        return True

    def keep(self, work: Any, result: Any, machine: Machine | None = None) -> None:
        assert isinstance(result, ShardScores) and machine is not None
        count = len(work.shard.indices)
        start = (10 + self.kept) * count
        self._store.write_shard(work.cell.key, start, start + count, result.columns, machine=machine.key)
        self.kept += 1

    def compare(self, canary: Any) -> None:
        raise AssertionError

    def report_worker(self, queue: Any) -> None:
        pass

    def report(self, event: Any) -> None:
        pass
