"""How many shards a second one client hands to a Dask cluster, with workers that do nothing."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.engine.environment import environment
from benchbox.engine.plan import Limits, make_shards
from benchbox.engine.run import execute
from benchbox.engine.shard import ShardScores
from benchbox.engine.work_loop import WorkQueue
from benchbox.records.machines import Machine
from benchbox.records.options import RunOptions
from benchbox.store import IMAGE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("workers", [2, 8, 32])
def test_shards_a_second(workers: int, measured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    if workers > 2 and not measured:
        pytest.skip("shows no more than two workers do; 'just bench' measures it")
    shards = 2000 if measured else 100
    from benchbox.engine.cluster import dispatch
    from benchbox.engine.cluster.parcels import Answer, Welcome, pack

    options = RunOptions(denoisers=("identity",), timing=False, results=str(tmp_path), previews=0, repeats=2)
    made = execute(options, lambda event: None)
    cell = made.record.cells[0]
    columns = made.scores(cell.key)
    once = {name: values[columns["repeat"] == 0] for name, values in columns.items()}
    answer = pack(Answer.of(ShardScores(once, "blind")))
    welcome = pack(Welcome("", Machine.here(replace(environment(), load=0.0))))
    monkeypatch.setattr(dispatch, "CALL", f"{welcome!r} if kind == 'visit' else {answer!r}")
    scoring = Many(made, once, shards)
    with (
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(workers)
        begun, used = time.perf_counter(), time.process_time()
        dispatch.Dispatch(client, scoring, options).run("")
        seconds, cpu_s = time.perf_counter() - begun, time.process_time() - used
    assert scoring.kept == shards
    print(f"\n{workers} workers that do nothing, load {os.getloadavg()[0]:.1f}:")
    for rate, what in ((shards / seconds, "here"), (shards / cpu_s, "by the client's CPU time")):
        busy = ", ".join(f"{rate * shard_s:,.0f} threads at {shard_s:g} s a shard" for shard_s in (0.3, 1, 5))
        print(f"{rate:,.0f} shards a second {what}; keeps busy {busy}")


class Many:
    """A quality pass of equal shards that stores nothing."""

    def __init__(self, store: Any, columns: dict[str, np.ndarray[Any, Any]], shards: int) -> None:
        self.kept = 0
        self.limits = Limits()
        self.record = replace(
            store.record, denoisers=tuple(replace(row, deterministic=False) for row in store.record.denoisers)
        )
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

    def keep(self, work: Any, result: Any, machine: Any = None) -> None:
        assert isinstance(result, ShardScores)
        self.kept += 1

    def compare(self, canary: Any) -> None:
        raise AssertionError

    def report_worker(self, queue: Any) -> None:
        pass

    def report(self, event: Any) -> None:
        pass
