"""A run under other protocols: shifts that plain NumPy finds too, and whatever a run may be or lack."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_pictures import save
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from benchbox.builtin.datasets.sample import Sample
from benchbox.builtin.noise import Gaussian, image_generator
from benchbox.records.run import Timing
from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
Plugin = Callable[[str, str], Path]
Values = NDArray[np.float64]

QUICK = ("--no-timing", "--previews", "0")
HALF = "return np.float32(0.5) * noisy + np.float32(0.25)"


def outlooks(shown: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows by metric and protocol, each by denoiser."""
    found = {}
    for each in json.loads(shown)["outlooks"]:
        rows = {row["denoiser"]: row for row in each["rows"]}
        found[each["metric"]["plugin"]["spec"], each["protocol"]] = each | {"rows": rows}
    return found


def shift(found: dict[tuple[str, str], dict[str, Any]], protocol: str, denoiser: str, metric: str = "psnr") -> float:
    return float(found[metric, protocol]["rows"][denoiser]["shift"])


# --- against plain NumPy --------------------------------------------------------------------------------------------


def decibels(clean: Values, denoised: Values) -> Values:
    errors: Values = np.square(clean - denoised).reshape(len(clean), -1).mean(axis=1)
    return -10 * np.log10(errors)


def eight_bit(images: Values) -> Values:
    return np.rint(images * 255) / 255


def similarity(clean: Values, denoised: Values, **how: Any) -> float:
    axis = -1 if clean.ndim == 4 else None
    pairs = zip(clean, denoised, strict=True)
    return float(np.mean([structural_similarity(x, y, data_range=1, channel_axis=axis, **how) for x, y in pairs]))


