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

from benchbox.api.denoiser import TrainingCard
from benchbox.api.errors import BenchboxError
from benchbox.cli.reports import leaderboard as command
from benchbox.records.run import Calibration, Outcome, Timing
from benchbox.report import FORMATS, render
from benchbox.report.build import build_leaderboard
from benchbox.report.html.page import reliability_of, write_html
from benchbox.report.html.tables import speed_table
from benchbox.report.words import NONE, has_normalised
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
    with pytest.raises(BenchboxError, match="the run does not compute metric 'pnsr'") as caught:
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


ELSEWHERE = "gpu-3 (Another CPU, 8 cores)"


def test_rows_that_were_timed_on_different_machines_say_so_and_are_not_compared(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    here = store.record.environment.machine_label
    alone = render(build_leaderboard(store), "markdown")
    assert "not comparable" not in alone
    assert "timed on" not in alone
    store.write_timing("median", replace(store.timings()["median"], machine=ELSEWHERE))
    board = build_leaderboard(store)
    rows = rows_of(board)
    assert {row.denoiser: row.speed.machine for row in rows.values() if row.speed} == dict.fromkeys(rows, here) | {
        "median": ELSEWHERE
    }
    assert not any({"latency_p50_ms", "throughput"} & set(row.best) or row.on_front for row in rows.values())
    text = " ".join(shown(board, 80, verbose=False).split())
    assert "latencies are not comparable, because rows were timed on 2 machines" in text
    verbose = " ".join(shown(board, 80).split())
    assert "latencies are not comparable: they were measured on " in verbose
    assert f"{ELSEWHERE} (median)" in verbose
    assert "rows were timed on 2 machines. Their latencies are not comparable" in verbose
    assert f"| {ELSEWHERE} |" in render(board, "markdown")
    (line,) = (line for line in render(board, "csv").splitlines() if ",median," in line and "gaussian" in line)
    assert f'"{ELSEWHERE}"' in line
    assert "do not compare their latencies" in " ".join(reliability_of(board, store.record))


def test_a_p99_that_is_missing_and_the_least_known_p50_are_named(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    assert "no p99" not in render(build_leaderboard(store), "markdown")
    timing = store.timings()["unet"]
    few = timing.samples_ms | {1: [1.0] * 30 + [3.0] * 30}
    store.write_timing("unet", replace(timing, samples_ms=few))
    board = build_leaderboard(store)
    text = render(board, "markdown")
    assert "no p99, which needs 100 calls; slow, steady calls are timed less often: unet" in text
    assert "p90 and p99 (from 100 calls) likewise" in text
    table = speed_table(store)
    assert table is not None
    assert [row[0].text for row in table.rows if row[table.head.index("p99 (ms)")].text == NONE] == ["unet"]
    assert "% (unet) or better" in board.header.timing


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


def test_perfect_images_count_as_a_hundred_decibels(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    cell = next(cell for cell in store.record.cells if cell.denoiser == "median")
    columns = scores_of(DENOISERS["median"])
    columns["psnr"][:3] = [np.inf, np.inf, 130.0]
    write_cell(store, cell, columns)
    board = build_leaderboard(store)
    mean = rows_of(board)["median"].scores["psnr"]
    assert (mean.perfect, mean.images) == (3, IMAGES)
    assert mean.mean == pytest.approx((3 * 100 + columns["psnr"][3:].sum()) / IMAGES)
    for text in (shown(board, 80), render(board, "markdown")):
        assert "exactly restored images, counted as 100 dB PSNR: median 3" in text


def test_without_timing_its_columns_are_left_out(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, changed(make_record(), timing=False), {"id": np.arange(IMAGES)})
    for cell in store.record.cells:
        write_cell(store, cell, scores_of(DENOISERS[cell.denoiser]))
        store.write_outcome(cell.key, Outcome("ok", noise_level="given"))
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


def test_the_floor_is_the_row_that_says_so_whatever_its_name(tmp_path: Path) -> None:
    base = np.random.default_rng(2).normal(26, 2, 30)
    record = make_record(("nothing", "identity"), images=30)
    floor, method = record.denoisers
    record = replace(record, denoisers=(replace(floor, is_floor=True), replace(method, is_floor=False)))
    store = make_run(tmp_path, record)
    for cell in record.cells:
        psnr = base if cell.denoiser == "nothing" else base - 1
        write_cell(store, cell, {"psnr": psnr, "ssim": psnr / 100, "mse": 10 ** (-psnr / 10)})
    rows = {row.denoiser: row for row in build_leaderboard(store).blocks[0].rows}
    assert rows["identity"].worse_than_nothing
    assert not rows["nothing"].worse_than_nothing


def test_differences_are_in_the_unit_of_the_metric(tmp_path: Path) -> None:
    board = build_leaderboard(make_run(tmp_path), sort="mse")
    first, second = board.blocks[0].rows[:2]
    assert second.to_best is not None
    assert second.to_best.difference == pytest.approx(second.scores["mse"].mean - first.scores["mse"].mean)
    assert second.to_best.low < second.to_best.difference < second.to_best.high
    assert second.to_best.difference > 0


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
    assert re.search(r"hidden at this width:.*p50 normalised", shown(board, 100).replace("\n", " "))
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
    assert slow.reason.startswith("p50 ")
    assert "unet: not ranked: p50 " in shown(board, 80)
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
    with pytest.raises(BenchboxError, match="no timing, so it cannot be limited to 5 ms"):
        build_leaderboard(store, within_ms=5)


def test_the_front_holds_what_nothing_beats(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    # In the made-up timings a better denoiser is a slower one; now the second best becomes the slowest of all.
    slow = Timing("ok", "", (48, 48), "gaussian:0.1", 1, 64, 0.1, 0.2, 0.1, 9.0, 1, {1: [900.0], 64: [9000.0]})
    store.write_timing("bm3d_lite", slow)
    on_front = {label for label, row in rows_of(build_leaderboard(store)).items() if row.on_front}
    assert on_front == set(DENOISERS) - {"identity", "bm3d_lite"}


@pytest.mark.parametrize("denoisers", [("identity",), ("median",)])
def test_a_single_row_makes_a_leaderboard(tmp_path: Path, denoisers: tuple[str, ...]) -> None:
    board = build_leaderboard(make_run(tmp_path, make_record(denoisers)))
    (row,) = board.blocks[0].rows
    assert (row.rank, row.rank_to, row.best) == (1, 1, ())
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
        short = 1 if name == "markdown" else 0  # above the fold
        assert render(board, name).count("out of memory") == 2 * rows + short


@pytest.mark.parametrize(
    ("card", "contaminated"),
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
    tmp_path: Path, card: TrainingCard | None, contaminated: bool
) -> None:
    store = make_run(tmp_path)
    cell = next(cell for cell in store.record.cells if cell.denoiser == "unet")
    store.write_outcome(cell.key, Outcome("ok", noise_level="blind", card=card, images=IMAGES))
    row = rows_of(build_leaderboard(store))["unet"]
    assert row.scores["psnr"].mean > 20
    assert row.rank == (None if contaminated else 1)
    words = f"it was trained on images that are scored here: {card.label if card else ''}"
    assert (f"unet: not ranked: {words}" in shown(build_leaderboard(store), 120)) == contaminated


def test_a_run_that_keeps_duplicates_ranks_and_marks_who_has_seen_them(tmp_path: Path) -> None:
    record = make_record()
    store = make_run(tmp_path, replace(record, options=replace(record.options, keep_duplicates=True)))
    cell = next(cell for cell in store.record.cells if cell.denoiser == "unet")
    store.write_outcome(cell.key, Outcome("ok", noise_level="blind", card=CARD, images=IMAGES, overlap=9))
    board = build_leaderboard(store)
    assert rows_of(board)["unet"].rank == 1
    words = f"unet: marked ! because 9 of {IMAGES} scored images have a duplicate in its training data"
    for text in (shown(board, 120), render(board, "markdown").replace("\\", ""), render(board, "latex")):
        assert words in " ".join(text.split())
        assert "1!" in text
    assert "2!" not in shown(board, 120)
    lines = {line["denoiser"]: line for line in csv.DictReader(io.StringIO(render(board, "csv")))}
    assert lines["unet"]["contamination"] == words.partition("because ")[2] + f", {CARD.label}"
    assert lines["median"]["contamination"] == ""


@pytest.mark.parametrize(
    ("images", "more"), [pytest.param(40, "", marks=pytest.mark.slow), (30, "; the 30 are drawn from the other 40")]
)
def test_images_left_out_are_counted_in_every_format(tmp_path: Path, images: int, more: str) -> None:
    record = make_record(images=images)
    store = make_run(tmp_path, replace(record, data=replace(record.data, source_images=1060, left_out=1020)))
    board = build_leaderboard(store)
    words = (
        f"fer2013 PublicTest, {images} of 1,060 images, 48x48; "
        f"1,020 left out: probable duplicates of training images{more}"
    )
    page = write_html(store, board).read_text(encoding="utf-8")
    for text in (shown(board, 80), render(board, "markdown"), render(board, "latex"), page):
        assert words in " ".join(text.replace("\\", "").split())
    header = json.loads(render(board, "json"))["header"]
    assert (header["images"], header["source_images"], header["left_out"]) == (images, 1060, 1020)
    line = next(csv.DictReader(io.StringIO(render(board, "csv"))))
    assert (line["images"], line["source_images"], line["left_out"]) == (str(images), "1060", "1020")
