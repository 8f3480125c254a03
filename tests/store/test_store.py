"""The run folder: what is written is read back, to the bit."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_records import CARD
from numpy.typing import NDArray

from benchbox import BenchboxError, TrainingCard
from benchbox.api.threads import usable_cores
from benchbox.engine.environment import environment
from benchbox.records.run import Outcome, Timing
from benchbox.store import RunStore, find_run, list_runs
from benchbox.store.layout import read_table, table_bytes
from benchbox.system import files

CARDS = st.builds(
    lambda noise, epochs, validation: replace(CARD, noise=noise, epochs=epochs, validation=validation),
    st.text(),
    st.floats(0, 1e9),
    st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)


def test_a_run_is_read_back_as_it_was_written(folder: Path) -> None:
    store = RunStore.open(folder)
    assert store.record.data.images == 142
    assert {cell.denoiser for cell in store.record.cells} == {"identity", "median"}
    for cell in store.record.cells:
        scores = store.scores(cell.key)
        assert scores["image"].tolist() == list(range(142))
        assert np.isfinite(scores["psnr"]).all()
        assert store.outcomes()[cell.key].images == 142


def test_no_part_of_a_file_is_left(folder: Path) -> None:
    assert not [file for file in folder.rglob("*") if file.name.endswith(".part")]


def test_timing_keeps_every_sample(folder: Path) -> None:
    store = RunStore.open(folder)
    samples = {1: [1.0, 2.0, 4.0], 64: [10.5, 11.5]}
    store.write_timing("identity", Timing("ok", shape=(48, 48), samples_ms=samples))
    store.write_timing("median", Timing("timeout", "took too long"), detail="all of it")
    # The record says that no latency of this run compares with another.
    assert RunStore.open(folder).timings() == {}
    timings = RunStore.open(folder).timings(include_unlike_machines=True)
    assert timings["identity"].samples_ms == samples
    assert (timings["median"].status, timings["median"].samples_ms) == ("timeout", {})


def test_runs_are_found_by_id_start_path_or_as_the_newest(folder: Path) -> None:
    results = folder.parent
    assert list_runs(results) == [folder]
    for name in ("", folder.name, folder.name[:10], str(folder)):
        assert find_run(results, name) == folder
    with pytest.raises(BenchboxError, match="no run 'nothing'"):
        find_run(results, "nothing")
    with pytest.raises(BenchboxError, match=r"there is no run in .*logs\n"):
        find_run(folder / "logs")


def test_a_folder_that_holds_one_run_stands_for_it(folder: Path, tmp_path: Path) -> None:
    """As in `compare base pr`, with two folders of `--results`."""
    base = tmp_path / "base"
    shutil.copytree(folder, base / folder.name)
    for results in (tmp_path / "results", folder.parent):
        assert find_run(results, str(base)) == base / folder.name
    shutil.copytree(folder, base / ("9" + folder.name[1:]))
    with pytest.raises(BenchboxError, match="base holds 2 runs") as caught:
        find_run(tmp_path, str(base))
    assert caught.value.hint == f"name one of them, such as {base}/9{folder.name[1:]}"
    with pytest.raises(BenchboxError, match=f"{tmp_path} is not the folder of a run: it has no run.json"):
        find_run(tmp_path / "results", str(tmp_path))
    with pytest.raises(BenchboxError, match=f"there is no run in {tmp_path}, and no folder 'pr'"):
        find_run(tmp_path, "pr")


def test_a_full_disk_is_said_and_what_was_written_stays(folder: Path) -> None:
    # A limit on file size is what a process can set for itself; the system refuses the write as on a full disk.
    script = textwrap.dedent("""
        import signal, sys
        from pathlib import Path
        from benchbox import BenchboxError, TrainingCard
        from benchbox.store import RunStore
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            RunStore.open(Path(sys.argv[1])).write_report("big.md", "x" * 5_000_000)
        except BenchboxError as error:
            print(error.message, "|", error.hint)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, folder],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )
    assert "big.md" in done.stdout
    assert "finished work is kept" in done.stdout
    assert not (folder / "big.md").exists()
    assert not [file for file in folder.rglob("*") if file.name.endswith(".part")]


