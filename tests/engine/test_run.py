"""The main job, typed as a user types it: real processes, real images, real files."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchbox.engine.data import open_data
from benchbox.engine.drawing import Condition, draw
from benchbox.records.run import PluginSpec, RunOptions
from benchbox.registry import load_registry
from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]

Plugin = Callable[[str, str], Path]


def latest(folder: Path) -> RunStore:
    return RunStore.open(find_run(folder / "results"))


@pytest.mark.slow
def test_the_first_command_of_a_newcomer(process: Command, tmp_path: Path) -> None:
    result = process("run", "identity", "median", "gaussian_blur", "--noise", "gaussian:0.1")
    assert "gaussian:0.1" in result.stdout
    ranks = re.findall(r"^(\d) +(\w+)", result.stdout, flags=re.MULTILINE)
    assert ranks == [("1", "gaussian_blur"), ("2", "median"), ("3", "identity")]
    store = latest(tmp_path)
    for denoiser, timing in store.timings().items():
        assert timing.status == "ok", denoiser
        assert len(timing.samples_ms[1]) >= 100
        assert sorted(timing.samples_ms) == [1, 8, 64]
        assert min(map(len, timing.samples_ms.values())) >= 3
        assert timing.cold_start_s > 0
    assert [path.name for path in tmp_path.iterdir()] == ["results"]  # nothing else is left behind
    page = (store.folder / "leaderboard.md").read_text()
    assert "built-in sample" in page  # below the table stand only the first notes, which may be of a busy machine
    assert "--data fer2013.csv" in page
    for fact in ("sample", "142", "gaussian:0.1", "unclipped", "seed", str(store.record.environment.cpu), "numpy"):
        assert fact in page


@pytest.mark.slow
def test_noise_is_20_db_unclipped_and_every_denoiser_met_the_same(benchbox: Command, tmp_path: Path) -> None:
    benchbox("run", "identity", "median", "wavelet", "--no-timing", "--noise", "gaussian:0.1")
    store = latest(tmp_path)
    scores = [store.scores(cell.key) for cell in store.record.cells]
    for one in scores:
        np.testing.assert_array_equal(one["noisy_mse"], scores[0]["noisy_mse"])
        np.testing.assert_allclose(one["sigma_true"], 0.1)
    assert -10 * np.log10(scores[0]["noisy_mse"].mean()) == pytest.approx(20.0, abs=0.02)
    # The floor's score is that of the noise itself, clipped: drawn again here by itself.
    registry = load_registry()
    (noise,) = store.record.noises
    dataset = PluginSpec(registry.dataset("sample").provider, "sample")
    condition = Condition(store.record.options, dataset, store.record.data.fingerprint, noise)
    clean, noisy, _, _ = draw(condition, np.arange(142))
    expected = ((np.clip(noisy, 0, 1) - clean).astype(float) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(scores[0]["mse"], expected, rtol=1e-6)


@pytest.mark.slow
def test_scores_do_not_depend_on_workers_order_company_or_time(benchbox: Command, tmp_path: Path) -> None:
    runs = []
    for arguments in (
        ("identity", "median", "--jobs", "1", "--noise", "gaussian:0.1", "--noise", "poisson:30"),
        ("wavelet", "median", "--jobs", "3", "--noise", "poisson:30", "--noise", "gaussian:0.1"),
    ):
        benchbox("run", *arguments, "--no-timing", "--fresh")
        store = latest(tmp_path)
        runs.append({(cell.denoiser, cell.noise): store.scores(cell.key) for cell in store.record.cells})
    for noise in ("gaussian:0.1", "poisson:30"):
        one, other = runs[0]["median", noise], runs[1]["median", noise]
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.slow
def test_one_denoiser_stands_several_times_with_different_options(benchbox: Command) -> None:
    result = benchbox("run", "median:size=3", "median:size=5", "--no-timing")
    assert "median:size=3" in result.stdout
    assert "median:size=5" in result.stdout


@pytest.mark.slow
def test_what_a_plugin_prints_goes_to_its_log(benchbox: Command, plugin: Plugin, tmp_path: Path) -> None:
    file = plugin("chatty", "print('hello from a plugin', flush=True)\nos.write(1, b'and from below')\nreturn noisy")
    result = benchbox("run", "chatty", "--plugin", file)
    assert "hello" not in result.stdout + result.stderr
    log = latest(tmp_path).log_file("chatty", "quality").read_text()
    assert "hello from a plugin" in log
    assert "and from below" in log


def test_who_uses_sigma_undeclared_is_told_to_declare_it(benchbox: Command, plugin: Plugin, tmp_path: Path) -> None:
    bodies = {
        "broadcasts": "return noisy * (1 - sigma[:, None, None])",
        "averages": "return noisy * sigma.mean()",
        "mistaken": "return noisy[0, 0, 0, 0, 0]",
    }
    files = [word for name, body in bodies.items() for word in ("--plugin", plugin(name, body))]
    benchbox("run", *bodies, *files, "--no-timing", "--limit", "2", code=1)
    store = latest(tmp_path)
    outcomes = {cell.denoiser: store.outcomes()[cell.key] for cell in store.record.cells}
    assert {outcome.status for outcome in outcomes.values()} == {"failed"}
    remedy = "and sigma is None (if it needs sigma, declare capabilities = Capabilities(sigma='required'))"
    assert {name for name, outcome in outcomes.items() if remedy in outcome.reason} == {"broadcasts", "averages"}


@pytest.mark.slow
def test_a_denoiser_that_fails_only_when_timed_is_a_failure(benchbox: Command, plugin: Plugin, tmp_path: Path) -> None:
    file = plugin("moody", "if len(noisy) == 1: raise RuntimeError('not alone')\nreturn noisy")
    result = benchbox("run", "moody", "--plugin", file, "-v", code=1)
    assert "not alone" in result.stdout
    assert latest(tmp_path).timings()["moody"].status == "failed"


@pytest.mark.slow
def test_a_denoiser_that_dies_after_some_timed_calls_has_no_timing(
    benchbox: Command, plugin: Plugin, tmp_path: Path
) -> None:
    dies = "if 'BENCHBOX_TIMING_TASK' in os.environ and len(noisy) > 1: os._exit(3)\nreturn noisy"
    page = benchbox("run", "moody", "--plugin", plugin("moody", dies), "--previews", "0", "-v", code=1).stdout
    timing = latest(tmp_path).timings()["moody"]
    assert (timing.status, timing.samples_ms) == ("died", {})
    assert "after some calls were timed" in " ".join(page.split())


@pytest.mark.slow
def test_what_is_known_of_a_latency_outlives_the_time_limit(benchbox: Command, plugin: Plugin, tmp_path: Path) -> None:
    file = plugin("moody", "if len(noisy) == 64: time.sleep(60)\nreturn noisy")
    page = benchbox("run", "moody", "--plugin", file, "--timeout", "10", "--previews", "0", "-v").stdout
    assert "took longer than 10 s (--timeout), but its p50 was known by then" in page.replace("\n", " ")
    timing = latest(tmp_path).timings()["moody"]
    assert (timing.status, timing.batch, sorted(timing.samples_ms)) == ("ok", 8, [1, 8])
    assert len(timing.samples_ms[1]) >= 100


@pytest.mark.slow
def test_large_images_are_timed_one_by_one_within_the_budget(benchbox: Command, plugin: Plugin, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("one", "two"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (300, 400), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    slow = plugin("slow", "time.sleep(0.2)\nreturn noisy")
    arguments = ("run", "slow", "identity", "--plugin", slow, "--data", "photos", "--previews", "0")
    page = benchbox(*arguments, "--timing-budget", "1s", "-v").stdout
    assert "batch 1, p50 known to within" in page
    assert "(fewer than 6 calls: slow)" in page
    timings = latest(tmp_path).timings()
    assert [sorted(timing.samples_ms) for timing in timings.values()] == [[1], [1]]
    assert 1 <= len(timings["slow"].samples_ms[1]) <= 3  # 60 % of a second, in calls of 0.2 s
    assert len(timings["identity"].samples_ms[1]) >= 100


@pytest.mark.slow
def test_an_image_too_small_for_a_metric_has_no_score_in_it(benchbox: Command, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for place, side in enumerate((8, 20, 64)):
        pixels = np.random.default_rng(place).integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{place}.png")
    page = benchbox("run", "identity", "median", "--data", "photos", "--no-timing", "-v").stdout.replace("\n", " ")
    assert "SSIM: no score for images smaller than 11 pixels a side (1 of 3)" in page
    assert "images without a finite SSIM, excluded from the mean: 1 in every row" in page
    store = latest(tmp_path)
    for cell in store.record.cells:
        scores = store.scores(cell.key)
        assert np.isnan(scores["ssim"]).tolist() == [True, False, False]
        assert np.isfinite(scores["psnr"]).all()
    assert "2 of 2 cells bit-identical" in benchbox("replay", store.record.run_id).stdout


@pytest.mark.slow
def test_a_small_image_skips_what_cannot_take_it(benchbox: Command, plugin: Plugin, tmp_path: Path) -> None:
    file = plugin("large", "return noisy")
    file.write_text(
        file.read_text()
        .replace("import Denoiser", "import Capabilities, Denoiser")
        .replace("    summary", "    capabilities = Capabilities(min_size=100)\n    summary")
    )
    result = benchbox("run", "large", "identity", "--plugin", file, "--no-timing")
    assert "skipped" in result.stdout
    assert "100 pixels" in result.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("run", "medain"), "no denoiser 'medain'", "did you mean 'median'"),
        pytest.param(
            ("run", "--noise", "gausian:0.1"),
            "no noise model 'gausian'",
            "did you mean 'gaussian'",
            marks=pytest.mark.slow,
        ),
        (("run", "median:sise=3"), "no option 'sise'", "did you mean 'size'"),
        pytest.param(("run", "--data", "nowhere.csv"), "nowhere.csv", "", marks=pytest.mark.slow),
        pytest.param(("run", "--metric", "psrn"), "no metric 'psrn'", "did you mean 'psnr'", marks=pytest.mark.slow),
        pytest.param(("run", "--sort", "psrn", "identity", "--no-timing"), "psrn", "psnr", marks=pytest.mark.slow),
        (("leaderboard", "nothing"), "there is no run in", "benchbox run"),
        pytest.param(("run", "--plugin", "missing.py"), "missing.py", "--plugin", marks=pytest.mark.slow),
    ],
)
def test_a_usage_error_says_what_and_what_next(
    arguments: tuple[str, ...], message: str, hint: str, benchbox: Command
) -> None:
    result = benchbox(*arguments, code=2)
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert hint in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_command_or_option_is_a_usage_error(benchbox: Command) -> None:
    assert "did you mean 'run'" in benchbox("rnu", code=2).stderr
    assert "No such option" in benchbox("run", "--nosie", "gaussian", code=2).stderr


def test_results_that_cannot_be_written_are_said(benchbox: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = benchbox("run", "identity", "--results", tmp_path / "file" / "results", code=2)
    assert "cannot write" in result.stderr
    assert "--results" in result.stderr


@pytest.mark.parametrize(
    "form", ["json", *(pytest.param(form, marks=pytest.mark.slow) for form in ("markdown", "csv", "latex"))]
)
@pytest.mark.usefixtures("finished_run")
def test_a_leaderboard_is_written_in_every_format(form: str, benchbox: Command, tmp_path: Path) -> None:
    printed = benchbox("leaderboard", "--format", form).stdout
    benchbox("leaderboard", "--format", form, "-o", "board.txt", "--sort", "psnr")
    assert (tmp_path / "board.txt").read_text() == printed
    assert "median" in printed
    if form == "json":
        rows = json.loads(printed)["blocks"][0]["rows"]
        assert [row["denoiser"] for row in rows] == ["wiener", "median", "identity"]
    sorted_by_error = benchbox("leaderboard", "--sort", "mse").stdout
    assert sorted_by_error.index("median") < sorted_by_error.index("identity")


@pytest.mark.slow
def test_limit_draws_over_the_whole_split(benchbox: Command, tmp_path: Path) -> None:
    drawn = []
    for seed in ("0", "0", "1"):
        benchbox("run", "identity", "--no-timing", "--limit", "20", "--seed", seed)
        drawn.append(latest(tmp_path).images()["id"].tolist())
    assert len(drawn[0]) == 20
    assert drawn[0] == drawn[1] != drawn[2]
    everything = open_data(RunOptions(dataset="sample"), {"sample": load_registry().dataset("sample").cls()}).ids
    assert set(drawn[0]) < set(everything)
    assert drawn[0] != list(everything[:20])


@pytest.mark.slow
def test_a_run_without_psnr_is_ranked_by_the_metric_that_it_has(benchbox: Command, tmp_path: Path) -> None:
    words = ("--no-timing", "--limit", "10", "--metric", "ssim")
    assert "ranked by SSIM" in benchbox("run", "identity", "median", *words, "--report").stdout
    benchbox("run", "wiener", *words)
    first, second = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert "ranked by SSIM" in benchbox("leaderboard", first).stdout
    assert "SSIM" in benchbox("show", first).stdout
    merged = benchbox("merge", first, second).stdout
    assert "ranked by SSIM" in merged
    assert "wiener" in merged
    said = benchbox("run", "median", *words, "--sort", "psnr", code=2).stderr
    assert "--sort psnr: the run does not compute metric 'psnr'" in said
