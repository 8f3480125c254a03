"""The audit of recorded pairs finds the bias, gain, shift, blocks and noise that were put in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from benchbox.audit.pairs import PairFacts, examine_pairs, warnings_for_run, warnings_of
from benchbox.builtin.datasets.pairs import Pairs

Command = Callable[..., CompletedProcess[str]]
Pixels = NDArray[np.float32]
LEVEL = 8


def big() -> Pixels:
    return np.asarray(cv2.resize(data.chelsea(), (300, 240), interpolation=cv2.INTER_AREA), np.float32)


def inside(picture: Pixels) -> Pixels:
    return picture[10:-10, 10:-10]


def noise(seed: int) -> Pixels:
    drawn = np.random.default_rng(seed).standard_normal((220, 280, 3), dtype=np.float32)
    return np.float32(LEVEL) * drawn


def write(root: Path, name: str, noisy: Pixels, clean: Pixels, quality: int = 0) -> None:
    for folder, picture in (("noisy", noisy), ("clean", clean)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        jpeg = quality and folder == "clean"
        file = root / folder / f"{name}.{'jpg' if jpeg else 'png'}"
        pixels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)[..., ::-1]
        cv2.imwrite(str(file), pixels, [cv2.IMWRITE_JPEG_QUALITY, quality] if jpeg else [])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pairs") / "cameras"
    clean = inside(big())
    moved = cv2.warpAffine(big(), np.array([[1, 0, 0.3], [0, 1, -0.5]], np.float32), (300, 240), flags=cv2.INTER_CUBIC)
    write(root, "sound", clean + noise(0), clean)
    write(root, "brighter", clean + noise(1) + np.array([3, 0, -2], np.float32), clean)
    write(root, "gained", np.float32(1.05) * clean + noise(2) - 6, clean)
    write(root, "moved", inside(np.asarray(moved, np.float32)) + noise(3), clean)
    write(root, "blocks", clean + noise(4), clean, quality=20)
    write(root, "noisy_truth", clean + noise(5), clean + np.float32(0.5) * noise(6))
    return root


@pytest.fixture(scope="module")
def facts(root: Path) -> dict[str, PairFacts]:
    return {Path(pair.id).stem: pair for pair in examine_pairs(Pairs().load(root))}


def test_a_sound_pair(facts: dict[str, PairFacts]) -> None:
    sound = facts["sound"]
    assert sound.bias < 0.2
    assert sound.gain == pytest.approx((1, 1, 1), abs=0.01)
    assert sound.distance == 0
    assert sound.noise == pytest.approx(LEVEL * np.linalg.norm([0.299, 0.587, 0.114]), rel=0.1)
    assert sound.noise_of_clean < 0.7
    assert max(sound.blocking) < 1.15
    assert sound.ceiling_db > 60


def test_what_was_put_in_is_found(facts: dict[str, PairFacts]) -> None:
    assert facts["brighter"].difference == pytest.approx((3, 0, -2), abs=0.2)
    error = np.mean([3**2, 0, 2**2]) / 255**2
    assert facts["brighter"].ceiling_db == pytest.approx(-10 * np.log10(error), abs=0.5)
    assert facts["gained"].gain == pytest.approx((1.05, 1.05, 1.05), abs=0.01)
    assert facts["gained"].offset == pytest.approx((-6, -6, -6), abs=1)
    assert facts["moved"].shift == pytest.approx((-0.5, 0.3), abs=0.06)
    assert facts["blocks"].blocking[1] > 1.3
    assert facts["blocks"].blocking[0] < 1.1
    assert facts["noisy_truth"].noise_of_clean > 3 * facts["sound"].noise_of_clean


def test_warnings_name_the_worst(facts: dict[str, PairFacts]) -> None:
    brightness, shift = warnings_of(list(facts.values()))
    assert "more than 1 of 255 in 2 of 6 pairs, most in noisy/brighter.png (3." in brightness
    assert "stays below" in brightness
    assert "shifted by more than 0.25 pixels in 1 of 6 pairs, most in noisy/moved.png (0.58)" in shift
    assert list(warnings_of([facts["sound"], facts["blocks"]])) == []


def test_the_ceiling_is_that_of_the_pairs_named(facts: dict[str, PairFacts]) -> None:
    (brightness,) = warnings_of([facts["sound"], facts["brighter"]])
    assert brightness.endswith(f"even a perfect denoiser stays below {facts['brighter'].ceiling_db:.1f} dB")


def test_no_shift_is_made_up_of_noise(tmp_path: Path) -> None:
    flat = np.full((220, 280, 3), 100, np.float32) + np.linspace(0, 6, 280, dtype=np.float32)[:, np.newaxis]
    for seed in range(12):
        write(tmp_path, str(seed), flat + 2 * noise(seed), flat)
    found = list(examine_pairs(Pairs().load(tmp_path)))
    assert all(np.isnan(pair.shift).all() for pair in found)
    assert list(warnings_of(found)) == []


@pytest.mark.slow
def test_wrong_partners_are_pointed_out(root: Path, tmp_path: Path, benchbox: Command) -> None:
    other = np.asarray(cv2.resize(data.coffee(), (280, 220), interpolation=cv2.INTER_AREA), np.float32)
    clean = inside(big())
    for name, noisy in (("a", other), ("b", clean), ("c", clean)):
        write(tmp_path / "set", name, noisy + noise(0), clean)
    found = list(examine_pairs(Pairs().load(tmp_path / "set")))
    assert [pair.is_unlike for pair in found] == [True, False, False]
    warning = "noisy and clean seem to be different pictures in 1 of 3 pairs, such as noisy/a.png"
    assert list(warnings_of(found)) == [warning]
    # It comes before everything else below the table of a run, such as the remark that a row changed nothing.
    words = ["identity", "median", "--data", "set", "--metric", "psnr", "--no-timing", "--previews", "0"]
    shown = benchbox("run", *words).stdout
    assert f", see --verbose): {warning}" in shown


def test_folders_that_were_named_in_the_wrong_order(root: Path, benchbox: Command) -> None:
    text = benchbox("data", "audit", "--noisy", root / "clean", "--clean", root / "noisy").stdout
    assert "warning: the picture called clean has more noise in 6 of 6 pairs, most in " in text
    shown = benchbox("data", "info", "--noisy", root / "noisy", "--clean", root / "clean").stdout
    assert shown.endswith(f"Example: benchbox run --noisy {root / 'noisy'} --clean {root / 'clean'}\n")


@pytest.mark.slow
def test_the_command(root: Path, benchbox: Command, tmp_path: Path) -> None:
    text = benchbox("data", "audit", root, "--picture", "worst.png").stdout
    assert text.startswith("6 pairs of 6 scenes; the worst first, levels of 255:")
    assert text.splitlines()[2].split()[0] == "noisy/brighter.png"
    assert "warning: brightness differs" in text
    assert cv2.imread(str(tmp_path / "worst.png")) is not None
    found = json.loads(
        benchbox("data", "audit", "--noisy", root / "noisy", "--clean", root / "clean", "--format", "json").stdout
    )
    assert len(found["warnings"]) == 2
    assert found["pairs"][0]["difference"] == pytest.approx([3, 0, -2], abs=0.2)
    assert "two folders" in benchbox("data", "audit", "--noisy", root / "noisy", code=2).stderr
    assert "6 images, 220x280 RGB" in benchbox("data", "info", root).stdout
    orphan = root / "noisy/orphan.png"
    orphan.write_bytes((root / "noisy/brighter.png").read_bytes())
    shown = benchbox("data", "info", root, "--skip-bad", "--color", "grey").stdout
    orphan.unlink()
    assert shown.endswith(f"Example: benchbox run --data {root} --color grey --skip-bad\n")


@pytest.mark.slow
def test_a_run_says_it(root: Path, benchbox: Command) -> None:
    assert len(warnings_for_run(Pairs().load(root))) == 2
    words = ["identity", "--data", root, "--metric", "psnr", "--no-timing", "--previews", "0"]
    shown = benchbox("run", *words).stdout
    assert "brightness differs by more than 1 of 255 in 2 of 6 pairs" in shown