def test_an_outcome_is_on_the_disk_only_after_all_shards_of_its_cell(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "run")
    store = RunStore.open(tmp_path / "run")
    key = store.record.cells[0].key
    ((start, stop),) = store.finished_shards(key)
    columns, outcome = store.shard(key, start, stop), store.outcomes()[key]
    flushed: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{handle}").readlink().relative_to(store.folder.resolve())))
        real(handle)

    monkeypatch.setattr("os.fsync", fsync)
    store.write_shard(key, start, stop, columns)
    store.write_shard(key, stop, 2 * stop, columns)
    assert not flushed
    store.write_outcome(key, outcome)
    shards = {f"scores/{key}/{start:08d}-{stop:08d}.parquet", f"scores/{key}/{stop:08d}-{2 * stop:08d}.parquet"}
    assert set(flushed[:2]) == shards
    assert flushed[2] == f"scores/{key}"
    assert len(flushed) == 4
    assert flushed[3].startswith("outcomes/")


def test_an_outcome_is_read_again_only_if_its_file_has_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "run")
    store = RunStore.open(tmp_path / "run")
    first, second = (cell.key for cell in store.record.cells)
    read: list[str] = []
    real = files.read_json

    def read_json(file: Path) -> dict[str, Any]:
        if file.parent.name == "outcomes":
            read.append(file.stem)
        return real(file)

    monkeypatch.setattr("benchbox.store.run.read_json", read_json)
    before = store.outcomes()
    assert store.outcomes() == before
    assert read == [first, second]
    RunStore.open(tmp_path / "run").write_outcome(second, replace(before[second], reason="changed"))
    assert store.outcomes()[second].reason == "changed"
    assert read == [first, second, second]


def test_a_failure_keeps_its_traceback(folder: Path) -> None:
    store = RunStore.open(folder)
    cell = store.record.cells[0].key
    before = store.outcomes()[cell]
    store.write_outcome(cell, Outcome("failed", "ValueError: no"), detail="Traceback: all of it")
    assert store.failure_file(cell).read_text() == "Traceback: all of it"
    assert store.outcomes()[cell].reason == "ValueError: no"
    store.write_outcome(cell, before)


def test_the_environment_is_described() -> None:
    described = environment()
    assert described.cores == usable_cores()
    assert described.cpu
    assert described.versions["numpy"] == np.__version__


NUMBERS = (
    hnp.arrays(np.float64, 5)
    | hnp.arrays(np.float32, 5, elements=st.floats(width=32))
    | hnp.arrays(np.int32, 5)
    | hnp.arrays(np.int64, 5)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(min_size=1, max_size=9).filter(str.isprintable), NUMBERS, max_size=5))
def test_a_shard_is_read_back_bit_by_bit(folder: Path, columns: dict[str, NDArray[Any]]) -> None:
    store = RunStore.open(folder)
    columns = (
        dict.fromkeys((metric.spec for metric in store.record.metrics), np.zeros(5))
        | columns
        | {"image": np.arange(5, 10), "repeat": np.zeros(5, np.int32)}
    )
    shutil.rmtree(folder / "scores" / "00000000", ignore_errors=True)
    store.write_shard("00000000", 5, 10, columns)
    assert store.finished_shards("00000000") == [(5, 10)]
    found = store.scores("00000000")
    assert found.keys() == columns.keys()
    for name, values in columns.items():
        assert found[name].dtype == values.dtype
        assert found[name].tobytes() == values.tobytes(), "every bit, of NaN and -0.0 too"
    shutil.rmtree(folder / "scores" / "00000000")


@given(st.lists(st.text(), max_size=5), st.lists(st.binary(), max_size=5))
def test_texts_and_bytes_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], raw: list[bytes]
) -> None:
    count = min(len(texts), len(raw))
    columns = {"text": np.array(texts[:count], dtype=object), "raw": np.array([*raw[:count], None], dtype=object)[:-1]}
    file = tmp_path_factory.mktemp("tables") / "table.parquet"
    file.write_bytes(table_bytes(columns))
    found = read_table(file)
    assert found["text"].tolist() == [one.encode("utf-8", "backslashreplace").decode() for one in texts[:count]]
    assert [bytes(one) if count else one for one in found["raw"].tolist()] == raw[:count]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.sampled_from(["given", "estimated", "blind", ""]), st.integers(0, 10**6), st.none() | CARDS)
def test_an_outcome_is_read_back(
    folder: Path, reason: str, noise_level: Literal["given", ""], images: int, card: TrainingCard | None
) -> None:
    store = RunStore.open(folder)
    key = store.record.cells[0].key
    before = store.outcomes()[key]
    outcome = Outcome("failed", reason, noise_level, card=card, images=images)
    store.write_outcome(key, outcome, detail=reason)
    assert store.outcomes()[key] == outcome
    store.write_outcome(key, before)
