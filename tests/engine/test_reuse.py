"""What an earlier run has computed is not computed again, unless something that it depends on has changed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchbox.engine import environment
from benchbox.engine.environment import code_of, package_digest
from benchbox.engine.plan import plan_denoisers
from benchbox.engine.reuse import reuse_cells
from benchbox.records.run import DenoiserRecord, Provider
from benchbox.registry import load_registry
from benchbox.store import RunStore, list_runs

Command = Callable[..., subprocess.CompletedProcess[str]]
Plugin = Callable[[str, str], Path]

SAME = ("identity", "median", "wiener", "--noise", "gaussian:0.1", "--noise", "poisson:30", "--no-timing")
"""What `finished_run` was asked for."""


def newest(tmp_path: Path) -> RunStore:
    return RunStore.open(list_runs(tmp_path / "results")[-1])


def said(result: subprocess.CompletedProcess[str]) -> str:
    return next((line for line in result.stderr.splitlines() if line.startswith("reused")), "")


def tables(folder: Path) -> dict[str, dict[str, bytes]]:
    store = RunStore.open(folder)
    return {
        cell.key: {name: values.tobytes() for name, values in store.scores(cell.key).items()}
        for cell in store.record.cells
    }


@pytest.mark.slow
def test_the_same_command_again_computes_nothing(benchbox: Command, finished_run: Path, tmp_path: Path) -> None:
    again = benchbox("run", *SAME)
    assert said(again) == f"reused 6 of 6 cells of run {finished_run.name} (--fresh computes them anew)"
    store = newest(tmp_path)
    assert store.folder != finished_run
    assert tables(store.folder) == tables(finished_run)
    assert {outcome.reused for outcome in store.outcomes().values()} == {finished_run.name}
    kept = {file.relative_to(finished_run).as_posix() for file in finished_run.rglob("*.parquet")}
    names = {file.relative_to(store.folder).as_posix() for file in store.folder.rglob("*.parquet")}
    assert {name for name in names if "scores" not in name} == {name for name in kept if "scores" not in name}
    assert not list(store.folder.glob("logs/*.quality.log"))
    # The new folder is whole by itself: without the old one, it is resumed, replayed and shown.
    shutil.rmtree(finished_run)
    board = benchbox("leaderboard", store.folder).stdout
    assert benchbox("run", "--resume", store.folder).stdout == board
    assert "6 of 6 cells bit-identical" in benchbox("replay", store.folder).stdout


@pytest.mark.slow
def test_only_what_is_new_is_computed(benchbox: Command, finished_run: Path, tmp_path: Path) -> None:
    more = benchbox("run", "median", "gaussian_blur", "identity", "--noise", "poisson:30", "--no-timing")
    assert said(more).startswith(f"reused 2 of 3 cells of run {finished_run.name}")
    store = newest(tmp_path)
    assert [log.name.partition("-")[0] for log in store.folder.glob("logs/*.quality.log")] == ["gaussian_blur"]
    fresh = benchbox("run", "median", "gaussian_blur", "identity", "--noise", "poisson:30", "--no-timing", "--fresh")
    assert not said(fresh)
    assert tables(newest(tmp_path).folder) == tables(store.folder)
    assert {outcome.reused for outcome in newest(tmp_path).outcomes().values()} == {""}
    # From two runs, each row from the newest that has it; a copy says where it was computed.
    both = benchbox("run", *SAME[:3], "gaussian_blur", "--noise", "poisson:30", "--no-timing")
    assert re.match(r"reused 4 of 4 cells of 2 runs, the newest \S+ ", said(both))
    assert newest(tmp_path).outcomes()[store.record.cells[1].key].reused == fresh_id(tmp_path)


def fresh_id(tmp_path: Path) -> str:
    return list_runs(tmp_path / "results")[-2].name


@pytest.mark.slow
@pytest.mark.parametrize("change", [("--seed", "1"), ("--metric", "psnr")])
def test_another_question_is_answered_anew(
    change: tuple[str, ...], benchbox: Command, finished_run: Path, tmp_path: Path
) -> None:
    assert not said(benchbox("run", "identity", "--no-timing", "--noise", "gaussian:0.1", "--previews", "0", *change))


@pytest.mark.slow
def test_a_plugin_file_is_always_computed(benchbox: Command, plugin: Plugin, tmp_path: Path) -> None:
    file = plugin("own", "return noisy")
    arguments = ("run", "own", "identity", "--plugin", file, "--no-timing", "--previews", "0", "--limit", "8")
    benchbox(*arguments)
    assert said(benchbox(*arguments)).startswith("reused 1 of 2 cells")
    assert [cell.code == "" for cell in newest(tmp_path).record.cells] == [True, False]


@pytest.mark.slow
def test_latencies_are_reused_if_they_were_measured_alike(benchbox: Command, tmp_path: Path) -> None:
    arguments = ("run", "identity", "median", "--limit", "8", "--previews", "0")
    benchbox(*arguments)
    first = newest(tmp_path)
    idle(first, 0.1)
    again = benchbox(*arguments)
    assert said(again).startswith(f"reused 2 of 2 cells and 2 latencies of run {first.record.run_id}")
    assert f"2 of 2 measured in {first.record.run_id}" in benchbox("leaderboard", "--verbose").stdout
    second = newest(tmp_path)
    assert {name: timing.samples_ms for name, timing in second.timings().items()} == {
        name: timing.samples_ms for name, timing in first.timings().items()
    }
    assert {timing.reused for timing in second.timings().values()} == {first.record.run_id}
    other = benchbox(*arguments, "--timing-budget", "1s")
    assert said(other).startswith(f"reused 2 of 2 cells of run {second.record.run_id}")
    for run in list_runs(tmp_path / "results")[1:]:
        shutil.rmtree(run)
    idle(first, 100.0)
    assert "latencies" not in said(benchbox(*arguments))


def idle(store: RunStore, load: float) -> None:
    """Have a run say how busy the machine was."""
    file = store.folder / "run.json"
    record = json.loads(file.read_text())
    record["environment"]["load"] = load
    file.write_text(json.dumps(record))


@pytest.mark.parametrize("damage", ["failed", "outcome", "shard", "torn", "images", "code", "run.json"])
def test_what_is_not_whole_is_not_reused(damage: str, finished_run: Path, tmp_path: Path) -> None:
    store = RunStore.open(finished_run)
    cell = store.record.cells[0]
    (shard,) = (finished_run / "scores" / cell.key).iterdir()
    outcome = finished_run / "outcomes" / f"{cell.key}.json"
    if damage == "failed":
        store.write_outcome(cell.key, replace(store.outcomes()[cell.key], status="failed", reason="no"))
    elif damage == "outcome":
        outcome.unlink()
    elif damage == "shard":
        shard.unlink()
    elif damage == "torn":
        shard.write_bytes(shard.read_bytes()[:100])
    elif damage == "images":
        start, stop = store.finished_shards(cell.key)[0]
        columns = {name: values[:-1] for name, values in store.scores(cell.key).items()}
        shard.unlink()
        store.write_shard(cell.key, start, stop - 1, columns)
    elif damage == "run.json":
        (finished_run / "run.json").write_text(f"{{ {cell.key}")
    record = replace(store.record, run_id="20990101-000000-0000000")
    if damage == "code":
        changed = tuple(replace(one, code="0" * 16) if one.key == cell.key else one for one in record.cells)
        record = replace(record, cells=changed)
    new = RunStore.create(tmp_path / "results", record, store.images())
    sources = reuse_cells(new, tmp_path / "results")
    assert cell.key not in sources
    assert cell.key not in new.outcomes()
    assert len(sources) == (0 if damage == "run.json" else 5)


def record_of(name: str) -> DenoiserRecord:
    return plan_denoisers((name,), load_registry())[0]


def test_the_code_of_a_cell_covers_what_computes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    median = record_of("median")
    built_in = load_registry().noise_model("gaussian").provider
    code = code_of(median, [built_in])
    assert code and code == code_of(median, [built_in])
    assert code != code_of(record_of("nl_means"), [built_in])
    assert code_of(replace(median, starts_programs=True), [built_in]) == ""
    assert code_of(replace(median, deterministic=False), [built_in]) == ""
    assert code_of(median, [Provider("file", str(tmp_path / "noise.py"), version="1")]) == ""
    machine = [*environment._machine()[:-1], ["numpy-0.0.dist-info"]]
    monkeypatch.setattr(environment, "_machine", lambda: machine)
    assert code != code_of(median, [built_in])


def test_the_digest_of_a_package_follows_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_denoiser"
    package.mkdir()
    (package / "__init__.py").write_text("A = 1\n")
    (package / "weights.npz").write_bytes(b"12")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = []
    for change in (
        lambda: None,
        lambda: (package / "__init__.py").write_text("A = 2\n"),
        lambda: (package / "helper.py").write_text(""),
        lambda: (package / "weights.npz").write_bytes(b"123"),
    ):
        change()
        package_digest.cache_clear()
        seen.append(package_digest("some_denoiser"))
    assert len(set(seen)) == 4
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_bytes(b"1")
    package_digest.cache_clear()
    assert package_digest("some_denoiser") == seen[-1]
