"""What no run writes, and what damage makes of a run, is named by its file; nothing outside the run is read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tracemalloc
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import CARD
from numpy.typing import NDArray

from benchbox import BenchboxError
from benchbox.records.run import Calibration, Timing
from benchbox.store import RunStore, layout, set_aside_foreign_files
from benchbox.store.layout import read_table, table_bytes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b"{"),
        ("run.json", b"[]"),
        ("run.json", b'{"format": 99}'),
        ("run.json", b'{"format": 1}'),
        ("images.parquet", b"PAR1 cut off"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: bytes, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / folder.name
    subprocess.run(["cp", "-r", folder, copy], check=True)
    (copy / name).write_bytes(content)
    with pytest.raises(BenchboxError) as caught:
        RunStore.open(copy).images()
    assert name in caught.value.message
    assert caught.value.hint


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_run_folder_of_which_any_bytes_are_changed_is_read_or_named(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    copy = tmp_path_factory.mktemp("mutated") / folder.name
    shutil.copytree(folder, copy)
    files = sorted(one for one in copy.rglob("*") if one.suffix in (".json", ".parquet"))
    file = data.draw(st.sampled_from(files))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
    try:
        store = RunStore.open(copy)
        store.images()
        store.outcomes()
        for cell in store.record.cells:
            store.scores(cell.key)
    except BenchboxError as error:
        assert str(copy) in error.message
        assert error.hint
    finally:
        shutil.rmtree(copy.parent)


SCORES = {"image": np.arange(4, dtype=np.int32), "psnr": np.arange(4.0)}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"psnr": np.arange(4.0)}, "column 'image' is missing"),
        ({"image": np.arange(4, dtype=np.int32)}, "column '.*' is missing"),
        (SCORES | {"image": np.arange(4.0)}, "column 'image' is of type float64"),
        (SCORES | {"psnr": np.array(["x"] * 4, dtype=object)}, "column 'psnr' is of type object"),
        ({name: values[:3] for name, values in SCORES.items()}, "3 rows are not of images of this run"),
        (SCORES | {"image": np.array([0, 1, 2, 142], np.int32)}, "4 rows are not of images of this run"),
        (SCORES | {"image": np.array([0, 1, 2, -1], np.int32)}, "4 rows are not of images of this run"),
    ],
)
def test_a_table_that_no_run_writes_is_named(folder: Path, columns: dict[str, NDArray[Any]], words: str) -> None:
    store = RunStore.open(folder)
    others = (
        {}
        if words.startswith("column '.*'")
        else dict.fromkeys((metric.spec for metric in store.record.metrics), np.arange(len(columns["psnr"]) * 1.0))
        | {"repeat": np.zeros(len(columns["psnr"]), np.int32)}
    )
    store.write_shard("00000000", 0, 4, others | columns)
    with pytest.raises(BenchboxError, match=words) as caught:
        store.scores("00000000")
    assert "scores/00000000/00000000-00000004.parquet" in caught.value.message
    shutil.rmtree(folder / "scores" / "00000000")


def test_an_image_with_two_scores_is_named(folder: Path) -> None:
    store = RunStore.open(folder)
    columns = dict.fromkeys((metric.spec for metric in store.record.metrics), np.zeros(4)) | {
        "repeat": np.zeros(4, np.int32)
    }
    store.write_shard("00000000", 0, 4, columns | {"image": np.arange(4, dtype=np.int32)})
    assert len(store.scores("00000000")["image"]) == 4
    store.write_shard("00000000", 4, 8, columns | {"image": np.arange(3, 7, dtype=np.int32)})
    with pytest.raises(BenchboxError, match="an image has two scores"):
        store.scores("00000000")
    shutil.rmtree(folder / "scores" / "00000000")


@pytest.mark.parametrize("ids", [["a"] * 142, [None] * 142, ["a", "b"]])
def test_images_that_no_run_has_are_named(folder: Path, tmp_path: Path, ids: list[Any]) -> None:
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    pq.write_table(pa.table({"id": pa.array(ids, pa.string())}), copy / "images.parquet")
    with pytest.raises(BenchboxError, match=r"images\.parquet"):
        RunStore.open(copy).images()


def test_timings_that_no_run_writes_are_named(folder: Path) -> None:
    store = RunStore.open(folder)
    calibration = Calibration(1, [], [1.0])
    for timing in (
        Timing("ok", batch=64, samples_ms={64: [1.0]}),
        Timing("ok", batch=64, samples_ms={1: [1.0], 64: [0.0]}),
        Timing("ok", samples_ms={1: [1.0]}, calibration=calibration),
    ):
        store.write_timing("identity", timing)
        with pytest.raises(BenchboxError, match="timing/identity-"):
            store.timings(include_unlike_machines=True)


@pytest.mark.parametrize(
    ("place", "value", "path"),
    [
        (("status",), 42, "$.status"),
        (("status",), "well", "$.status"),
        (("noise_level",), "all", "$.noise_level"),
        (("images",), "142", "$.images"),
        (("images",), True, "$.images"),
        (("overlap",), 1.5, "$.overlap"),
        (("card",), [], "$.card"),
        (("card",), {"dataset": "fer2013"}, "$.card"),
        (("card", "epochs"), "20", "$.card.epochs"),
        (("card", "validation", "gaussian:0.1"), None, "$.card.validation[...]"),
    ],
)
def test_a_wrong_field_of_an_outcome_is_named_by_file_and_path(
    folder: Path, place: tuple[str, ...], value: object, path: str
) -> None:
    store = RunStore.open(folder)
    key = store.record.cells[0].key
    file = folder / "outcomes" / f"{key}.json"
    before = file.read_text()
    try:
        change(file, ("card",), asdict(CARD))
        change(file, place, value)
        with pytest.raises(BenchboxError) as caught:
            store.outcomes()
    finally:
        file.write_text(before)
    assert str(file) in caught.value.message
    assert path in caught.value.message


@pytest.mark.parametrize(
    ("place", "value", "path"),
    [
        (("cells", 1, "noise"), 42, "$.cells[1].noise"),
        (("cells", 0, "sigma_factor"), "1", "$.cells[0].sigma_factor"),
        (("cells",), {}, "$.cells"),
        (("options", "sigma"), "guessed", "$.options.sigma"),
        (("options", "clip"), 1, "$.options.clip"),
        (("denoisers", 0, "sigma_use"), "seldom", "$.denoisers[0].sigma_use"),
        (("data", "notes"), "none", "$.data.notes"),
        (("options", "timing"), None, "$.options.timing"),
        (("options", "limit"), 20.5, "$.options.limit"),
    ],
)
def test_a_wrong_field_of_a_record_is_named_by_file_and_path(
    folder: Path, tmp_path: Path, place: tuple[str | int, ...], value: object, path: str
) -> None:
    file = tmp_path / "run.json"
    file.write_text((folder / "run.json").read_text())
    change(file, place, value)
    with pytest.raises(BenchboxError) as caught:
        RunStore.open(tmp_path)
    assert str(file) in caught.value.message
    assert f"`{path}`" in caught.value.message


def change(file: Path, place: tuple[str | int, ...], value: object) -> None:
    """Put a value into a place of a JSON file."""
    values = json.loads(file.read_text())
    here = values
    for key in place[:-1]:
        here = here[key]
    here[place[-1]] = value
    file.write_text(json.dumps(values))


def test_previews_without_pictures_are_named(folder: Path) -> None:
    store = RunStore.open(folder)
    whole = {name: np.zeros(1, np.int32) for name in ("image", "repeat")}
    store.write_previews("00000000", whole, {"denoised": [np.zeros((2, 3), np.float32)]})
    assert store.previews("00000000")[1]["denoised"][0].shape == (2, 3)
    for others, words in (
        ({}, "no pictures"),
        ({"denoised": np.array([b"xx"], dtype=object)}, "pictures of denoised"),
        ({"denoised": np.array([bytes(12)], dtype=object), "image": np.array([142], np.int32)}, "not of images"),
    ):
        columns = whole | {"height": np.full(1, 2, np.int32), "width": np.full(1, 3, np.int32)} | others
        (folder / "previews" / "00000000.parquet").write_bytes(table_bytes(columns))
        with pytest.raises(BenchboxError, match=words):
            store.previews("00000000")


@pytest.mark.slow
def test_a_table_that_unpacks_without_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few kilobytes: a billion equal rows, and a long text that stands in every row."""
    file = tmp_path / "table.parquet"
    pq.write_table(pa.table({"a": pa.nulls(2**29, pa.int8())}), file)
    assert file.stat().st_size < 2**20
    with pytest.raises(BenchboxError, match="it declares 536,870,912 rows"):
        read_table(file)
    monkeypatch.setattr(layout, "_MOST_BYTES", 2**26)
    pq.write_table(pa.table({"a": pa.array(["x" * 2**16] * 2**13)}), file)
    assert file.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(BenchboxError, match="unpacks to more bytes"):
        read_table(file)
    tracemalloc.stop()


