"""What networks say about themselves in tables, files and charts: detected options, size, multiply-adds, device."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from made_models import DELTA, save_onnx

from benchbox.api.denoiser import Details
from benchbox.api.errors import BenchboxError
from benchbox.engine.run import execute
from benchbox.records.options import RunOptions
from benchbox.report.board import Leaderboard, Speed
from benchbox.report.build import build_leaderboard
from benchbox.report.columns import columns_of
from benchbox.report.export import render_csv
from benchbox.report.figures.axes import looks_of
from benchbox.report.figures.charts import WORK, front_chart
from benchbox.report.words import notes_of

SPEED = Speed(1.0, 1.0, 1.0, 0.01, 100, 1000.0, 1, 0.1, 1.0, 1, "CPU, 2 cores")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    """A run of two small networks."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("networks")
    save_onnx(folder / "box.onnx")
    sharper = DELTA / 2 + np.full((1, 1, 3, 3), 1 / 18, np.float32)
    save_onnx(folder / "half.onnx", kernel=sharper)
    denoisers = "onnx:path=box.onnx", "onnx:path=half.onnx", "identity"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = RunOptions(denoisers=denoisers, limit=10, timing=False, results=str(folder / "results"))
        return build_leaderboard(execute(options, lambda event: None))


def test_what_was_detected_and_what_it_costs_stand_in_the_row(board: Leaderboard) -> None:
    (block,) = board.blocks
    (note,) = (note for note in notes_of(board, block, ()) if note.startswith("detected"))
    assert "onnx:path=box.onnx" in note
    assert note.endswith("sigma none, range 1, residual false, channels 1")
    cells = {column.key: [column.cell(row) for row in block.rows] for column in columns_of(board)}
    assert sorted(cells["parameters"]) == ["-", "10", "10"]
    assert sorted(cells["macs_per_pixel"]) == ["-", "9.00", "9.00"]
    lines = list(csv.DictReader(io.StringIO(render_csv([board]))))
    assert {line["macs_per_pixel"] for line in lines} == {"", "9.0"}


def test_columns_are_chosen_by_their_keys(board: Leaderboard) -> None:
    chosen = replace(board, columns=("macs_per_pixel", "ssim"))
    assert [column.key for column in columns_of(chosen)] == ["rank", "denoiser", "macs_per_pixel", "ssim"]
    with pytest.raises(BenchboxError, match="there is no column 'parameter'") as caught:
        columns_of(replace(board, columns=("parameter",)))
    assert "parameters" in (caught.value.hint or "")


def test_quality_against_work_is_a_chart_of_its_own(board: Leaderboard) -> None:
    (block,) = board.blocks
    chart = front_chart(board, block, looks_of([row.denoiser for row in block.rows]), WORK)
    assert chart is not None
    assert chart.name == "work"
    assert "multiply-adds" in chart.title
    assert any("0.00900 GMAC per megapixel" in title for title in chart.titles.values())


def test_latencies_of_two_devices_are_not_compared_in_silence(board: Leaderboard) -> None:
    (block,) = board.blocks
    first, second, *rest = block.rows
    on_gpu = replace(first, speed=SPEED, details=Details(device="NVIDIA H100", device_peak_mb=12.0))
    mixed = replace(board, timing=True, blocks=(replace(block, rows=(on_gpu, replace(second, speed=SPEED), *rest)),))
    assert any(
        "latencies are not comparable: they were measured on NVIDIA H100 and on CPU" in line
        for line in notes_of(mixed, mixed.blocks[0], ())
    )
    keys = [column.key for column in columns_of(mixed)]
    assert {"device", "device_peak_mb"} <= set(keys)
    alone = replace(mixed, blocks=(replace(block, rows=(on_gpu, second, *rest)),))
    assert not any("not comparable" in line for line in notes_of(alone, alone.blocks[0], ()))
