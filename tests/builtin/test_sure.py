"""PSNR without clean images: unbiased for filters whose divergence is known, near the truth in a run, and refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
from made_pictures import save
from numpy.typing import NDArray
from scipy.stats import kendalltau
from skimage import data

from benchbox.api.dataset import ImageSet
from benchbox.builtin.sigma import PsnrSure, doubts_about

Command = Callable[..., CompletedProcess[str]]
Stack = NDArray[np.float32]
LEVEL = np.float32(0.1)


def grey(side: int = 128) -> Stack:
    pictures = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (data.astronaut(), data.coffee())]
    pictures += [data.camera(), data.coins()]
    small = [cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA) for picture in pictures]
    return np.stack(small).astype(np.float32) / np.float32(255)


def noisy(clean: Stack, seed: int = 0) -> Stack:
    return clean + LEVEL * np.random.default_rng(seed).standard_normal(clean.shape, dtype=np.float32)


def blur(stack: Stack) -> Stack:
    return np.stack([cv2.GaussianBlur(image, (0, 0), 1.0) for image in stack])


def mse_of(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 10 ** (-scores / 10)
    return found


def test_a_linear_filter_of_known_divergence() -> None:
    """Of a blur, the divergence per pixel is the kernel's centre, except at borders; of the identity it is 1."""
    taps = cv2.getGaussianKernel(7, 1.0)  # OpenCV's own size for this width
    clean = np.pad(grey(), ((0, 0), (8, 8), (8, 8)), mode="edge")
    seen = noisy(clean)
    sigma = np.full(len(seen), LEVEL)
    found = mse_of(PsnrSure().estimate(seen, blur(seen), sigma, blur))
    centre = float(taps[3, 0] ** 2)
    residual = np.square((blur(seen) - seen).astype(np.float64)).mean(axis=(1, 2))
    expected = residual + float(LEVEL) ** 2 * (2 * centre - 1)
    assert found == pytest.approx(expected, rel=0.08)
    same = mse_of(PsnrSure().estimate(seen, seen, sigma, lambda stack: stack.copy()))
    assert same == pytest.approx([float(LEVEL) ** 2] * 4, rel=0.05)


def test_it_is_unbiased_over_draws() -> None:
    clean = grey(64)
    errors = []
    for seed in range(60):
        seen = noisy(clean, seed)
        true = np.square((blur(seen) - clean).astype(np.float64)).mean(axis=(1, 2))
        errors.append(mse_of(PsnrSure().estimate(seen, blur(seen), np.full(4, LEVEL), blur)) / true - 1)
    spread = np.std(errors, axis=0) / np.sqrt(len(errors))
    assert (np.abs(np.mean(errors, axis=0)) < 4 * spread).all()
    assert spread.max() < 0.02


def test_colour_is_joint_and_stacks_do_not_matter() -> None:
    seen = np.repeat(noisy(grey(32))[..., None], 3, axis=3)
    seen[..., 1:] += np.float32(0.02)
    sigma = np.full(4, LEVEL)

    def denoise(stack: Stack) -> Stack:
        halved: Stack = np.float32(0.5) * stack
        return halved

    together = PsnrSure().estimate(seen, denoise(seen), sigma, denoise)
    alone = [PsnrSure().estimate(seen[i : i + 1], denoise(seen[i : i + 1]), sigma[:1], denoise)[0] for i in range(4)]
    np.testing.assert_array_equal(together, alone)
    assert together.shape == (4,)


def test_a_smooth_image_is_limited_and_one_without_noise_has_no_score() -> None:
    flat = np.full((2, 32, 32), 0.5, np.float32)
    seen = noisy(flat)
    scores = PsnrSure().estimate(seen, flat, np.array([LEVEL, 0], np.float32), lambda stack: flat.copy())
    assert scores[0] <= -10 * np.log10(float(LEVEL) ** 2 * np.sqrt(2 / 1024)) + 1e-9
    assert np.isnan(scores[1])


@pytest.mark.slow
def test_a_run_agrees_with_the_truth(benchbox: Command) -> None:
    rows = [
        "bm3d_lite",
        "nl_means",
        "wavelet",
        "wiener",
        "tv_chambolle",
        "opencv_nlm",
        "gaussian_blur",
        "median",
        "identity",
    ]
    words = ["--metric", "psnr", "--metric", "psnr_sure", "--no-timing", "--previews", "0", "--format", "json"]
    board = json.loads(benchbox("run", *rows, *words, "--noise", "gaussian:25/255").stdout)
    scores = {row["denoiser"]: row["scores"] for row in board["blocks"][0]["rows"]}
    truth, estimate = ([scores[name][metric]["mean"] for name in rows] for metric in ("psnr", "psnr_sure"))
    assert np.abs(np.subtract(truth, estimate)).max() < 0.4  # 0.31 were seen, for bm3d_lite
    assert kendalltau(truth, estimate).statistic > 0.85
    assert all(scores[name]["psnr_sure"]["undefined"] == 0 for name in rows)


