"""Ranks on the leaderboard: ties, significance, rows without scores."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_boards import IMAGES, make_record, make_run, rows_of, shown, write_cell
from made_records import CARD
from numpy.typing import NDArray

from benchbox.records.run import Outcome
from benchbox.report import FORMATS, render
from benchbox.report.board import Summary
from benchbox.report.build import build_leaderboard
from benchbox.store import RunStore


def run_of(folder: Path, scores: dict[str, NDArray[np.float64]]) -> RunStore:
    """Make a run of given PSNRs."""
    record = make_record(tuple(scores), images=len(next(iter(scores.values()))))
    store = make_run(folder, record)
    for cell in record.cells:
        psnr = scores[cell.denoiser]
        write_cell(store, cell, {"psnr": psnr, "ssim": psnr / 100, "mse": 10 ** (-psnr / 10)})
    return store


def test_rows_that_cannot_be_told_apart_share_their_range_of_ranks(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(26, 2, 200)
    twin = base + generator.normal(0, 0.3, 200)
    board = build_leaderboard(
        run_of(tmp_path, {"identity": base - 6, "median": base, "wiener": twin, "unet": base + 1})
    )
    rows = board.blocks[0].rows
    assert [(row.rank, row.rank_to) for row in rows] == [(1, 1), (2, 3), (2, 3), (4, 4)]
    assert rows[0].denoiser == "unet"
    comparison = rows[-1].to_best
    assert comparison is not None
    assert comparison.difference == pytest.approx(-7)
    assert comparison.p < 1e-3
    tied = next(step for step in board.blocks[0].steps if {step.better, step.worse} == {"median", "wiener"})
    assert tied.further_images is not None
    assert tied.further_images > 0
    for text in (shown(board, 80), shown(board, 200), *(render(board, form) for form in ("markdown", "latex"))):
        assert "2-3" in text
        words = " ".join(text.replace("\\", "").split())
        assert "# is the range of possible ranks: below all significantly better rows" in words
    ranks = [(line["rank"], line["rank_to"]) for line in csv.DictReader(io.StringIO(render(board, "csv")))]
    assert ranks == [("1", "1"), ("2", "3"), ("2", "3"), ("4", "4")]
    found = [(row["rank"], row["rank_to"]) for row in json.loads(render(board, "json"))["blocks"][0]["rows"]]
    assert found == [(1, 1), (2, 3), (2, 3), (4, 4)]


def test_a_row_is_told_from_the_best_exactly_where_its_interval_leaves_out_zero(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    base = generator.normal(26, 2, 30)
    gains = {"identity": -6.0, "median": 0.0, "wiener": 0.1, "dct": 0.2, "wavelet": 0.3, "unet": 0.4}
    board = build_leaderboard(
        run_of(tmp_path, {name: base + gain + generator.normal(0, 0.2, 30) for name, gain in gains.items()})
    )
    first, *others = board.blocks[0].rows
    assert (first.rank, first.rank_to) != (1, 1)
    for row in others:
        assert row.to_best is not None
        assert row.to_best.apart == (row.to_best.high < 0) == (row.to_best.p <= 0.05)
        assert row.rank is not None
        assert row.rank > 1 if row.to_best.apart else row.rank >= 1
    assert {row.to_best.apart for row in others if row.to_best} == {True, False}


def test_on_five_images_rows_are_ordered_and_not_ranked(tmp_path: Path) -> None:
    board = build_leaderboard(make_run(tmp_path, make_record(images=5)))
    rows = board.blocks[0].rows
    assert [(row.rank, row.rank_to) for row in rows] == [(place, None) for place in range(1, len(rows) + 1)]
    means = [row.scores["psnr"].mean for row in rows]
    assert means == sorted(means, reverse=True)
    assert board.blocks[0].steps == ()
    text = " ".join(shown(board, 80).split())
    few = "because 5 images are too few (minimum 6)"
    assert f"# is only the order of the means, neither tested nor with an interval, {few}" in text


def test_the_best_row_for_each_image_and_pairs_that_beat_the_best_row(tmp_path: Path) -> None:
    even = np.tile([20.0, 22.0], 30)
    scores = {"identity": even, "median": even + np.tile([4.0, 8.0], 30), "wiener": even + 6, "blur": even - 1}
    board = build_leaderboard(run_of(tmp_path / "pair", scores))
    rows = rows_of(board)
    assert board.blocks[0].oracle == pytest.approx(28.0)
    assert rows["blur"].worse_than_nothing
    assert not rows["median"].worse_than_nothing
    assert "worse than doing nothing: blur" in shown(board, 80)
    (pair,) = board.blocks[0].complements
    assert {pair.first, pair.second} == {"median", "wiener"}
    assert (pair.together, pair.gain) == pytest.approx((28.0, 1.0))
    # The pair stays below a row that is better than both on every image.
    better = build_leaderboard(run_of(tmp_path / "best", scores | {"unet": even + 9}))
    assert better.blocks[0].complements == ()
    assert "for each image: 30.00" not in shown(better, 200).replace("best row for each image", "")


def test_a_row_that_is_perfect_everywhere_is_first(tmp_path: Path) -> None:
    base = np.random.default_rng(0).normal(26, 2, 50)
    store = run_of(tmp_path, {"identity": base - 6, "median": np.full(50, np.inf), "wiener": base})
    rows = build_leaderboard(store).blocks[0].rows
    assert [(row.denoiser, row.rank, row.rank_to) for row in rows] == [
        ("median", 1, 1),
        ("wiener", 2, 2),
        ("identity", 3, 3),
    ]
    assert rows[0].scores["psnr"].mean == 100


def test_a_row_that_restores_images_exactly_beats_one_that_does_nearly(tmp_path: Path) -> None:
    # Better on every image: where only its finite scores counted, its mean would be the lower one.
    base = np.random.default_rng(0).normal(26, 2, 50)
    exact, near = base + 0.5, base.copy()
    exact[:25], near[:25] = np.inf, 60.0
    board = build_leaderboard(run_of(tmp_path, {"identity": base - 6, "median": near, "wiener": exact}))
    first, second, _ = board.blocks[0].rows
    assert (first.denoiser, second.denoiser, board.blocks[0].compared) == ("wiener", "median", 50)
    assert "psnr" in first.best
    assert second.to_best is not None
    assert second.to_best.difference == pytest.approx(-(25 * 40 + 25 * 0.5) / 50)
    assert second.to_best.difference == pytest.approx(second.scores["psnr"].mean - first.scores["psnr"].mean)


def test_a_row_without_some_scores_is_not_ranked_and_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    base = np.random.default_rng(0).normal(26, 2, 50)
    scores = {"identity": base - 6, "median": base, "wiener": base + 1}
    alone = build_leaderboard(run_of(tmp_path / "alone", scores))
    gap = base + 9
    gap[:45] = np.nan
    board = build_leaderboard(run_of(tmp_path / "gap", scores | {"unet": gap}))
    row = rows_of(board)["unet"]
    assert (row.rank, row.best) == (None, ())
    assert row.reason == "it has no finite psnr on 45 images where other rows have one"
    assert [one.rank for one in board.blocks[0].rows] == [1, 2, 3, None]
    for name, one in rows_of(alone).items():
        assert rows_of(board)[name].scores["psnr"].mean == one.scores["psnr"].mean
    # Where no row has a score, none is blamed.
    for column in scores.values():
        column[:3] = np.nan
    board = build_leaderboard(run_of(tmp_path / "none", scores))
    assert [one.rank for one in board.blocks[0].rows] == [1, 2, 3]
    assert board.blocks[0].compared == 47


def test_where_doing_nothing_is_exact_every_other_row_is_worse(tmp_path: Path) -> None:
    near = np.random.default_rng(6).normal(40, 1, IMAGES)
    scores = {"identity": np.full(IMAGES, np.inf), "median": near - 4, "wiener": near}
    board = build_leaderboard(run_of(tmp_path, scores))
    rows = rows_of(board)
    assert [row.rank for row in rows.values()] == [1, 2, 3]
    assert [row.worse_than_nothing for row in rows.values()] == [False, True, True]
    assert board.blocks[0].oracle == 100


def test_a_leader_that_varies_leaves_the_ranks_of_the_others(tmp_path: Path) -> None:
    # The leader varies so much that neither of the others is told apart from it, and they differ in every image.
    generator = np.random.default_rng(7)
    base = generator.normal(26, 1, 40)
    scores = {"unet": base + generator.normal(1.5, 9, 40), "median": base + 0.5, "identity": base}
    board = build_leaderboard(run_of(tmp_path, scores))
    assert [(row.rank, row.rank_to) for row in board.blocks[0].rows] == [(1, 3), (1, 2), (2, 3)]
    assert [step.further_images == 0 for step in board.blocks[0].steps] == [False, True]
    text = " ".join(shown(board, 200).split())
    assert "more images needed to tell apart: unet and median about" in text
    assert "median and identity 0" not in text


@pytest.mark.parametrize("images", [1, 2])
def test_few_images_make_a_leaderboard_and_no_claim(tmp_path: Path, images: int) -> None:
    board = build_leaderboard(make_run(tmp_path, make_record(images=images)))
    assert all(row.rank_to is None for row in board.blocks[0].rows)
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
    means = [rows_of(board, block)["bm3d_lite"].scores["psnr"].mean for block in range(3)]
    assert best.mean == pytest.approx(np.mean(means))
    behind = [rows_of(board, block)["unet"].scores["psnr"].mean - means[block] for block in (0, 2)]
    assert -best.worst_difference == pytest.approx(max(behind))
    text = shown(board, 80)
    assert "All 3 noises, ranked by mean PSNR" in text
    assert "2/3" in text


def test_the_worst_case_counts_where_nothing_is_tested(tmp_path: Path) -> None:
    store = make_run(tmp_path, make_record(noises=("gaussian:0.1", "poisson:30"), images=3))
    board = build_leaderboard(store)
    assert board.summary is not None
    assert all(row.rank_to is None for row in board.summary.rows)
    for row in board.summary.rows:
        behind = [
            one.scores["psnr"].mean - block.rows[0].scores["psnr"].mean
            for block in board.blocks
            for one in block.rows
            if one.denoiser == row.denoiser
        ]
        assert row.worst_difference == pytest.approx(min(behind))
    assert min(row.worst_difference for row in board.summary.rows) < -3


def test_the_summary_is_tested_like_a_block_and_no_row_changes_the_order_of_two(tmp_path: Path) -> None:
    noises = ("gaussian:0.1", "poisson:30")
    generator = np.random.default_rng(8)
    gains = {"identity": (-6.0, -6.0), "median": (0.0, 1.0), "wiener": (0.9, 0.0), "dct": (0.45, 0.46)}

    def summary_of(folder: Path, names: list[str]) -> Summary:
        record = make_record(tuple(names), noises=noises, images=40)
        store = make_run(folder, record)
        for cell in record.cells:
            write_cell(store, cell, scores[cell.denoiser, cell.noise])
        summary = build_leaderboard(store).summary
        assert summary is not None
        return summary

    base = {noise: generator.normal(26, 2, 40) for noise in noises}
    scores = {}
    for name, own in gains.items():
        for noise, gain in zip(noises, own, strict=True):
            psnr = base[noise] + gain + generator.normal(0, 0.5, 40)
            scores[name, noise] = {"psnr": psnr, "ssim": psnr / 100, "mse": 10 ** (-psnr / 10)}
    few = summary_of(tmp_path / "few", ["identity", "median", "wiener"])
    many = summary_of(tmp_path / "many", list(gains))
    order = [row.denoiser for row in many.rows if row.denoiser != "dct"]
    assert order == [row.denoiser for row in few.rows]
    assert [row.mean for row in many.rows if row.denoiser != "dct"] == [row.mean for row in few.rows]
    # Means that differ by 0.05 dB with an error of 0.08 are no ranks of their own, whatever the ranks on each noise.
    assert [(row.rank, row.rank_to) for row in few.rows] == [(1, 2), (1, 2), (3, 3)]
    assert few.compared == 40


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
    assert line.split() == [f"{last.mean:.2f}", "0", "2/2", "-"]


def test_one_noise_has_no_summary(tmp_path: Path) -> None:
    assert build_leaderboard(make_run(tmp_path)).summary is None
