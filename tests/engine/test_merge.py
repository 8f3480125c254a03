"""One run from several: what is kept, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from made_records import BUILT_IN, ENVIRONMENT, MSE, PSNR, changed, make_record
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError
from benchbox.cli.reports import merge as command
from benchbox.engine.merge import merge_runs
from benchbox.records.run import Calibration, DataRecord, Outcome, PluginSpec, Provider, Timing
from benchbox.report import render
from benchbox.report.build import build_leaderboard
from benchbox.report.figures.gallery import read_pictures
from benchbox.store import RunStore, noise_key

NOISES = ("gaussian:0.1",)
IMAGES = 30


def make_run(
    folder: Path, number: int, gains: dict[str, float], noises: tuple[str, ...] = NOISES, **changes: Any
) -> RunStore:
    environment = replace(ENVIRONMENT, load=0.1 * number, versions={"numpy": f"2.{number}"})
    record = make_record(
        gains, noises, images=IMAGES, run_id=f"2026010{number}-030405-000abcd", environment=environment
    )
    record = changed(record, **changes)
    store = RunStore.create(folder, record, {"id": np.array([f"i{number:05d}" for number in range(IMAGES)])})
    for cell in record.cells:
        psnr = np.random.default_rng(0).normal(20, 2, IMAGES) + gains[cell.denoiser]
        columns: dict[str, NDArray[Any]] = {
            "image": np.arange(IMAGES, dtype=np.int32),
            "repeat": np.zeros(IMAGES, np.int32),
        }
        columns |= {"noisy_mse": np.full(IMAGES, 0.01), "psnr": psnr}
        store.write_shard(cell.key, 0, IMAGES, columns)
        store.write_outcome(cell.key, Outcome("ok", noise_level="blind", images=IMAGES))
    for label in gains if record.options.timing else ():
        samples = {1: [2.0 + number] * 40, 64: [50.0] * 20}
        store.write_timing(label, Timing("ok", "", (48, 48), noises[0], 1, 64, 0.1, 0.1, 0.1, 10.0, 1, samples))
    return RunStore.open(store.folder)


def test_rows_of_all_runs_stand_in_one_leaderboard(tmp_path: Path) -> None:
    stores = [
        make_run(tmp_path, 1, {"identity": 0.0, "median": 4.0}),
        make_run(tmp_path, 2, {"identity": 0.0, "wiener": 5.0}),
        make_run(tmp_path, 3, {"unet": 7.0}),
    ]
    board = build_leaderboard(RunStore.open(merge_runs(stores, tmp_path, "benchbox merge").folder))
    rows = {row.denoiser: row for row in board.blocks[0].rows}
    assert list(rows) == ["unet", "wiener", "median", "identity"]
    assert [row.rank for row in rows.values()] == [1, 2, 3, 4]
    alone = {row.denoiser: row for row in build_leaderboard(stores[2]).blocks[0].rows}
    assert rows["unet"].scores["psnr"].mean == alone["unet"].scores["psnr"].mean
    assert repr(rows["unet"].speed) == repr(alone["unet"].speed)  # NaN equals itself only as text
    assert board.header.versions["numpy"] == "2.1 / 2.2 / 2.3"
    assert board.header.load == pytest.approx(0.3)


def keep_pictures(store: RunStore, images: list[int]) -> None:
    """Pictures that name the image they are of, as pixels can."""
    (noise,) = store.record.noises
    rows = {"image": np.array(images, dtype=np.int32), "repeat": np.zeros(len(images), dtype=np.int32)}
    flat = [np.full((4, 4), image / 64, dtype=np.float32) for image in images]
    why = np.array([f"{image} of run {store.record.run_id}" for image in images], dtype=object)
    store.write_previews(noise_key(noise.spec), rows | {"why": why}, {"clean": flat, "noisy": flat})
    for cell in store.record.cells:
        store.write_previews(cell.key, rows, {"denoised": flat})


@pytest.mark.parametrize(
    ("choices", "kept", "rows"),
    [
        (([3, 9], [3, 9]), [3, 9], {"median", "wiener", "unet"}),
        (([3, 9, 7], [8, 7, 3]), [3, 7], {"median", "wiener", "unet"}),
        (([3, 9], [8, 7]), [3, 9], {"median", "wiener"}),
        (([], [8, 7]), [8, 7], {"unet"}),
        (([], []), [], set()),
    ],
)
def test_pictures_are_kept_of_the_images_that_most_rows_have(
    tmp_path: Path, choices: tuple[list[int], list[int]], kept: list[int], rows: set[str]
) -> None:
    stores = [make_run(tmp_path, 1, {"median": 4.0, "wiener": 5.0}), make_run(tmp_path, 2, {"unet": 7.0}, previews=3)]
    for store, images in zip(stores, choices, strict=True):
        if images:
            keep_pictures(store, images)
    merged = RunStore.open(merge_runs(stores, tmp_path, "").folder)
    assert merged.record.options.previews == 3
    found = {cell.denoiser: merged.previews(cell.key) for cell in merged.record.cells}
    assert {name for name, (columns, _) in found.items() if columns} == rows
    for columns, pictures in (merged.previews(noise_key(NOISES[0])), *(found[name] for name in rows)):
        assert columns.get("image", np.empty(0)).tolist() == kept
        assert [int(stack[place][0, 0] * 64) for stack in pictures.values() for place in range(len(kept))] == [
            *kept,
        ] * len(pictures)
    stored = read_pictures(merged, build_leaderboard(merged).blocks[0])
    assert (set(stored.denoised) if stored else set()) == rows


def test_noises_are_joined_and_gaps_shown(tmp_path: Path) -> None:
    stores = [
        make_run(tmp_path, 1, {"median": 4.0, "wiener": 5.0}, ("gaussian:0.1", "poisson:30")),
        make_run(tmp_path, 2, {"unet": 7.0}, ("poisson:30", "speckle:0.2")),
    ]
    board = build_leaderboard(merge_runs(stores, tmp_path, ""))
    assert [block.noise for block in board.blocks] == ["gaussian:0.1", "poisson:30", "speckle:0.2"]
    assert [len(block.rows) for block in board.blocks] == [2, 3, 1]
    assert board.summary is not None
    assert {row.denoiser: row.completed for row in board.summary.rows} == {"median": 2, "wiener": 2, "unet": 2}
    assert {row.rank for row in board.summary.rows} == {None}


def test_the_ceiling_comes_from_the_run_that_has_it(tmp_path: Path) -> None:
    stores = [make_run(tmp_path, 1, {"median": 4.0}), make_run(tmp_path, 2, {"wiener": 6.0})]
    columns = {"image": np.arange(IMAGES, dtype=np.int32), "repeat": np.zeros(IMAGES, dtype=np.int32)}
    stores[1].write_ceiling(NOISES[0], columns | {"psnr": np.linspace(27, 29, IMAGES)})
    (block,) = build_leaderboard(merge_runs(stores, tmp_path, "")).blocks
    assert block.oracle_wiener == pytest.approx(28.0)


def test_a_row_that_failed_in_one_run_comes_from_the_other(tmp_path: Path) -> None:
    stores = [make_run(tmp_path, number, {"median": 4.0}) for number in (1, 2)]
    cell = stores[0].record.cells[0]
    stores[0].write_outcome(cell.key, Outcome("timeout", reason="slow"), "Traceback: slow")
    (row,) = build_leaderboard(merge_runs(stores, tmp_path, "")).blocks[0].rows
    assert (row.status, row.rank) == ("ok", 1)
    stores[1].write_outcome(cell.key, Outcome("died", reason="gone"))
    merged = merge_runs(stores, tmp_path, "")
    assert merged.outcomes()[cell.key] == Outcome("timeout", reason="slow")
    assert merged.failure_file(cell.key).read_text() == "Traceback: slow"


def test_a_row_with_two_results_is_refused(tmp_path: Path) -> None:
    stores = [make_run(tmp_path, 1, {"median": 4.0}), make_run(tmp_path, 2, {"median": 4.01})]
    with pytest.raises(BenchboxError, match=r"median @ gaussian:0.1 has different psnr scores"):
        merge_runs(stores, tmp_path, "")


def test_rounding_of_another_machine_is_no_other_result(tmp_path: Path) -> None:
    stores = [make_run(tmp_path, 1, {"median": 4.0}), make_run(tmp_path, 2, {"median": 4.0 + 1e-6})]
    assert len(merge_runs(stores, tmp_path, "").record.cells) == 1


def test_a_denoiser_of_two_versions_is_refused(tmp_path: Path) -> None:
    first = make_run(tmp_path, 1, {"median": 4.0})
    newer = replace(first.record.denoisers[0], plugin=PluginSpec(replace(BUILT_IN, version="0.2.0"), "median"))
    second = make_run(tmp_path, 2, {"median": 4.0}, denoisers=(newer,))
    with pytest.raises(BenchboxError, match=r"benchbox-denoise 0\.1\.0 .* benchbox-denoise 0\.2\.0"):
        merge_runs([first, second], tmp_path, "")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"quantize": True}, "protocol"),
        ({"repeats": 2}, "protocol"),
        ({"seed": 9}, "seed"),
        ({"data": DataRecord("fer2013", "Training", IMAGES, "48x48", "0123456789abcdef")}, "data set"),
        ({"data": DataRecord("fer2013", "PublicTest", IMAGES, "48x48", "f")}, "fingerprint of the images"),
        ({"metrics": (MSE,)}, "list of metrics"),
        ({"metrics": (replace(PSNR, plugin=PluginSpec(Provider("file", "/a.py"), "psnr")),)}, "metric 'psnr'"),
    ],
)
def test_what_does_not_compare_is_refused(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    stores = [make_run(tmp_path, 1, {"median": 4.0}), make_run(tmp_path, 2, {"wiener": 4.0}, **changes)]
    with pytest.raises(BenchboxError, match=f"cannot merge runs .*: the {word} is"):
        merge_runs(stores, tmp_path, "")


@pytest.mark.parametrize(
    "changes", [{"environment": replace(ENVIRONMENT, cpu="Other")}, {"batch": 8}, {"timing": False}]
)
def test_latencies_that_do_not_compare_are_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    stores = [make_run(tmp_path, 1, {"median": 4.0}), make_run(tmp_path, 2, {"wiener": 4.0}, **changes)]
    board = build_leaderboard(merge_runs(stores, tmp_path, ""))
    assert not board.timing
    assert board.header.notes == ("latencies left out, because the runs differ in timing options or type of machine",)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"environment": replace(ENVIRONMENT, cpu="Other", cores=8)}, True),
        ({"environment": replace(ENVIRONMENT, cpu="Other", cores=8), "threads": 4}, False),
        ({}, True),
    ],
)
def test_normalised_latencies_compare_over_machines(tmp_path: Path, changes: dict[str, Any], kept: bool) -> None:
    stores = [make_run(tmp_path, 1, {"median": 4.0}), make_run(tmp_path, 2, {"wiener": 6.0}, **changes)]
    for store, time_ms in zip(stores, (1.5, 2.0), strict=True):
        for label, timing in store.timings().items():
            store.write_timing(label, replace(timing, calibration=Calibration(1, [time_ms], [time_ms])))
    merged = merge_runs(stores, tmp_path, "")
    board = build_leaderboard(merged)
    assert board.timing == (not changes)
    rows = {row.denoiser: row for row in board.blocks[0].rows}
    for label, expected in (("median", 3.0 / 1.5), ("wiener", 4.0 / 2.0)):
        assert rows[label].latency_normalised == (pytest.approx(expected) if kept else None)
        assert (rows[label].speed is None) == bool(changes)
    if kept and changes:
        assert not merged.timings()
        assert "p50 normalised" in render(board, "markdown")
        third = make_run(tmp_path, 3, {"unet": 7.0})
        again = build_leaderboard(merge_runs([merged, third], tmp_path, "")).blocks[0].rows
        assert {row.denoiser: row.latency_normalised for row in again} == {"median": 2.0, "wiener": 2.0, "unet": None}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_timing_is_kept_in_whatever_order_runs_merge(tmp_path: Path, order: tuple[int, int]) -> None:
    stores = [make_run(tmp_path, 1, {"median": 4.0}), make_run(tmp_path, 2, {"median": 4.0}, timing=False)]
    timing = stores[0].timings()["median"]
    stores[0].write_timing("median", replace(timing, calibration=Calibration(1, [1.5], [1.5])))
    merged = merge_runs([stores[place] for place in order], tmp_path, "")
    (row,) = build_leaderboard(merged).blocks[0].rows
    assert row.latency_normalised == pytest.approx(3.0 / 1.5)


def test_the_command_merges_and_shows(tmp_path: Path) -> None:
    for number, denoiser in ((1, "median"), (2, "wiener")):
        make_run(tmp_path / "results", number, {denoiser: float(number)})
    words = ["20260101", "20260102", "--results", str(tmp_path / "results")]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert "1 wiener" in result.output
    assert "2 median" in result.output
    (folder,) = [run for run in (tmp_path / "results").iterdir() if not run.name.startswith(("20260101", "20260102"))]
    assert (folder / "leaderboard.md").is_file()
    written = CliRunner().invoke(command, [*words, "-o", str(tmp_path / "board.txt")], catch_exceptions=False)
    assert "1 wiener" not in written.output
    assert "1 wiener" in (tmp_path / "board.txt").read_text()
    assert CliRunner().invoke(command, words[:1]).exit_code == 2