@pytest.mark.slow
@pytest.mark.parametrize("color", ["grey", "rgb"])
def test_shifts_are_those_of_plain_numpy(benchbox: Command, plugin: Plugin, tmp_path: Path, color: str) -> None:
    file = plugin("half", HALF)
    repeats, level = 2, 0.3  # much of it is clipped
    words = ["--limit", "10", "--repeats", str(repeats), "--noise", f"gaussian:{level}", *QUICK]
    benchbox("run", "half", "identity", "--plugin", file, "--dataset", "sample", "--color", color, *words)
    found = outlooks(benchbox("whatif", "--format", "json").stdout)

    store = RunStore.open(find_run(tmp_path / "results"))
    ids = store.images()["id"].tolist()
    images = Sample().colored("rgb" if color == "rgb" else "grey").load(None)
    clean32 = images.stack(np.array([images.ids.index(each) for each in ids], dtype=np.intp)).repeat(repeats, axis=0)
    clean = clean32.astype(np.float64)
    spec = store.record.noises[0].spec
    noisy = np.stack([
        Gaussian(level).apply(clean32[place], image_generator(0, spec, ids[place // repeats], place % repeats))
        for place in range(len(clean))
    ]).astype(np.float64)  # fmt: skip
    half = (0.5 * noisy + 0.25).clip(0, 1)
    scored = decibels(clean, half).mean()
    of_mean = -10 * np.log10(np.mean(10 ** (-decibels(clean, half) / 10)))
    inner = np.s_[:, 4:-4, 4:-4]
    expected = {
        "clip": decibels(clean, 0.5 * noisy.clip(0, 1) + 0.25).mean(),
        "quantize": decibels(clean, 0.5 * eight_bit(noisy.clip(0, 1)) + 0.25).mean(),
        "round-output": decibels(clean, eight_bit(half)).mean(),
        "border-4": decibels(clean[inner], half[inner]).mean(),
        "mean-error": of_mean,
    }
    if color == "rgb":
        luma = np.array([65.481, 128.553, 24.966]) / 255
        expected["y"] = decibels(clean @ luma, half @ luma).mean()
        full = np.array([0.299, 0.587, 0.114])
        expected["y-full"] = decibels(clean @ full, half @ full).mean()
    assert {protocol for metric, protocol in found if metric == "psnr"} == {*expected, "by ssim", "by mse"}
    for protocol, value in expected.items():
        assert shift(found, protocol, "half") == pytest.approx(value - scored, abs=2e-5), protocol
    assert abs(shift(found, "clip", "half")) > 0.005
    assert shift(found, "clip", "identity") == 0.0  # its result is clipped in either case

    wang: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = similarity(clean, half, **wang)
    edges = ((0, 0), (5, 5), (5, 5), (0, 0))[: clean.ndim]
    padded = similarity(np.pad(clean, edges, mode="edge"), np.pad(half, edges, mode="edge"), **wang)
    assert shift(found, "ssim-uniform", "half", "ssim") == pytest.approx(similarity(clean, half) - ssim, abs=2e-5)
    assert shift(found, "ssim-edges", "half", "ssim") == pytest.approx(padded - ssim, abs=2e-5)
    assert (("ssim", "ssim-3d") in found) == (color == "rgb")


# --- what is kept ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_computed_once_is_kept_and_a_damaged_file_is_made_again(
    benchbox: Command, finished_run: str, tmp_path: Path
) -> None:
    folder = tmp_path / "results" / finished_run
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    derived = benchbox("whatif", "--only", "mean-error")
    assert "scoring" not in derived.stderr
    first = benchbox("whatif", "--format", "json")
    assert "scoring 3 denoisers under other protocols (18 shards" in first.stderr
    assert "the run has no latencies" in first.stderr
    second = benchbox("whatif", "--format", "json")
    assert second.stderr == ""
    assert second.stdout == first.stdout
    assert {file: file.read_bytes() for file in before} == before
    made = sorted((folder / "whatif").rglob("*.parquet"))
    assert len(made) == 18
    made[0].write_bytes(made[0].read_bytes()[:200])
    third = benchbox("whatif", "--format", "json")
    assert "scoring 1 denoiser under other protocols (1 shard;" in third.stderr
    assert third.stdout == first.stdout
    # A run that is resumed keeps them, and its folder holds nothing foreign.
    resumed = benchbox("run", "--resume", finished_run)
    assert "set aside" not in resumed.stderr
    assert sorted((folder / "whatif").rglob("*.parquet")) == made


@pytest.mark.slow
@pytest.mark.process
def test_an_interrupt_loses_only_what_is_being_computed(process: Command, plugin: Plugin, tmp_path: Path) -> None:
    begun, hang = tmp_path / "begun", tmp_path / "hang"
    file = plugin(
        "slow",
        f"while os.path.exists({str(hang)!r}):\n    open({str(begun)!r}, 'w').close()\n    time.sleep(0.1)\n{HALF}",
    )
    process("run", "identity", "slow", "--plugin", file, "--limit", "8", *QUICK)
    hang.touch()
    command = [str(Path(sys.executable).with_name("benchbox")), "whatif", "--only", "clip", "--only", "border-4"]
    running = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    folder = find_run(tmp_path / "results") / "whatif"
    for _ in range(1200):
        if begun.exists() and len(list(folder.rglob("*.parquet"))) == 2:
            break
        assert running.poll() is None, running.communicate()
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=180)
    assert running.returncode == 130
    assert "interrupted; finished work is kept. Continue with: benchbox whatif --only clip --only border-4" in said
    hang.unlink()
    again = process("whatif", "--only", "clip", "--only", "border-4")
    assert "scoring 1 denoiser under other protocols (2 shards;" in again.stderr


# --- what a run may be ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rows_that_fail_or_are_gone_are_named(benchbox: Command, plugin: Plugin, tmp_path: Path) -> None:
    fails = plugin("fails", "raise ValueError('never')")
    picky = plugin("picky", "assert noisy.min() < 0, 'it is clipped'\nreturn noisy")
    gone = plugin("gone", HALF)
    files = [word for file in (fails, picky, gone) for word in ("--plugin", file)]
    benchbox("run", "identity", "median", "fails", "picky", "gone", *files, "--limit", "8", *QUICK, code=1)
    shown = benchbox("whatif", "--format", "json", code=1).stdout
    found = outlooks(shown)
    assert set(found["psnr", "border-4"]["rows"]) == {"identity", "median", "picky", "gone"}
    assert set(found["psnr", "clip"]["rows"]) == {"identity", "median", "gone"}
    assert "it is clipped" in found["psnr", "clip"]["left_out"]["picky"]
    places = [row["before"]["place"] for row in found["psnr", "clip"]["rows"].values()]
    assert sorted(places) == [1, 2, 3]
    lines = list(csv.DictReader(io.StringIO(benchbox("whatif", "--format", "csv", code=1).stdout)))
    (line,) = (line for line in lines if (line["protocol"], line["denoiser"]) == ("clip", "picky"))
    assert (line["value"], line["run_id"]) == ("", find_run(tmp_path / "results").name)
    assert "it is clipped" in line["reason"]

    # Its outputs are others now, which is no shift; then the file is gone.
    gone.write_text(gone.read_text().replace("0.25", "0.3"))
    changed = benchbox("whatif", "--format", "json", code=1).stdout
    assert "'gone' was " in json.loads(changed)["notes"][0]
    for protocol in ("border-4", "quantize"):
        assert "no longer those that were scored" in outlooks(changed)["psnr", protocol]["left_out"]["gone"]
    gone.unlink()
    error = benchbox("whatif", code=2).stderr
    assert "gone.py" in error
    assert "--only mean-error needs neither" in error
    assert "mean-error" in benchbox("whatif", "--only", "mean-error").stdout


def test_without_the_images_what_is_stored_still_tells(benchbox: Command, tmp_path: Path) -> None:
    for place, image in enumerate(Sample().load(None).stack(np.arange(7, dtype=np.intp))):
        save(tmp_path / "photos" / f"{place}.png", np.rint(image * 255).astype(np.uint8))
    benchbox("run", "identity", "median", "--data", "photos", *QUICK)
    shutil.rmtree(tmp_path / "photos")
    error = benchbox("whatif", code=2).stderr
    assert "photos" in error
    assert "--only mean-error needs neither" in error
    found = outlooks(benchbox("whatif", "--only", "mean-error", "--format", "json").stdout)
    assert set(found["psnr", "mean-error"]["rows"]) == {"identity", "median"}


def test_the_time_it_takes_is_said_first(benchbox: Command, finished_run: Path) -> None:
    store = RunStore.open(finished_run)
    for denoiser in store.record.denoisers:
        store.write_timing(
            denoiser.spec, Timing("ok", shape=(48, 48), batch=64, samples_ms={1: [1.0] * 20, 64: [10.0] * 20})
        )
    said = benchbox("whatif", "--only", "border-4").stderr
    assert re.search(r"3 denoisers .* about \d+ s on an idle machine, by the latencies of the run$", said, re.MULTILINE)


@pytest.mark.slow
def test_outputs_are_compared_with_those_that_were_scored_whatever_is_asked(benchbox: Command, plugin: Plugin) -> None:
    """A file that the plugin reads is no part of it, and saved images are those of before."""
    file = plugin("told", f"if 'AGAIN' in os.environ:\n    return noisy * np.float32(0.8)\n{HALF}")
    benchbox("run", "told", "identity", "--plugin", file, "--limit", "8", "--save-images", *QUICK)
    for protocol in ("clip", "border-4"):
        shown = benchbox("whatif", "--format", "json", "--only", protocol, AGAIN="1", code=1).stdout
        found = outlooks(shown)["psnr", protocol]
        assert set(found["rows"]) == {"identity"}
        assert "no longer those that were scored" in found["left_out"]["told"]


@pytest.mark.slow
def test_a_row_that_draws_random_numbers_is_kept_with_a_note(benchbox: Command, plugin: Plugin) -> None:
    file = plugin("dice", "return noisy + np.float32(0.1) * np.random.default_rng().random(noisy.shape, np.float32)")
    head = "from benchbox import Capabilities, Denoiser, hookimpl"
    text = file.read_text().replace("from benchbox import Denoiser, hookimpl", head)
    file.write_text(
        text.replace("    def denoise", "    capabilities = Capabilities(deterministic=False)\n\n    def denoise")
    )
    benchbox("run", "dice", "identity", "--plugin", file, "--limit", "3", *QUICK)
    shown = benchbox("whatif", "--only", "border-4", "--format", "json").stdout
    (note,) = json.loads(shown)["notes"]
    assert note.startswith("dice on gaussian:0.1 draws random numbers: its outputs differ from those that were scored")
    rows = outlooks(shown)["psnr", "border-4"]["rows"]
    # Three images are too few to test, so a rank is a place.
    assert {name: (row["after"]["rank"], row["after"]["rank_to"]) for name, row in rows.items()} == {
        "identity": (1, None), "dice": (2, None),
    }  # fmt: skip


def test_a_run_without_finished_rows_is_no_empty_table(benchbox: Command, plugin: Plugin) -> None:
    file = plugin("fails", "raise ValueError('never')")
    benchbox("run", "fails", "--plugin", file, "--limit", "3", *QUICK, code=1)
    refused = benchbox("whatif", "--only", "mean-error", code=2).stderr
    assert "has no finished rows to compare" in refused
    assert "benchbox run --resume" in refused


@pytest.mark.slow
def test_a_merged_run_of_many_noise_levels(benchbox: Command, tmp_path: Path) -> None:
    words = ["--limit", "8", "--sigma-error", "0.5", *QUICK]
    for denoiser in ("wiener", "median"):
        benchbox("run", denoiser, "--noise", "gaussian:0.1", "--noise", "poisson:30", *words)
    first, second = sorted(folder.name for folder in (tmp_path / "results").iterdir() if folder.name[0] == "2")
    benchbox("merge", first, second)
    shown = json.loads(benchbox("whatif", "--format", "json", "--only", "clip").stdout)["outlooks"]
    rows = {each["noise"]: [row["denoiser"] for row in each["rows"]] for each in shown if each["protocol"] == "clip"}
    assert rows == {"gaussian:0.1": ["wiener", "median"], "poisson:30": ["wiener", "median"]}
    assert all(each["tau"] == 1 for each in shown)


def test_recorded_pairs_have_no_other_noise(benchbox: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for place, image in enumerate(Sample().load(None).stack(np.arange(7, dtype=np.intp))):
        pixels = 255 * image
        save(tmp_path / "clean" / f"{place}.png", np.rint(pixels).astype(np.uint8))
        noisy = np.rint(pixels + 20 * rng.standard_normal(image.shape)).clip(0, 255)
        save(tmp_path / "noisy" / f"{place}.png", noisy.astype(np.uint8))
    benchbox("run", "identity", "median", "--noisy", "noisy", "--clean", "clean", *QUICK)
    found = outlooks(benchbox("whatif", "--format", "json").stdout)
    assert {protocol for metric, protocol in found if metric == "psnr"} == {
        "round-output", "border-4", "mean-error", "by ssim", "by mse",
    }  # fmt: skip
    # What is not denoised has whole grey levels already.
    assert shift(found, "round-output", "identity") == pytest.approx(0, abs=1e-5)
    error = benchbox("whatif", "--only", "clip", code=2).stderr
    assert "'clip' does not fit run" in error
    benchbox("run", "identity", "--data", "noisy", "--noise", "recorded", *QUICK)
    assert "has no clean images" in benchbox("whatif", code=2).stderr


def test_other_protocols_are_offered_their_opposites(benchbox: Command) -> None:
    benchbox("run", "identity", "wiener", "--protocol", "ntire", "--noise", "gaussian:0.2", "--limit", "8", *QUICK)
    found = outlooks(benchbox("whatif", "--format", "json").stdout)
    assert {protocol for metric, protocol in found if metric == "psnr"} == {
        "clip", "unclipped", "exact-output", "all-pixels", "mean-error", "by ssim", "by mse",
    }  # fmt: skip
    assert shift(found, "unclipped", "wiener") != 0
    assert "there is no protocol 'clop'" in benchbox("whatif", "--only", "clop", code=2).stderr


# --- what is shown --------------------------------------------------------------------------------------------------


def test_tables_fit_and_the_answer_is_said(benchbox: Command, finished_run: str) -> None:
    shown = benchbox("whatif", "--format", "markdown").stdout
    assert "| protocol | shift of the rows (dB) | tau |" in shown
    assert "PSNR: wiener leads by " in shown
    assert "the shifts of two rows differ by up to" in shown
    by_ssim = benchbox("whatif", "--sort", "ssim", "--only", "border-4").stdout
    assert re.search(r"^wiener .*|^1 wiener ", by_ssim, re.MULTILINE)
    assert "gaussian:0.1, SSIM under other protocols" in by_ssim
    found = outlooks(benchbox("whatif", "--sort", "ssim", "--only", "mean-error", "--format", "json").stdout)
    assert set(found) == {("psnr", "mean-error")}
    assert "does not compute metric 'spim'" in benchbox("whatif", "--sort", "spim", code=2).stderr


@pytest.mark.slow
def test_the_report_has_a_chart_once_it_is_computed(benchbox: Command, finished_run: str, tmp_path: Path) -> None:
    folder = tmp_path / "results" / finished_run
    benchbox("whatif", "--only", "mean-error")
    benchbox("report")
    assert "Other protocols" not in (folder / "report.html").read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO(benchbox("whatif", "--format", "csv").stdout)))
    benchbox("report")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<h3>Other protocols</h3>") == 2
    assert "border-4: 4 pixels at each edge not scored" in page
    for line in lines:
        if line["shift"] and line["metric"] == "psnr":
            amount = f"{float(line['shift']):+.2f}"
            amount = amount if amount.strip("+-0.") else "0.00"
            assert f"<title>{line['protocol']}, {line['denoiser']}: {amount} dB, rank {line['rank']}" in page
    written = benchbox("show", "--format", "svg").stdout
    assert all(f"{number}-protocols{metric}.svg" in written for number in (1, 2) for metric in (1, 2))
