"""What travels in a cluster is checked, plugin files are placed by digest, and machines are compared bit by bit."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchbox.api.errors import BenchboxError
from benchbox.engine.cluster.canaries import Canaries, First
from benchbox.engine.cluster.parcels import (
    Answer,
    Welcome,
    digest_of,
    pack,
    pack_images,
    place_files,
    placed,
    unpack,
    unpack_images,
)
from benchbox.engine.engines import LocalEngine, ShardWork, engine_from, engine_of
from benchbox.engine.plan import Shard
from benchbox.engine.run import make_conditions
from benchbox.engine.shard import ShardScores, ShardTask, compute_shard
from benchbox.records.machines import Canary, Machine
from benchbox.records.options import RunOptions
from benchbox.records.run import Failure, Provider
from benchbox.registry import load_registry
from benchbox.store import IMAGE, RunStore

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def store(run_once: Path) -> RunStore:
    return RunStore.open(next(run_once.iterdir()))


@pytest.fixture(scope="module")
def task(store: RunStore) -> ShardTask:
    condition = next(iter(make_conditions(store.record, load_registry()).values()))
    metrics = tuple(metric.plugin for metric in store.record.metrics[:2])
    return ShardTask(store.record.denoisers[0].plugin, condition, metrics, np.arange(3, dtype=np.intp), keep="float32")


@pytest.fixture(scope="module")
def scores(task: ShardTask) -> ShardScores:
    return compute_shard(task)


def test_scores_travel_to_the_bit(task: ShardTask, scores: ShardScores) -> None:
    again = unpack(Answer, pack(Answer.of(scores, "printed"))).result(task, (48, 48))
    assert isinstance(again, ShardScores)
    assert again.columns.keys() == scores.columns.keys()
    for name, values in scores.columns.items():
        assert again.columns[name].dtype == values.dtype
        assert again.columns[name].tobytes() == values.tobytes()
    assert scores.denoised is not None and again.denoised is not None
    assert again.denoised.tobytes() == scores.denoised.tobytes()


def test_images_that_were_sent_give_the_same_scores(task: ShardTask, scores: ShardScores) -> None:
    content = pack_images(task.condition, Shard(0, 3, task.indices, (48, 48)))
    nowhere = replace(
        task.condition, fingerprint="of no data", options=replace(task.condition.options, data="/nowhere")
    )
    again = compute_shard(replace(task, condition=nowhere, sent=unpack_images(content)))
    assert {name: values.tobytes() for name, values in again.columns.items()} == {
        name: values.tobytes() for name, values in scores.columns.items()
    }


def test_an_answer_that_is_not_of_the_shard_is_refused(task: ShardTask, scores: ShardScores) -> None:
    answer = Answer.of(scores)
    for wrong, words in (
        (Answer.of(replace(scores, columns=scores.columns | {IMAGE: np.array([0, 1, 9], np.int32)})), "not of these"),
        (Answer.of(replace(scores, columns=scores.columns | {"repeat": np.full(3, 7, np.int32)})), "not of these"),
        (Answer.of(replace(scores, columns={IMAGE: scores.columns[IMAGE]})), "missing"),
        (replace(answer, table=answer.table[:-9]), None),
        (replace(answer, denoised=b""), None),
        (replace(answer, denoised=Answer.of(replace(scores, denoised=scores.denoised[:2])).denoised), "shape"),  # type: ignore[index]
        (replace(answer, noise_level=""), "noise level"),
    ):
        with pytest.raises((ValueError, EOFError), match=words):
            wrong.result(task, (48, 48))
    with pytest.raises(ValueError, match="unknown field"):
        unpack(Answer, pack(answer).replace(b"failure", b"fail_re"))
    with pytest.raises(ValueError, match="reason"):
        unpack(Welcome, pack({"reason": 3}))


def test_plugin_files_are_placed_by_digest_and_nowhere_else(tmp_path: Path) -> None:
    sources = [("mine.py", b"import beside"), ("beside.py", b"VALUE = 1")]
    digest = digest_of(content for _, content in sources)
    place_files({digest: sources}, tmp_path)
    provider = Provider("file", "/home/user/mine.py", version=digest)
    assert Path(placed(provider, tmp_path).target).read_bytes() == b"import beside"
    assert placed((provider, 3), tmp_path)[1] == 3
    with pytest.raises(BenchboxError, match="digest"):
        place_files({digest: [("mine.py", b"other")]}, tmp_path)
    for name in ("../out.py", "/tmp/out.py"):
        with pytest.raises(BenchboxError, match="is called"):
            place_files({digest_of([b"x"]): [(name, b"x")]}, tmp_path / "inner")
    assert not (tmp_path / "out.py").exists()


class Place:
    def __init__(self, address: str, machine: Machine) -> None:
        self.address = address
        self.machine: Machine | None = machine


def test_every_machine_computes_the_first_shard_and_differences_are_said(
    store: RunStore, task: ShardTask, scores: ShardScores
) -> None:
    found: list[Canary] = []
    canaries = Canaries([], found.append)
    first, second = (Machine(name, store.record.environment) for name in ("first", "second"))
    places = [Place("tcp://1", first), Place("tcp://2", first), Place("tcp://3", second)]
    shard = ShardWork(store.record.cells[0], task.denoiser, Shard(0, 3, task.indices, (48, 48)))
    assert canaries.next(places) is None
    canaries.see(First(shard, "tcp://1", first, scores.columns))
    chosen = canaries.next(places)
    assert chosen is not None and chosen[0] is places[2]
    assert canaries.next(places) is None
    canaries.compare(chosen[1], second, scores)
    changed = scores.columns | {"noisy_mse": scores.columns["noisy_mse"] + np.float64(1e-9)}
    canaries.compare(chosen[1], second, replace(scores, columns=changed))
    canaries.compare(chosen[1], second, Failure("died", "its process ended"))
    assert [canary.machines for canary in found] == [(first.key, second.key)] * 3
    assert found[0].differences == {} and found[0].failure == ""
    assert list(found[1].differences) == ["noisy_mse"]
    assert found[1].differences["noisy_mse"] == pytest.approx(1e-9, rel=1e-3)
    assert found[2].failure == "its process ended"
    canaries.put_back(chosen[1], second)  # the worker has died: again
    assert canaries.next(places) is not None


def test_a_random_denoiser_is_not_compared_with_itself(store: RunStore, task: ShardTask, scores: ShardScores) -> None:
    canaries = Canaries([task.denoiser.spec], lambda canary: None)
    machine = Machine("first", store.record.environment)
    shard = ShardWork(store.record.cells[0], task.denoiser, Shard(0, 3, task.indices, (48, 48)))
    canaries.see(First(shard, "tcp://1", machine, scores.columns))
    assert canaries.next([Place("tcp://2", Machine("second", store.record.environment))]) is None


def test_engines_are_found_by_name_and_by_object() -> None:
    assert isinstance(engine_of(RunOptions()), LocalEngine)
    with pytest.raises(BenchboxError, match="unknown engine 'slurm'"):
        engine_of(RunOptions(engine="slurm"))
    with pytest.raises(BenchboxError, match="is not an engine"):
        engine_from(object())
    assert RunOptions(scheduler="tcp://a:1").engine_name == "dask"


def test_a_run_goes_on_locally_whatever_scheduler_its_folder_names(benchbox: Command, finished_run: Path) -> None:
    file = finished_run / "run.json"
    file.write_text(file.read_text().replace('"scheduler": ""', '"scheduler": "tcp://192.0.2.1:8786"'))
    for outcome in (finished_run / "outcomes").iterdir():
        outcome.unlink()
    result = benchbox("run", "--resume", finished_run.name)
    assert "192.0.2.1" not in result.stderr


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("tcp://127.0.0.1:8786", False),
        ("tcp://localhost:8786", False),
        ("tcp://10.0.0.7:8786", True),
        ("tcp://cluster.example:8786", True),
        ("tcp://[::1]:8786", False),
        ("tls://10.0.0.7:8786", False),
        ("inproc://10.0.0.7/1", False),
    ],
)
def test_a_scheduler_that_others_can_reach_without_encryption_is_said(address: str, is_open: bool) -> None:
    pytest.importorskip("distributed")
    from benchbox.engine.cluster.dask_engine import is_open_to_others

    assert is_open_to_others(address) == is_open


def test_a_scheduler_file_that_is_missing_is_an_error_at_once(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    engine = engine_of(RunOptions(scheduler_file=str(tmp_path / "none.json")))
    with pytest.raises(BenchboxError, match="no such file"), engine:
        pass
