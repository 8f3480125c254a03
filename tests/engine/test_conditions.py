"""Repeats and wrong noise levels: what is drawn, given, kept and shown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchbox.stats.summaries import average_repeats
from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_repeats_draw_other_noises_and_images_stay_the_unit(benchbox: Command, tmp_path: Path) -> None:
    benchbox("run", "identity", "median", "--no-timing", "--limit", "30")
    once = RunStore.open(find_run(tmp_path / "results"))
    board = benchbox("run", "identity", "median", "--no-timing", "--limit", "30", "--repeats", "3")
    assert "3 noises per image" in board.stdout
    thrice = RunStore.open(find_run(tmp_path / "results"))
    for before, after in zip(once.record.cells, thrice.record.cells, strict=True):
        one, three = once.scores(before.key), thrice.scores(after.key)
        assert three["image"].tolist() == [image for image in range(30) for _ in range(3)]
        assert three["repeat"].tolist() == [0, 1, 2] * 30
        # The first noise is that of a run without repeats; the others are not.
        np.testing.assert_array_equal(three["psnr"][::3], one["psnr"])
        assert (three["noisy_mse"].reshape(30, 3).std(axis=1) > 0).all()
    shown = json.loads(benchbox("leaderboard", "--format", "json").stdout)
    (median, _) = shown["blocks"][0]["rows"]
    assert median["scores"]["psnr"]["images"] == 30
    scores = thrice.scores(thrice.record.cells[1].key)
    assert median["scores"]["psnr"]["mean"] == pytest.approx(scores["psnr"].mean())


def test_repeats_are_averaged_over_what_is_finite() -> None:
    columns = {"image": np.repeat(np.arange(3), 2), "psnr": np.array([1.0, 3.0, np.inf, 5.0, np.inf, np.inf])}
    averaged = average_repeats(columns, 2)
    assert averaged["image"].tolist() == [0, 1, 2]
    assert averaged["psnr"].tolist() == [2.0, 5.0, np.inf]


def test_a_wrong_level_is_told_and_the_loss_is_shown(benchbox: Command, tmp_path: Path) -> None:
    board = benchbox("run", "identity", "wiener", "--no-timing", "--limit", "30", "--sigma-error", "0.5,1,2").stdout
    ranked, told_wrong = board.split("Given a wrong noise level, gaussian:0.1")
    assert "identity" in ranked
    assert "0.5 sigma  1 sigma  2 sigma  mean loss" in told_wrong
    assert "wiener " in told_wrong
    assert "identity" not in told_wrong
    store = RunStore.open(find_run(tmp_path / "results"))
    given = {
        (cell.denoiser, cell.sigma_factor): float(store.scores(cell.key)["sigma_given"].mean())
        for cell in store.record.cells
    }
    assert set(given) == {("identity", 1), ("wiener", 1), ("wiener", 0.5), ("wiener", 2)}
    for factor in (0.5, 1, 2):
        assert given["wiener", factor] == pytest.approx(0.1 * factor)
    (curve,) = json.loads(benchbox("leaderboard", "--format", "json").stdout)["blocks"][0]["mismatch"]
    half, true, double = curve["means"]
    assert true > max(half, double)
    # Trapezoids over two octaves, the true level in the middle.
    assert curve["loss"] == pytest.approx(((true - half) / 2 + (true - double) / 2) / 2)


@pytest.mark.parametrize("factors", ["half", "0", "-1,1"])
def test_a_factor_must_be_a_positive_number(factors: str, benchbox: Command) -> None:
    assert "--sigma-error" in benchbox("run", "wiener", "--sigma-error", factors, code=2).stderr


@pytest.mark.slow
def test_only_a_level_that_is_stated_and_given_can_be_told_wrong(benchbox: Command, tmp_path: Path) -> None:
    wrong = ("run", "wiener", "--no-timing", "--limit", "6", "--sigma-error", "0.5", "--noise", "salt-pepper:0.05")
    assert "salt-pepper:0.05 has no noise level" in benchbox(*wrong, code=2).stderr
    composed = benchbox(*wrong, "--noise", "gaussian:0.1+salt-pepper:0.05", "--noise", "gaussian:0.1").stdout
    assert (
        composed.count("Given a wrong noise level") == composed.count("Given a wrong noise level, gaussian:0.1\n") == 1
    )
    cells = RunStore.open(find_run(tmp_path / "results")).record.cells
    assert [(cell.noise, cell.sigma_factor) for cell in cells if cell.sigma_factor != 1] == [("gaussian:0.1", 0.5)]
    for policy in ("estimated", "none"):
        said = benchbox("run", "wiener", "--sigma-error", "0.5", "--sigma", policy, code=2).stderr
        assert "sigma errors need sigma 'given'" in said


@pytest.mark.slow
def test_what_is_told_follows_the_policy(benchbox: Command, tmp_path: Path) -> None:
    level = {}
    for policy in ("given", "estimated", "none"):
        arguments = ["identity", "median", "wiener", "--noise", "gaussian:0.1", "--noise", "salt-pepper:0.05"]
        benchbox("run", *arguments, "--no-timing", "--limit", "5", "--sigma", policy)
        store = RunStore.open(find_run(tmp_path / "results"))
        outcomes = store.outcomes()
        for cell in store.record.cells:
            level[policy, cell.noise.partition(":")[0], cell.denoiser] = outcomes[cell.key].noise_level
    assert {level[policy, noise, "identity"] for policy, noise, _ in level} == {"blind"}
    # Wiener needs a level: where none is given or defined it is estimated, and the row says so.
    assert level["given", "gaussian", "wiener"] == "given"
    assert {level[key] for key in level if key[2] == "wiener" and key[:2] != ("given", "gaussian")} == {"estimated"}
    # The median only uses one: it goes without where none is given.
    assert level["given", "gaussian", "median"] == "given"
    assert level["given", "salt-pepper", "median"] == "blind"
    assert level["estimated", "salt-pepper", "median"] == "blind"
    assert level["none", "gaussian", "median"] == "blind"


@pytest.mark.slow
def test_the_share_of_clipped_pixels_is_kept(
    benchbox: Command, plugin: Callable[[str, str], Path], tmp_path: Path
) -> None:
    body = "noisy[:] = 0.5\nnoisy[:, 0] = 1.0001\nnoisy[:, 1] = 1.0\nnoisy[:, 2, :5] = -0.1\nreturn noisy"
    benchbox("run", "made", "identity", "--plugin", plugin("made", body), "--no-timing", "--limit", "6")
    store = RunStore.open(find_run(tmp_path / "results"))
    made, identity = (store.scores(cell.key) for cell in store.record.cells)
    np.testing.assert_array_equal(made["clipped"], np.full(6, (48 + 5) / 48**2))
    # What the floor loses is what the noise pushes out of range.
    assert (identity["clipped"] > 0).all()
    assert (identity["mse"] < identity["noisy_mse"]).all()


@pytest.mark.slow
def test_where_noise_is_not_white_only_denoisers_that_need_a_level_get_an_estimate(
    benchbox: Command, tmp_path: Path
) -> None:
    names = ("median", "wiener", "--no-timing", "--limit", "30", "--noise", "salt-pepper:0.05")
    benchbox("run", *names)
    blind = RunStore.open(find_run(tmp_path / "results"))
    board = benchbox("run", *names, "--sigma", "estimated", "--noise", "gaussian:0.1", "--verbose")
    assert "salt-pepper:0.05: not white noise, so its level is not estimated" in " ".join(board.stdout.split())
    estimated = RunStore.open(find_run(tmp_path / "results"))
    level = {(cell.noise, cell.denoiser): estimated.outcomes()[cell.key].noise_level for cell in estimated.record.cells}
    assert level["salt-pepper:0.05", "median"] == "blind"
    assert level["gaussian:0.1", "median"] == level["salt-pepper:0.05", "wiener"] == "estimated"
    own = next(cell for cell in estimated.record.cells if (cell.noise, cell.denoiser) == ("salt-pepper:0.05", "median"))
    same = next(cell for cell in blind.record.cells if cell.denoiser == "median")
    np.testing.assert_array_equal(estimated.scores(own.key)["psnr"], blind.scores(same.key)["psnr"])
