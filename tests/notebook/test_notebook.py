"""`benchbox.run()`: objects as denoisers, arrays as data, results as tables and figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_records import make_record
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import benchbox
from benchbox import BenchboxError, Denoiser, Images, Run, Sigma
from benchbox.engine.events import CellDone, ClusterChanged, RunStarted, TimingStarted
from benchbox.notebook.interface import _Progress
from benchbox.records.run import Outcome

pytestmark = pytest.mark.process

FACTOR = np.float32(0.5)


class Fade(Denoiser):
    """Towards grey."""

    name = "fade"

    def __init__(self, *, level: float = 0.5) -> None:
        self.level = level

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        return FACTOR * noisy + np.float32(FACTOR * self.level)


def with_level(noisy: Images, sigma: Sigma | None) -> Images:
    assert sigma is not None
    return noisy - sigma[:, None, None]


def stack(count: int = 8, dtype: Any = np.float32) -> np.ndarray[Any, np.dtype[Any]]:
    images = np.random.default_rng(0).random((count, 24, 20), dtype=np.float32)
    return (images * 255).astype(dtype) if np.issubdtype(dtype, np.integer) else images.astype(dtype)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    results = tmp_path_factory.mktemp("results")
    denoisers: list[Any] = ["median", Fade, Fade(level=0.25), with_level, lambda noisy: noisy.copy()]
    return benchbox.run(denoisers, data=stack(), results=results, timing=False)


def test_classes_instances_and_functions_are_rows_of_their_own_names(run: Run) -> None:
    frame = run.frame().set_index("denoiser")
    assert set(frame.index) == {"median", "fade", "fade (level 0.25)", "with_level", "lambda"}
    assert frame.loc["with_level", "sigma"] == "given"
    assert frame.loc["lambda", "sigma"] == "blind"


def test_rows_are_scored_as_the_objects_denoise(run: Run) -> None:
    mse = run.scores.pivot_table(index="id", columns="denoiser", values="mse").mean()
    noisy_mse = run.scores["noisy_mse"].mean()
    # Uniform values have a variance of 1/12; clipping to [0, 1] makes the noise of the untouched images a little less.
    assert mse["lambda"] < noisy_mse
    assert mse["fade"] == pytest.approx(0.25 / 12 + 0.25 * noisy_mse, rel=0.05)
    assert mse["fade (level 0.25)"] > mse["fade"]


def test_few_columns_or_all(run: Run) -> None:
    assert list(run.frame().columns) == ["noise", "rank", "denoiser", "psnr", "psnr_low", "psnr_high", "ssim", "sigma"]
    assert len(run.frame(all=True).columns) > 30
    means = run.scores.groupby("denoiser")["psnr"].mean()
    board = run.frame(all=True).set_index("denoiser")["psnr"]
    assert board["median"] == pytest.approx(means["median"], abs=1e-12)


@pytest.mark.slow
def test_what_was_timed_has_ten_columns_and_a_chart(tmp_path: Path) -> None:
    timed = benchbox.run(["median", Fade], data=stack(2), results=tmp_path, timing_budget_s=0.1)
    assert list(timed.frame().columns) == [
        "noise", "rank", "denoiser", "psnr", "psnr_low", "psnr_high", "ssim", "latency_ms", "images_per_s", "sigma",
    ]  # fmt: skip
    assert (timed.frame()["latency_ms"] > 0).all()
    assert len(timed.frame(all=True).columns) > 40
    axes = timed.plot()
    assert isinstance(axes, Axes)
    assert "PSNR" in axes.get_ylabel()


def test_a_notebook_shows_the_board(run: Run) -> None:
    page = run._repr_html_()
    assert page.count("<tr>") == 6
    assert "fade (level 0.25)" in page
    assert "<script" not in page
    assert repr(run).startswith(f"<Run {run.store.record.run_id}: ")


@pytest.mark.slow
def test_pictures_are_a_figure(run: Run) -> None:
    with pytest.raises(BenchboxError, match="two denoisers with latencies"):
        run.plot()
    figure = run.show()
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 2 * 4 * 7
    assert run.report().read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(BenchboxError, match="matches 0 images"):
        run.show("no such image")


@pytest.mark.slow
def test_a_row_of_one_name_is_compared_with_its_later_self(run: Run) -> None:
    def with_level(noisy: Images, sigma: Sigma) -> Images:
        return noisy - np.float32(0.5) * sigma[:, None, None]

    later = benchbox.run(["median", with_level], data=stack(), results=run.store.folder.parent, timing=False)
    changes = run.compare(later).query("metric == 'psnr'").set_index("denoiser")
    assert changes.loc["median", "difference"] == 0
    assert changes["difference"].to_dict()["with_level"] > 0
    assert changes["significant"].to_dict()["with_level"]
    assert benchbox.load_run(results=run.store.folder.parent).scores.equals(later.scores)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_grey_levels_of_an_array_are_scaled_by_their_type(dtype: Any, tmp_path: Path) -> None:
    images = stack(2, dtype)
    run = benchbox.run(["identity"], data=images, results=tmp_path, timing=False, progress=False)
    clean = images / 255 if dtype == np.uint8 else images
    assert run.scores["clean_mean"].to_numpy() == pytest.approx(clean.mean(axis=(1, 2)), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": 3}, "noise=3 is not text"),
        ({"metrics": [3]}, "metrics=[3] is not text"),
        ({"denoisers": [int]}, "int is not a denoiser"),
        ({"denoisers": 3}, "int is not a denoiser"),
        ({"data": ["Set12", "BSD68"]}, "a run has one data set, not a list of paths"),
        ({"data": 2 * stack()}, "are not in [0, 1]"),
        ({"data": np.zeros((2, 3, 4, 4))}, "an array of shape (2, 3, 4, 4) is not a stack of images"),
        ({"data": np.zeros((2, 3, 4), np.int64)}, "values of type int64 have no scale"),
        ({"data": np.full((2, 3, 4), np.nan)}, "are not in [0, 1]"),
    ],
)
def test_a_wrong_type_is_an_error_with_its_hint(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BenchboxError) as caught:
        benchbox.run(**arguments, results=tmp_path)
    assert message in str(caught.value)
    assert "\nhint: give" in str(caught.value)


def test_an_object_that_cannot_be_pickled_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        denoiser = Fade()
        denoiser.file = file  # type: ignore[attr-defined]
        with pytest.raises(BenchboxError, match="cannot be handed to another process"):
            benchbox.run(denoiser, results=tmp_path)


@pytest.mark.slow
def test_a_script_needs_no_main_guard_and_its_classes_reach_the_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import benchbox\n"
        "class Same(benchbox.Denoiser):\n    name = 'same'\n    def denoise(self, noisy, sigma): return noisy.copy()\n"
        "run = benchbox.run(['identity', Same], timing=False)\n"
        "print(len(run.scores), run.frame().psnr.nunique())\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split() == ["284", "1"]


def test_what_a_plugin_says_cannot_clear_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record(("identity", "evil\x1b[2J"))
    shown = _Progress()
    shown(RunStarted(record, 0, 0))
    shown(CellDone(record.cells[1], Outcome("failed", "ValueError: \x1b]0;mine\a")))
    shown(TimingStarted("evil\x1b[2J"))
    shown.close()
    said = capsys.readouterr()
    assert "failed: evil" in said.err
    assert "ValueError" in said.err
    assert "\x1b" not in said.err


def test_what_happens_to_a_cluster_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """That an address is not encrypted, say, or why a worker is left out."""
    shown = _Progress()
    shown(ClusterChanged(1, 2, "http://127.0.0.1:8787/status"))
    shown(ClusterChanged(0, 0, note="worker a is left out:\x1b[2J it has benchbox 0.0.1"))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("worker a is left out")
    assert "\x1b" not in said.err