@pytest.mark.slow
def test_noisy_pictures_alone_are_ranked(benchbox: Command, tmp_path: Path) -> None:
    for place, picture in enumerate(grey(96)):
        for part in range(2):
            crop = noisy(0.25 + 0.5 * picture[None], 10 * place + part)[0, :, 48 * part : 48 * part + 48]
            save(tmp_path / f"noisy/{place}{part}.png", np.rint(crop.clip(0, 1) * 255).astype(np.uint8))
    words = ["--data", "noisy", "--noise", "recorded", "--no-timing"]
    text = benchbox("run", "identity", "bm3d_lite", "gaussian_blur", *words).stdout
    assert "recorded, ranked by PSNR SURE, estimated without clean images" in text
    assert "estimated" in text
    board = json.loads(benchbox("leaderboard", "latest", "--format", "json").stdout)
    (block,) = board["blocks"]
    assert [row["denoiser"] for row in block["rows"]] == ["bm3d_lite", "gaussian_blur", "identity"]
    assert block["noisy_psnr"] is None
    assert board["header"]["has_clean"] is False
    assert block["rows"][2]["scores"]["psnr_sure"]["mean"] == pytest.approx(20, abs=0.7)
    benchbox("report", "latest")
    assert "identical" in benchbox("replay", "latest").stdout
    assert "reused 3 of 3 cells" in benchbox("run", "identity", "bm3d_lite", "gaussian_blur", *words).stderr


def test_noisy_pictures_alone_can_fail_a_gate(benchbox: Command, tmp_path: Path) -> None:
    save(tmp_path / "noisy/a.png", np.rint(255 * noisy(0.25 + 0.5 * grey(48)[:1])[0].clip(0, 1)).astype(np.uint8))
    words = ["--data", "noisy", "--noise", "recorded", "--no-timing", "--sort", "psnr_sure"]
    failed = benchbox("run", "median", *words, "--fail-if", "psnr_sure < 60 dB", code=3)
    assert "gate failed: psnr_sure < 60 dB: median on recorded" in failed.stderr
    benchbox("run", "median", *words, "--fail-if", "psnr_sure < 10 dB")
    assert re.search(r"median .*\b0\.00\b", benchbox("compare").stdout)
    assert "without clean images, none are kept" in benchbox("show", "latest", code=2).stderr
    save(tmp_path / "noisy/a.png", np.rint(255 * noisy(0.25 + 0.5 * grey(48)[1:2])[0].clip(0, 1)).astype(np.uint8))
    benchbox("run", "median", *words)
    assert "not comparable: images is" in benchbox("compare", code=2).stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metric", "psnr_sure", "--noise", "poisson:30"], "white Gaussian noise only, not for poisson:30"),
        (["--metric", "psnr_sure", "--clip"], "not for noise changed by --clip"),
        (["--metric", "psnr_sure", "--quantize"], "not for noise changed by --quantize"),
        (["--noise", "recorded"], "the images of sample are clean"),
        (["--noise", "recorded", "--data", "noisy", "--metric", "ssim"], "--metric ssim needs clean images"),
    ],
)
def test_what_it_is_not_for_is_refused(words: list[str], message: str, benchbox: Command, tmp_path: Path) -> None:
    save(tmp_path / "noisy/a.png", np.rint(255 * grey(48)[0]).astype(np.uint8))
    result = benchbox("run", "median", *words, code=2)
    assert message in result.stderr
    assert "hint: " in result.stderr


def test_doubts_are_said() -> None:
    def images(stack: Stack) -> ImageSet:
        def read(indices: NDArray[np.intp]) -> Stack:
            return stack[indices]

        shapes = np.tile(np.array(stack.shape[1:3]), (len(stack), 1))
        return ImageSet("a", "", tuple("abcd"), shapes, "f", read, read_noisy=read)

    middle = np.float32(0.3) + np.float32(0.4) * grey()
    assert list(doubts_about(images(noisy(middle)))) == []
    smeared = middle + 2 * LEVEL * blur(np.random.default_rng(0).standard_normal(middle.shape, dtype=np.float32))
    assert "correlated" in " ".join(doubts_about(images(smeared)))
    assert "black or white" in " ".join(doubts_about(images(noisy(grey() - np.float32(0.2)).clip(0, 1))))