def test_a_changed_bit_of_a_score_is_noticed(folder: Path, tmp_path: Path) -> None:
    """Each byte of the numbers themselves, which hold no other redundancy."""
    content = bytearray(table_bytes({"a": np.random.default_rng(0).standard_normal(20)}))
    file = tmp_path / "table.parquet"
    file.write_bytes(content)
    whole = read_table(file)["a"].tobytes()
    for place in range(len(content)):
        content[place] ^= 1
        file.write_bytes(content)
        with contextlib.suppress(BenchboxError):
            (values,) = read_table(file).values()
            assert values.tobytes() == whole, place
        content[place] ^= 1


@pytest.mark.parametrize("what", ["pipe", "device"])
def test_pipes_and_devices_in_a_run_are_named_not_read(what: str, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    store = RunStore.open(copy)
    shard = next((copy / "scores" / store.record.cells[0].key).iterdir())
    for file, read in (
        (shard, lambda: store.scores(store.record.cells[0].key)),
        (copy / "images.parquet", store.images),
        (copy / "run.json", lambda: RunStore.open(copy)),
    ):
        file.unlink()
        if what == "pipe":
            os.mkfifo(file)
        else:
            file.symlink_to("/dev/zero")
        with pytest.raises(BenchboxError, match="not a regular file"):
            read()
    assert {"images.parquet", "run.json", shard.relative_to(copy).as_posix()} <= {*set_aside_foreign_files(store, {})}


def test_links_in_a_run_lead_nowhere(folder: Path, tmp_path: Path) -> None:
    """A folder that somebody else made may hold links to files and folders of yours."""
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "dear.txt").write_text("dear")
    (copy / "lock").unlink(missing_ok=True)
    (copy / "lock").symlink_to(mine / "dear.txt")
    with pytest.raises(BenchboxError, match="cannot write"), RunStore.open(copy).locked():
        pass
    shutil.move(copy / "scores", tmp_path / "elsewhere")
    (copy / "scores").symlink_to(mine)
    assert {"lock", "scores"} <= set(set_aside_foreign_files(RunStore.open(copy), {}))
    assert not (copy / "scores").is_symlink()
    assert (mine / "dear.txt").read_text() == "dear"
