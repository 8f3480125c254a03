"""The work loop: a worker never waits for the disk, and what it has done is kept whatever happens next."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

import pytest

from benchbox import BenchboxError
from benchbox.engine.plan import Limits
from benchbox.engine.work_loop import WorkLoop, WorkQueue
from benchbox.engine.workers import worker_context
from benchbox.records.run import Failure

PATIENCE_S = 60.0


def begin(path: str) -> str:
    """In a worker: leave a trace of having begun."""
    Path(path).touch()
    if "broken" in path:
        raise ValueError(path)
    return path


def queue_of(folder: Path, *names: str) -> WorkQueue[str]:
    return WorkQueue("some", folder / "some.log", deque(str(folder / name) for name in names))


def is_there(path: Path) -> bool:
    end = time.monotonic() + PATIENCE_S
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return path.exists()


def test_a_worker_goes_on_while_its_last_result_is_written(tmp_path: Path) -> None:
    overlapped: dict[str, bool] = {}

    def keep(task: str, result: str | Failure) -> None:
        name = Path(task).name
        overlapped[name] = name == "c" or is_there(tmp_path / ("b" if name == "a" else "c"))

    loop = WorkLoop(begin, lambda task: task, keep, what="a task", limits=Limits())
    loop.run(worker_context(), [queue_of(tmp_path, "a", "b", "c")], 1)
    assert overlapped == {"a": True, "b": True, "c": True}


def test_what_a_failure_leaves_unwanted_is_not_begun(tmp_path: Path) -> None:
    kept: dict[str, str | Failure] = {}
    loop = WorkLoop(
        begin,
        lambda task: task,
        lambda task, result: kept.update({Path(task).name: result}),
        what="a task",
        limits=Limits(),
        is_wanted=lambda task: "broken" not in kept,
    )
    loop.run(worker_context(), [queue_of(tmp_path, "a", "broken", "c")], 1)
    assert list(kept) == ["a", "broken"]
    assert isinstance(kept["broken"], Failure)
    assert not (tmp_path / "c").exists()


def test_a_result_that_cannot_be_written_stops_the_loop(tmp_path: Path) -> None:
    def keep(task: str, result: str | Failure) -> None:
        raise BenchboxError("the disk is full")

    names = [f"{number}" for number in range(20)]
    loop = WorkLoop(begin, lambda task: task, keep, what="a task", limits=Limits())
    with pytest.raises(BenchboxError, match="the disk is full"):
        loop.run(worker_context(), [queue_of(tmp_path, *names)], 1)
    assert not (tmp_path / names[-1]).exists()
