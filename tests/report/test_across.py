"""Several runs side by side: means of each data set and noise, and over all of them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import imageio.v3 as imageio
import numpy as np
import pytest
from made_boards import make_record, make_run, rows_of, scores_of
from rich.console import Console

from benchbox import BenchboxError
from benchbox.report import render
from benchbox.report.across import put_across, render_across, render_across_json, render_paper
from benchbox.report.board import Leaderboard
from benchbox.report.build import build_leaderboard
from benchbox.report.export import render_csv
from benchbox.store import RunStore, list_runs

Command = Callable[..., CompletedProcess[str]]
NOISES = ("gaussian:0.1", "poisson:30")


def boards(folder: Path) -> list[Leaderboard]:
    """Two runs on folders of one name; the second one lacks the U-Net."""
    records = [make_record(("identity", "median", "unet"), NOISES), make_record(("identity", "median"), NOISES)]
    records = [replace(record, data=replace(record.data, folder="Set12", split="")) for record in records]
    return [build_leaderboard(make_run(folder / str(place), record)) for place, record in enumerate(records)]


def test_each_setting_has_its_mean_and_the_same_weight(tmp_path: Path) -> None:
    across = put_across(boards(tmp_path))
    assert [(setting.data, setting.block.noise) for setting in across.settings] == [
        (data, noise) for data in ("Set12", "Set12 (2)") for noise in NOISES
    ]
    means = [scores_of(4.1, noise=noise)["psnr"].mean() for noise in (0, 1)] * 2
    rows = {row.denoiser: row for row in across.rows}
    assert rows["median"].scores == pytest.approx(means, abs=1e-9)
    assert rows["median"].mean == pytest.approx(np.mean(means), abs=1e-9)
    assert [row.denoiser for row in across.rows] == ["median", "identity", "unet"]
    assert math.isnan(rows["unet"].mean)
    assert np.isnan(rows["unet"].scores[2:]).all()
    assert (rows["unet"].wins, rows["median"].wins, rows["identity"].wins) == (2, 2, 0)
    assert "trained on fer2013 Training: unet" in render_across(across)
    assert rows["unet"].best == ("setting 0", "setting 1")
    assert rows["median"].best == ("setting 2", "setting 3", "mean")


def test_a_metric_for_which_less_is_better(tmp_path: Path) -> None:
    stores = [make_run(tmp_path / name, make_record(("identity", "median"))) for name in "ab"]
    across = put_across([build_leaderboard(store, sort="mse") for store in stores])
    assert [row.denoiser for row in across.rows] == ["median", "identity"]
    assert across.rows[0].best == ("setting 0", "setting 1", "mean")
    mixed = [build_leaderboard(stores[0]), build_leaderboard(stores[1], sort="ssim")]
    with pytest.raises(BenchboxError, match="different metrics: PSNR and SSIM"):
        put_across(mixed)


def test_grey_and_colour_runs_share_a_table_that_names_both_headings(tmp_path: Path) -> None:
    grey, other = boards(tmp_path)
    titles = {"PSNR": "PSNR RGB", "SSIM": "SSIM RGB mean"}
    colour = replace(other, metrics=tuple(replace(m, title=titles.get(m.title, m.title)) for m in other.metrics))
    across = put_across([grey, colour])
    assert across.metric.title == "PSNR and PSNR RGB"
    assert repr(across.rows) == repr(put_across([grey, other]).rows)  # NaN equals itself only as text
    assert "Mean PSNR/SSIM and PSNR RGB/SSIM RGB mean of each method" in render_paper([grey, colour])


def test_the_csv_of_several_runs_has_the_lines_of_each(tmp_path: Path) -> None:
    first, second = boards(tmp_path)
    ssim = replace(second.metrics[1], plugin=replace(second.metrics[1].plugin, spec="other"))
    blocks = [
        replace(
            block, rows=tuple(replace(row, scores=row.scores | {"other": row.scores["ssim"]}) for row in block.rows)
        )
        for block in second.blocks
    ]
    header = replace(second.header, colour=True)
    second = replace(second, metrics=(second.metrics[0], ssim), header=header, blocks=tuple(blocks))
    both = list(csv.DictReader(io.StringIO(render_csv([first, second]))))
    each = [list(csv.DictReader(io.StringIO(render_csv([board])))) for board in (first, second)]
    for line, alone in zip(both, each[0] + each[1], strict=True):
        assert {key: line[key] for key in alone} == alone
    names = list(both[0])
    assert names.index("ssim_high") < names.index("other") < names.index("to_best")
    assert names.index("to_best_p") < names.index("channels") < names.index("run_id")
    assert {line["other"] for line in both[: len(each[0])]} == {""}
    assert [float(line["other"]) for line in both[len(each[0]) :]] == [
        row.scores["ssim"].mean for block in second.blocks for row in block.rows
    ]


def test_the_json_of_several_runs_has_each_and_the_table_across(tmp_path: Path) -> None:
    made = boards(tmp_path)
    value = json.loads(render_across_json(made))
    assert value["runs"] == [json.loads(render(board, "json")) for board in made]
    across = put_across(made)
    assert value["across"]["metric"]["label"] == "psnr"
    assert value["across"]["settings"] == [{"data": s.data, "noise": s.block.noise} for s in across.settings]
    for row, shown in zip(value["across"]["rows"], across.rows, strict=True):
        assert (row["denoiser"], row["wins"]) == (shown.denoiser, shown.wins)
        assert row["scores"] == [None if math.isnan(mean) else mean for mean in shown.scores]
        assert row["mean"] == (None if math.isnan(shown.mean) else shown.mean)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_narrow_terminal_hides_settings_and_names_them(width: int, tmp_path: Path) -> None:
    across = put_across(boards(tmp_path))
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(across, crop=False)
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert f"{across.rows[0].mean:.2f}*" in text
    assert ("hidden at this width" in text) == (width == 40)
    assert "Set12 (2) poisson:30" in text or width > 40


@pytest.mark.slow
def test_a_run_of_several_data_sets(benchbox: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for name in ("Set12", "faces"):
        (tmp_path / name).mkdir()
        for place in range(12):
            image = np.kron(rng.integers(0, 255, (4, 4)), np.ones((8, 8))).astype(np.uint8)
            imageio.imwrite(tmp_path / name / f"{place}.png", image)
    words = ("run", "identity", "wiener", "--data", "Set12", "--data", "faces", "--no-timing")
    done = benchbox(*words)
    made = [build_leaderboard(store) for store in map(RunStore.open, list_runs(tmp_path / "results"))]
    assert [board.header.dataset for board in made] == ["Set12", "faces"]
    psnr = [rows_of(board)["wiener"].scores["psnr"].mean for board in made]
    row = " ".join(line for line in done.stdout.splitlines() if line.startswith("wiener")).replace("*", "").split()
    assert row == ["wiener", *(f"{value:.2f}" for value in (*psnr, sum(psnr) / 2)), "2"]
    assert done.stdout.count("ranked by PSNR") == 2
    assert (
        render_across(put_across(made))
        == benchbox("leaderboard", *(b.header.run_id for b in made), "--format", "markdown").stdout
    )
    ids = [board.header.run_id for board in made]
    assert render_across_json(made) == benchbox("leaderboard", *ids, "--format", "json").stdout
    assert render_csv(made) == benchbox("leaderboard", *ids, "--format", "csv").stdout
    lines = list(csv.DictReader(io.StringIO(benchbox(*words, "--format", "csv").stdout)))
    assert [(line["dataset"], line["denoiser"]) for line in lines] == [
        (data, name) for data in ("Set12", "faces") for name in ("wiener", "identity")
    ]
    again = benchbox(*words, "--format", "latex", "--print-run-id", "-o", "t.tex", "--fail-if", "psnr < 90 dB", code=3)
    assert again.stdout.split() == [folder.name for folder in list_runs(tmp_path / "results")[4:]]
    assert again.stderr.count("gate failed") == 2
    assert r"\multicolumn{1}{c}{Set12} & \multicolumn{1}{c}{faces}" in (tmp_path / "t.tex").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "nowhere"), "nowhere: no such file or folder"),
        (("--data", "./"), "--data . appears twice"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_run(
    words: tuple[str, ...], message: str, benchbox: Command, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    assert message in benchbox("run", "identity", "--data", ".", *words, code=2).stderr
    assert not (tmp_path / "results").exists()
