"""`benchbox verify`: every check can fail, and published numbers are compared with what is measured."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchbox.builtin.metrics import Gmsd, Psnr, Ssim
from benchbox.builtin.noise import MODELS, Gaussian
from benchbox.registry import load_registry
from benchbox.stats.ranking import rank_rows
from benchbox.stats.summaries import interval_of_mean
from benchbox.verify import claims as published
from benchbox.verify import internal
from benchbox.verify.claims import Claim, StandardSet, blob_digest, load_claims, load_sets

Command = Callable[..., subprocess.CompletedProcess[str]]


# --- without data ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fresh_machine_passes_and_learns_which_images_are_known(benchbox: Command, tmp_path: Path) -> None:
    badge = tmp_path / "badge.svg"
    shown = benchbox("verify", "--badge", badge).stdout
    assert "✗" not in shown
    assert all(f"noise {model.name}" in shown for model in MODELS)
    assert "bm3d_lite" in shown
    assert "795f98729c" in shown
    assert badge.read_text(encoding="utf-8").startswith("<svg")
    assert all(len(line) <= 120 for line in shown.splitlines() if "✓" in line)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.name)
def test_each_noise_check_notices_a_wrong_model(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = kind.apply

    def wrong(self: Any, clean: Any, rng: Any) -> Any:
        return clean + np.float32(1.25) * (right(self, clean, rng) - clean)

    assert all(check.passed for check in internal.noise_checks([kind]) if kind.name in check.name)
    monkeypatch.setattr(kind, "apply", wrong)
    assert not all(check.passed for check in internal.noise_checks([kind]) if f"noise {kind.name}" == check.name)


def test_the_check_of_20_decibels_notices_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Gaussian
    right = kind.apply
    monkeypatch.setattr(kind, "apply", lambda self, clean, rng: right(self, clean, rng).clip(0, 1))
    failed = {check.name for check in internal.noise_checks([kind]) if not check.passed}
    assert failed == {"noise gaussian", "gaussian:0.1, unclipped"}


@pytest.mark.parametrize(("kind", "shift"), [(Psnr, 0.01), (Ssim, 1e-4), (Gmsd, 1e-4)])
def test_each_metric_check_notices_a_shift(kind: Any, shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(check.passed for check in internal.metric_checks())
    right = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda self, clean, other: right(self, clean, other) + shift)
    assert {check.name[:4] for check in internal.metric_checks() if not check.passed} == {kind.__name__.upper()}


@pytest.mark.slow
def test_the_checks_of_statistics_notice_wrong_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(check.passed for check in internal.statistics_checks())
    with monkeypatch.context() as patch:
        patch.setattr(internal, "interval_of_mean", lambda values: interval_of_mean(values, 0.80))
        assert {check.name for check in internal.statistics_checks() if not check.passed} == {
            "coverage of 95 % intervals"
        }
    with monkeypatch.context() as patch:
        # As if each image counted six times, which narrows every interval.
        patch.setattr(internal, "rank_rows", lambda scores: rank_rows(np.tile(scores, (6, 1))))
        assert {check.name for check in internal.statistics_checks() if not check.passed} == {"false ranks beyond 5 %"}


@pytest.mark.slow
def test_the_plain_version_notices_another_result(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_registry()
    (check,) = internal.plain_checks(registry)
    assert check.passed
    kind: Any = registry.denoisers["bm3d_lite"].cls
    right = kind.denoise
    monkeypatch.setattr(kind, "denoise", lambda self, noisy, sigma: right(self, noisy, sigma * np.float32(1.01)))
    (check,) = internal.plain_checks(registry)
    assert not check.passed


# --- published numbers ----------------------------------------------------------------------------------------------


def test_published_means_are_those_of_the_published_images() -> None:
    claims = load_claims()
    for denoiser in ("BM3D", "DnCNN-S", "FFDNet"):
        for level in (15, 25, 50):
            about = [one for one in claims if (one.denoiser, one.dataset, one.level) == (denoiser, "Set12", level)]
            each = [one.value for one in about if one.image is not None]
            (mean,) = (one.value for one in about if one.image is None and not one.conflicts)
            assert len(each) == 12
            assert np.mean(each) == pytest.approx(mean, abs=0.011)


def test_every_claim_is_about_a_known_set_and_a_conflicting_one_stands_beside_another() -> None:
    claims, names = load_claims(), {known.name for known in load_sets()}
    assert {claim.dataset for claim in claims} <= names
    for claim in claims:
        twin = (claim.denoiser, claim.dataset, claim.level, claim.metric, claim.image)
        same = [one for one in claims if (one.denoiser, one.dataset, one.level, one.metric, one.image) == twin]
        assert [one.conflicts for one in same].count(False) == 1, claim
    assert {one.value for one in claims if (one.denoiser, one.dataset, one.level) == ("CBM3D", "CBSD68", 15)} == {
        33.52,
        32.67,
    }


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Path]:
    """A standard set of two grey pictures, about which a number is published."""
    folder = tmp_path / "mini"
    folder.mkdir()
    for name, grey in (("01.png", 100), ("02.png", 150)):
        Image.fromarray(np.full((128, 128), grey, np.uint8)).save(folder / name)
    blobs = tuple(blob_digest(folder / f"0{number}.png") for number in (1, 2))
    known = StandardSet("Mini", 2, ((128, 128),), "01.png, 02.png", r"0\d\.png", blobs=blobs, titles=("one", "two"))

    def publish(value: float) -> Path:
        claim = Claim("Nothing", "a paper", "", "a table", "Mini", 10, "literature", "psnr", value, 0.15)
        both = (claim, *(replace(claim, image=image) for image in (0, 1)))
        monkeypatch.setattr(published, "load_claims", lambda: both)
        monkeypatch.setattr(published, "load_sets", lambda: (known,))
        monkeypatch.setattr(internal, "internal_checks", lambda registry: iter(()))
        return folder

    return publish


def test_a_number_is_reproduced_or_missed(benchbox: Command, mini: Callable[[float], Path]) -> None:
    right = float(-20 * np.log10(10 / 255))
    asked = ("verify", mini(right), "--denoiser", "identity", "--as", "Nothing", "--format", "json")
    made = json.loads(benchbox(*asked).stdout)
    assert made["sets"][0]["confirmed"]
    assert [claim["title"] for claim in made["claims"]] == ["", "one", "two"]
    assert all(claim["passed"] for claim in made["claims"])
    assert made["claims"][0]["measured"] == pytest.approx(np.mean([one["measured"] for one in made["claims"][1:]]))
    mini(right + 0.5)
    missed = benchbox(*asked[:-2], code=1).stdout
    assert missed.count("✗") == 3


def test_images_that_were_changed_are_unconfirmed_and_others_are_refused(
    benchbox: Command, mini: Callable[[float], Path]
) -> None:
    folder = mini(28.13)
    Image.fromarray(np.full((128, 128), 101, np.uint8)).save(folder / "01.png")
    shown = benchbox("verify", folder, "--denoiser", "identity", "--as", "Nothing").stdout
    assert "unconfirmed" in shown
    (folder / "02.png").unlink()
    assert "no standard set" in benchbox("verify", folder, code=2).stderr


def test_a_picture_twice_is_no_standard_set(benchbox: Command, mini: Callable[[float], Path], cache: Path) -> None:
    folder = mini(28.13)
    asked = ("--denoiser", "identity", "--as", "Nothing")
    benchbox("verify", folder, *asked)
    shutil.copy(folder / "01.png", folder / "01 copy.png")
    assert "3 images with 1 channels (128x128) are no standard set" in benchbox("verify", folder, code=2).stderr
    (folder / "02.png").unlink()
    (folder / "01 copy.png").rename(folder / "01.PNG")
    assert "no standard set" in benchbox("verify", folder, code=2).stderr


def test_other_pictures_of_the_same_names_do_not_replace_a_set(
    benchbox: Command, mini: Callable[[float], Path], cache: Path
) -> None:
    folder, other = mini(28.13), mini(28.13).parent / "other"
    asked = ("--denoiser", "identity", "--as", "Nothing", "--format", "json")
    shutil.copytree(folder, other)
    for name in ("01.png", "02.png"):
        (other / name).rename(other / f"b{name}")
    benchbox("verify", folder, *asked)
    Image.fromarray(np.full((128, 128), 101, np.uint8)).save(folder / "01.png")
    assert not json.loads(benchbox("verify", folder, *asked).stdout)["sets"][0]["confirmed"]
    assert json.loads(benchbox("verify", other, *asked).stdout)["sets"][0]["confirmed"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--denoiser", "identity", "--as", "Nothing", "--level", "26"),
            "no published number of Nothing on Mini at level",
        ),
        (("--denoiser", "median", "--level", "10"), "no published number of median on Mini at level 10"),
        (("--denoiser", "medain"), "medain"),
    ],
)
def test_what_is_not_published_is_said(
    benchbox: Command, mini: Callable[[float], Path], words: tuple[str, ...], message: str
) -> None:
    refused = benchbox("verify", mini(28.13), *words, code=2).stderr
    assert message in refused
    assert "--as" not in words or "known: Nothing at 10" in refused
    if "--level" in words:
        assert "--as and --level choose" in benchbox("verify", *words, code=2).stderr


def test_a_conflicting_number_does_not_count_in_the_badge(
    benchbox: Command, mini: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = mini(28.13)
    (claim, *_) = published.load_claims()
    both = (claim, replace(claim, value=20.0, conflicts=True))
    monkeypatch.setattr(published, "load_claims", lambda: both)
    benchbox("verify", folder, "--denoiser", "identity", "--as", "Nothing", "--badge", "b.svg")
    assert "1 of 1 agree" in (tmp_path / "b.svg").read_text()


def test_pictures_are_known_again_in_other_files(benchbox: Command, mini: Callable[[float], Path], cache: Path) -> None:
    folder, other = mini(28.13), mini(28.13).parent / "other"
    other.mkdir()
    asked = ("--denoiser", "identity", "--as", "Nothing", "--format", "json")
    for name, before in (("a.bmp", "02.png"), ("b.bmp", "01.png")):  # in the reverse order
        Image.open(folder / before).save(other / name)
    assert "no standard set" in benchbox("verify", other, *asked, code=2).stderr
    first = json.loads(benchbox("verify", folder, *asked).stdout)
    again = json.loads(benchbox("verify", other, *asked).stdout)
    assert [(one["confirmed"], one["seen"]) for one in (*first["sets"], *again["sets"])] == [
        (True, False),
        (True, True),
    ]
    titles = {claim["title"]: claim["passed"] for claim in again["claims"]}
    assert titles == {"": True, "one": True, "two": True}
    shown = benchbox("verify", other, *asked[:-2], COLUMNS="40").stdout
    assert "recognised by the pixels of a folder seen before" in shown
    assert "paper a paper" in shown  # below the table, which is too wide for it


def test_published_numbers_are_compared_with_8_bit_results() -> None:
    assert {claim.protocol for claim in load_claims()} == {"rounded-output"}


def test_an_unknown_published_name_is_refused(benchbox: Command) -> None:
    assert "DnCNN-S" in benchbox("verify", "--as", "DnCNN-s", code=2).stderr
