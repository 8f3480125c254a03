"""Leaderboards from runs on disk: means, ranks and marks."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from made_boards import DENOISERS, IMAGES, make_record, make_run, rows_of, scores_of, shown, write_cell
from made_records import CARD, changed
from numpy.typing import NDArray

from benchbox.api.denoiser import TrainingCard
from benchbox.api.errors import BenchboxError
from benchbox.cli.reports import leaderboard as command
from benchbox.records.run import Calibration, Outcome, Timing
from benchbox.report import FORMATS, render
from benchbox.report.build import build_leaderboard
from benchbox.report.words import has_normalised
from benchbox.store import RunStore


def test_means_are_those_of_the_stored_scores(tmp_path: Path) -> None:
    board = build_leaderboard(make_run(tmp_path))
    for label, row in rows_of(board).items():
        for metric, values in scores_of(DENOISERS[label]).items():
            assert row.scores[metric].mean == pytest.approx(sum(values) / IMAGES, rel=1e-12)
            assert row.scores[metric].images == IMAGES
    assert board.blocks[0].noisy_psnr is not None
    assert board.blocks[0].noisy_psnr.mean == pytest.approx(20.0)


def test_rows_are_ranked_by_the_chosen_metric(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    by_gain = sorted(DENOISERS, key=lambda label: -DENOISERS[label])
    assert [row.denoiser for row in build_leaderboard(store).blocks[0].rows] == by_gain
    by_mse = build_leaderboard(store, sort="mse").blocks[0].rows
    means = [row.scores["mse"].mean for row in by_mse]
    assert means == sorted(means)
    assert [row.rank for row in by_mse] == list(range(1, len(by_mse) + 1))


def test_an_unknown_metric_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BenchboxError, match="no metric 'pnsr'") as caught:
        build_leaderboard(make_run(tmp_path), sort="pnsr")
    assert "psnr" in caught.value.hint


def test_best_of_each_column_is_marked(tmp_path: Path) -> None:
    rows = rows_of(build_leaderboard(make_run(tmp_path)))
    assert {"psnr", "ssim", "mse"} <= set(rows["unet"].best)
    # The floor is the fastest and takes no mark for it.
    assert not rows["identity"].best
    assert "latency_p50_ms" in rows["median"].best
    assert "throughput" in rows["median"].best


def test_speed_comes_from_the_samples(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    samples = store.timings()["median"].samples_ms
    speed = rows_of(build_leaderboard(store))["median"].speed
    assert speed is not None
    assert speed.latency_p50_ms == pytest.approx(float(np.median(samples[1])))
    assert speed.latency_p99_ms == pytest.approx(float(np.quantile(samples[1], 0.99)))
    assert speed.throughput == pytest.approx(64 / (np.median(samples[64]) / 1000))
    assert speed.cold_start_s == pytest.approx(0.1 + 0.2 + 0.02)


@pytest.mark.parametrize("status", ["failed", "timeout", "contract", "died", "skipped"])
def test_a_row_without_result_stays_with_its_reason(tmp_path: Path, status: str) -> None:
    store = make_run(tmp_path)
    cell = next(cell for cell in store.record.cells if cell.denoiser == "unet")
    store.write_outcome(cell.key, Outcome(status, reason="out of | luck"))  # type: ignore[arg-type]
    board = build_leaderboard(store)
    last = board.blocks[0].rows[-1]
    assert (last.denoiser, last.rank, last.status, last.reason) == ("unet", None, status, "out of | luck")
    assert last.scores == {}
    assert [row.rank for row in board.blocks[0].rows[:-1]] == [1, 2, 3, 4, 5]
    assert f"unet: {status}: out of | luck" in shown(board, 80)
    assert f"unet: {status}: out of \\| luck" in render(board, "markdown")


def test_a_row_that_never_ended_is_unfinished(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    cell = next(cell for cell in store.record.cells if cell.denoiser == "median")
    (store.folder / "outcomes" / f"{cell.key}.json").unlink()
    row = rows_of(build_leaderboard(store))["median"]
    assert (row.rank, row.status, row.scores) == (None, "unfinished", {})


def test_a_row_that_lost_a_shard_is_not_ranked(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    cell = next(cell for cell in store.record.cells if cell.denoiser == "median")
    start, stop = store.finished_shards(cell.key)[0]
    (store.folder / "scores" / cell.key / f"{start:08d}-{stop:08d}.parquet").unlink()
    row = rows_of(build_leaderboard(store))["median"]
    assert (row.rank, row.status) == (None, "incomplete")


def test_perfect_images_are_counted_and_left_out_of_the_mean(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    cell = next(cell for cell in store.record.cells if cell.denoiser == "median")
    columns = scores_of(DENOISERS["median"])
    expected = columns["psnr"][3:].mean()
    columns["psnr"][:3] = np.inf
    write_cell(store, cell, columns)
    board = build_leaderboard(store)
    mean = rows_of(board)["median"].scores["psnr"]
    assert (mean.perfect, mean.images) == (3, IMAGES)
    assert mean.mean == pytest.approx(expected)
    for text in (shown(board, 80), render(board, "markdown")):
        assert "images restored exactly, PSNR infinite, not in the mean: median 3" in text


def test_without_timing_its_columns_are_left_out(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, changed(make_record(), timing=False), {"id": np.arange(IMAGES)})
    for cell in store.record.cells:
        write_cell(store, cell, scores_of(DENOISERS[cell.denoiser]))
        store.write_outcome(cell.key, Outcome("ok", knew="given"))
    board = build_leaderboard(store)
    text = shown(board, 160)
    assert not board.timing
    assert "p50" not in text
    assert "images/s" not in text
    assert "latency" not in render(board, "csv")


def test_a_failed_timing_leaves_the_rank_and_says_why(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    store.write_timing("unet", Timing("timeout", "no answer in 600 s"))
    (store.folder / "timing").joinpath(next(p.name for p in (store.folder / "timing").glob("unet-*.parquet"))).unlink()
    board = build_leaderboard(store)
    row = rows_of(board)["unet"]
    assert (row.rank, row.speed, row.speed_status) == (1, None, "timeout")
    assert "unet: no timing: timeout: no answer in 600 s" in shown(board, 120)


def run_of(folder: Path, scores: dict[str, NDArray[np.float64]]) -> RunStore:
    """Make a run of given PSNRs."""
    record = make_record(tuple(scores), images=len(next(iter(scores.values()))))
    store = make_run(folder, record)
    for cell in record.cells:
        psnr = scores[cell.denoiser]
        write_cell(store, cell, {"psnr": psnr, "ssim": psnr / 100, "mse": 10 ** (-psnr / 10)})
    return store


def test_rows_that_cannot_be_told_apart_share_a_rank(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(26, 2, 200)
    twin = base + generator.normal(0, 0.3, 200)
    board = build_leaderboard(
        run_of(tmp_path, {"identity": base - 6, "median": base, "wiener": twin, "unet": base + 1})
    )
    rows = board.blocks[0].rows
    assert [row.rank for row in rows] == [1, 2, 2, 4]
    assert rows[0].denoiser == "unet"
    comparison = rows[-1].to_best
    assert comparison is not None
    assert comparison.difference == pytest.approx(-7)
    assert comparison.p < 1e-6
    assert "equal rank cannot be told apart" in shown(board, 80)
    tied = next(step for step in board.blocks[0].steps if {step.better, step.worse} == {"median", "wiener"})
    assert tied.further_images is not None
    assert tied.further_images > 0


def test_differences_are_in_the_unit_of_the_metric(tmp_path: Path) -> None:
    board = build_leaderboard(make_run(tmp_path), sort="mse")
    first, second = board.blocks[0].rows[:2]
    assert second.to_best is not None
    assert second.to_best.difference == pytest.approx(second.scores["mse"].mean - first.scores["mse"].mean)
    assert second.to_best.low < second.to_best.difference < second.to_best.high
    assert second.to_best.difference > 0


def test_the_gap_runs_from_doing_nothing_to_the_best_for_each_image(tmp_path: Path) -> None:
    even = np.tile([20.0, 22.0], 30)
    scores = {"identity": even, "median": even + np.tile([4.0, 8.0], 30), "wiener": even + 6, "blur": even - 1}
    board = build_leaderboard(run_of(tmp_path, scores))
    rows = rows_of(board)
    assert board.blocks[0].oracle == pytest.approx(28.0)
    assert rows["identity"].gap_closed == pytest.approx(0)
    assert rows["median"].gap_closed == pytest.approx(6 / 7)
    assert rows["blur"].worse_than_nothing
    assert not rows["median"].worse_than_nothing
    assert "worse than doing nothing: blur" in shown(board, 80)
    pair = board.blocks[0].complements[0]
    assert {pair.first, pair.second} == {"median", "wiener"}
    assert (pair.together, pair.gain) == pytest.approx((28.0, 1.0))


def test_latencies_are_shown_over_the_calibration_kernel(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    for denoiser, timing in store.timings().items():
        # Medians 2 and 8 ms: the kernel takes 4 ms.
        calibration = Calibration(1, [1.0, 2.0, 90.0], [8.0, 7.0, 8.5])
        store.write_timing(denoiser, replace(timing, calibration=None if denoiser == "unet" else calibration))
    board = build_leaderboard(store)
    rows = rows_of(board)
    assert rows["unet"].latency_normalised is None
    for denoiser in ("identity", "median"):
        speed = rows[denoiser].speed
        assert speed is not None
        assert rows[denoiser].latency_normalised == pytest.approx(speed.latency_p50_ms / 4)
    assert "latency_normalised" in rows["median"].best
    assert "latency_normalised" not in rows["identity"].best
    (line,) = [row for row in csv.DictReader(io.StringIO(render(board, "csv"))) if row["denoiser"] == "median"]
    assert float(line["latency_normalised"]) == rows["median"].latency_normalised
    assert "| p50 normalised |" in render(board, "markdown")
    assert re.search(r"ms +p50 normalised +ms", shown(board, 260))
    assert re.search(r"not shown at this width:.*p50 normalised", shown(board, 100).replace("\n", " "))
    assert not has_normalised(build_leaderboard(make_run(tmp_path / "old")))


def test_within_ranks_only_what_is_that_fast(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    everything = rows_of(build_leaderboard(store))
    speeds = {label: row.speed.latency_p50_ms for label, row in everything.items() if row.speed}
    limit = sorted(speeds.values())[2]
    board = build_leaderboard(store, within_ms=limit)
    ranked = {row.denoiser for row in board.blocks[0].rows if row.rank}
    assert ranked == {label for label, speed in speeds.items() if speed <= limit}
    slow = rows_of(board)["unet"]
    assert slow.rank is None
    assert slow.reason.startswith(f"not within {limit:g} ms: p50 is")
    assert "unet: not ranked: not within" in shown(board, 80)
    assert slow.scores["psnr"].mean == everything["unet"].scores["psnr"].mean


@pytest.mark.parametrize(("time", "ranked"), [("1us", 0), ("1.5 ms", 1), ("0.0025s", 2), ("1s", 6)])
def test_within_is_read_with_its_unit(tmp_path: Path, time: str, ranked: int) -> None:
    make_run(tmp_path)
    words = ["--results", str(tmp_path), "--within", time, "--format", "json"]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    rows = json.loads(result.output)["blocks"][0]["rows"]
    assert sum(row["rank"] is not None for row in rows) == ranked


@pytest.mark.parametrize("time", ["5", "fast", "-5ms", "5 min", "0s"])
def test_within_without_a_unit_is_refused(tmp_path: Path, time: str) -> None:
    result = CliRunner().invoke(command, ["--results", str(tmp_path), "--within", time])
    assert result.exit_code == 2
    assert f"'{time}' is not a duration" in result.output


def test_within_needs_a_timing(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, changed(make_record(), timing=False), {"id": np.arange(IMAGES)})
    with pytest.raises(BenchboxError, match="no timing to hold to 5 ms"):
        build_leaderboard(store, within_ms=5)


def test_the_front_holds_what_nothing_beats(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    # In the made-up timings a better denoiser is a slower one; now the second best becomes the slowest of all.
    slow = Timing("ok", "", (48, 48), "gaussian:0.1", 1, 64, 0.1, 0.2, 0.1, 9.0, 1, {1: [900.0], 64: [9000.0]})
    store.write_timing("bm3d_lite", slow)
    on_front = {label for label, row in rows_of(build_leaderboard(store)).items() if row.on_front}
    assert on_front == set(DENOISERS) - {"identity", "bm3d_lite"}


def test_a_row_that_is_perfect_everywhere_stands_above_all(tmp_path: Path) -> None:
    base = np.random.default_rng(0).normal(26, 2, 50)
    store = run_of(tmp_path, {"identity": base - 6, "median": np.full(50, np.inf), "wiener": base})
    rows = build_leaderboard(store).blocks[0].rows
    assert [(row.denoiser, row.rank) for row in rows] == [("median", 1), ("wiener", 2), ("identity", 3)]


def test_images_perfect_in_one_row_are_compared_in_none(tmp_path: Path) -> None:
    base = np.random.default_rng(0).normal(26, 2, 50)
    flawed = base.copy()
    flawed[:5] = np.inf
    board = build_leaderboard(run_of(tmp_path, {"identity": base - 6, "median": flawed, "wiener": base + 1}))
    assert board.blocks[0].compared == 45
    row = rows_of(board)["median"]
    assert row.to_best is not None
    assert row.to_best.difference == pytest.approx(-1)
    assert row.scores["psnr"].mean == pytest.approx(base[5:].mean())


@pytest.mark.parametrize("left", [1, 2, 3, 7])
def test_few_comparable_images_among_many_make_a_leaderboard(tmp_path: Path, left: int) -> None:
    generator = np.random.default_rng(5)
    scores = {name: generator.normal(26, 0.1, 60) + gain for name, gain in (("identity", 0), ("median", 3))}
    scores["median"][left:] = np.inf
    board = build_leaderboard(run_of(tmp_path, scores))
    assert board.blocks[0].compared == left
    assert [row.rank for row in board.blocks[0].rows] == ([1, 2] if left == 7 else [1, 1])
    assert "median" in shown(board, 80)


def test_where_doing_nothing_is_exact_every_other_row_is_worse(tmp_path: Path) -> None:
    near = np.random.default_rng(6).normal(40, 1, IMAGES)
    scores = {"identity": np.full(IMAGES, np.inf), "median": near - 4, "wiener": near}
    board = build_leaderboard(run_of(tmp_path, scores))
    rows = rows_of(board)
    assert [row.rank for row in rows.values()] == [1, 2, 3]
    assert [row.worse_than_nothing for row in rows.values()] == [False, True, True]
    assert board.blocks[0].oracle is None
    assert [row.gap_closed for row in rows.values()] == [None, None, None]


def test_rows_that_share_a_rank_with_the_group_and_are_told_apart_need_no_further_images(tmp_path: Path) -> None:
    # The leader varies so much that neither of the others is told apart from it, and they differ in every image.
    generator = np.random.default_rng(7)
    base = generator.normal(26, 1, 40)
    scores = {"unet": base + generator.normal(1.5, 9, 40), "median": base + 0.5, "identity": base}
    board = build_leaderboard(run_of(tmp_path, scores))
    assert [row.rank for row in board.blocks[0].rows] == [1, 1, 1]
    assert [step.further_images == 0 for step in board.blocks[0].steps] == [False, True]
    text = " ".join(shown(board, 200).split())
    assert "further images to tell apart, about: unet and median" in text
    assert "median and identity 0" not in text


def test_rows_without_a_common_image_are_not_told_apart(tmp_path: Path) -> None:
    base = np.random.default_rng(0).normal(26, 2, 50)
    first, second = base + 5, base.copy()
    first[:25], second[25:] = np.inf, np.inf
    board = build_leaderboard(run_of(tmp_path, {"median": first, "wiener": second}))
    assert [row.rank for row in board.blocks[0].rows] == [1, 1]
    assert board.blocks[0].compared == 0


@pytest.mark.parametrize("images", [1, 2])
def test_few_images_make_a_leaderboard_and_no_claim(tmp_path: Path, images: int) -> None:
    board = build_leaderboard(make_run(tmp_path, make_record(images=images)))
    assert {row.rank for row in board.blocks[0].rows} == {1}
    for text in (shown(board, 80), shown(board, 160), *(render(board, name) for name in FORMATS)):
        assert "unet" in text
        assert not re.search(r"\bnan\b", text, re.IGNORECASE)


def test_the_summary_ranks_what_is_complete_and_shows_the_rest(tmp_path: Path) -> None:
    noises = ("gaussian:0.1", "poisson:30", "speckle:0.2")
    store = make_run(tmp_path, make_record(noises=noises))
    cell = next(cell for cell in store.record.cells if (cell.denoiser, cell.noise) == ("unet", "poisson:30"))
    store.write_outcome(cell.key, Outcome("timeout", reason="too slow"))
    board = build_leaderboard(store)
    assert board.summary is not None
    rows = {row.denoiser: row for row in board.summary.rows}
    assert (rows["unet"].rank, rows["unet"].completed, rows["unet"].wins) == (None, 2, 2)
    best = rows["bm3d_lite"]
    assert (best.rank, best.completed, best.wins) == (1, 3, 1)
    ranks = [rows_of(board, block)["bm3d_lite"].rank for block in range(3)]
    assert best.mean_rank == pytest.approx(np.mean([rank for rank in ranks if rank]))
    means = [rows_of(board, block)["bm3d_lite"].scores["psnr"].mean for block in range(3)]
    assert best.mean == pytest.approx(np.mean(means))
    behind = [rows_of(board, block)["unet"].scores["psnr"].mean - means[block] for block in (0, 2)]
    assert -best.worst_difference == pytest.approx(max(behind))
    text = shown(board, 80)
    assert "3 noises, ranked by mean rank in PSNR" in text
    assert "2/3" in text


def test_the_worst_case_counts_where_a_rank_is_shared(tmp_path: Path) -> None:
    store = make_run(tmp_path, make_record(noises=("gaussian:0.1", "poisson:30"), images=3))
    board = build_leaderboard(store)
    assert {row.rank for row in rows_of(board).values()} == {1}
    assert board.summary is not None
    for row in board.summary.rows:
        behind = [
            one.scores["psnr"].mean - block.rows[0].scores["psnr"].mean
            for block in board.blocks
            for one in block.rows
            if one.denoiser == row.denoiser
        ]
        assert row.worst_difference == pytest.approx(min(behind))
    assert min(row.worst_difference for row in board.summary.rows) < -3


def test_the_summary_shows_what_is_kept_out_of_the_ranks(tmp_path: Path) -> None:
    store = make_run(tmp_path, make_record(noises=("gaussian:0.1", "poisson:30")))
    for cell in store.record.cells:
        if cell.denoiser == "unet":
            store.write_outcome(cell.key, replace(store.outcomes()[cell.key], card=CARD, overlap=1))
    board = build_leaderboard(store)
    assert board.summary is not None
    *ranked, last = board.summary.rows
    assert all(row.rank for row in ranked)
    assert (last.denoiser, last.rank, last.completed, last.wins) == ("unet", None, 2, 0)
    assert last.mean == pytest.approx(np.mean([rows_of(board, block)["unet"].scores["psnr"].mean for block in (0, 1)]))
    line = shown(board, 80).split("2 noises, ranked")[1].split("unet")[1].splitlines()[0]
    assert line.split() == ["-", f"{last.mean:.2f}", "0", "2/2", "-"]


def test_one_noise_has_no_summary(tmp_path: Path) -> None:
    assert build_leaderboard(make_run(tmp_path)).summary is None


@pytest.mark.parametrize("denoisers", [("identity",), ("median",)])
def test_a_single_row_makes_a_leaderboard(tmp_path: Path, denoisers: tuple[str, ...]) -> None:
    board = build_leaderboard(make_run(tmp_path, make_record(denoisers)))
    (row,) = board.blocks[0].rows
    assert (row.rank, row.gap_closed, row.best) == (1, None, ())
    for text in (shown(board, 80), shown(board, 160), *(render(board, name) for name in FORMATS)):
        assert denoisers[0] in text


def test_a_run_in_which_everything_failed_still_says_why(tmp_path: Path) -> None:
    store = make_run(tmp_path, make_record(noises=("gaussian:0.1", "poisson:30")))
    for cell in store.record.cells:
        store.write_outcome(cell.key, Outcome("died", reason="out of memory"))
    board = build_leaderboard(store)
    assert board.summary is None
    names = ", ".join(DENOISERS)
    for text in (shown(board, 80), shown(board, 160)):
        assert " ".join(text.split()).count(f"- {names}: died: out of memory") == 2
    for name in FORMATS:
        rows = len(DENOISERS) if name in ("csv", "json") else 1
        assert render(board, name).count("out of memory") == 2 * rows


@pytest.mark.parametrize(
    ("card", "leaky"),
    [
        (CARD, False),
        (replace(CARD, split="PublicTest"), True),
        (replace(CARD, dataset="images", fingerprint="0123456789abcdef"), True),
        (replace(CARD, dataset="images", fingerprint="5050505050505050"), True),
        (None, False),
        (replace(CARD, dataset="images", split="PublicTest"), False),
    ],
)
def test_a_row_that_was_trained_on_the_scored_images_is_not_ranked(
    tmp_path: Path, card: TrainingCard | None, leaky: bool
) -> None:
    store = make_run(tmp_path)
    cell = next(cell for cell in store.record.cells if cell.denoiser == "unet")
    store.write_outcome(cell.key, Outcome("ok", knew="blind", card=card, images=IMAGES))
    row = rows_of(build_leaderboard(store))["unet"]
    assert row.scores["psnr"].mean > 20
    assert row.rank == (None if leaky else 1)
    asked = build_leaderboard(store, rank_leaky=True)
    assert rows_of(asked)["unet"].rank == 1
    words = f"it was trained on images that are scored here: {card.label if card else ''}"
    assert (f"unet: not ranked: {words}" in shown(build_leaderboard(store), 120)) == leaky
    assert (f"unet: ranked although {words}" in shown(asked, 120)) == leaky
