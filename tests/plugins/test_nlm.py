"""Non-local means: scikit-image's result in float over stacks, OpenCV's in 8 bit."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from benchbox_nlm.nl_means import NLMeans, default_options
from benchbox_nlm.opencv_nlm import OpenCVNLM
from numpy.typing import NDArray
from skimage import data
from skimage.restoration import denoise_nl_means

from benchbox import BenchboxError, Denoiser, Images

BOTH = pytest.mark.parametrize("made", [NLMeans, OpenCVNLM])


def add_noise(clean: NDArray[np.float32], sigma: float, seed: int = 1) -> NDArray[np.float32]:
    return (clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape)).astype(np.float32)


def photograph(height: int, width: int) -> NDArray[np.float32]:
    return np.asarray(data.camera()[100 : 100 + height, 180 : 180 + width] / 255, np.float32)


def psnr(clean: Images, image: Images) -> float:
    return float(-10 * np.log10(np.square(clean - image.clip(0, 1), dtype=np.float64).mean()))


@pytest.mark.parametrize("sigma", [0.05, pytest.param(0.2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("patch_size", [3, 7, 9])
@pytest.mark.parametrize(("size", "distance"), [((30, 41), 6), ((70, 140), 3), ((9, 12), 11)])
def test_equals_scikit_image(size: tuple[int, int], distance: int, patch_size: int, sigma: float) -> None:
    """Also where an image takes several tiles, or is smaller than the window."""
    noisy = add_noise(photograph(*size), sigma)
    ours = NLMeans(patch_size=patch_size, patch_distance=distance, strength=0.7).denoise(
        noisy[None].copy(), np.full(1, sigma, np.float32)
    )[0]
    theirs = denoise_nl_means(
        noisy.astype(np.float64), patch_size, distance, h=0.7 * sigma, fast_mode=False, sigma=sigma
    )
    assert np.abs(ours - theirs).max() < 1e-3
    assert abs(psnr(photograph(*size), ours) - psnr(photograph(*size), theirs)) < 0.01


def test_opencv_is_opencv() -> None:
    import cv2

    noisy = add_noise(photograph(40, 50), 0.1)
    ours = OpenCVNLM(patch_size=7, patch_distance=8, strength=1.0).denoise(
        noisy[None].copy(), np.full(1, 0.1, np.float32)
    )
    grey = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
    assert np.array_equal(
        np.rint(ours[0] * 255), cv2.fastNlMeansDenoising(grey, None, float(np.float32(0.1)) * 255, 7, 17)
    )


@BOTH
@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1, 0.2, 0.4])
def test_defaults_remove_noise(made: type[Denoiser], sigma: float) -> None:
    clean = photograph(96, 96)[None]
    noisy = add_noise(clean, sigma)
    assert psnr(clean, made().denoise(noisy.copy(), np.full(1, sigma, np.float32))) > psnr(clean, noisy) + 1


@BOTH
def test_alone_as_in_a_stack_on_any_number_of_threads(made: type[Denoiser], monkeypatch: pytest.MonkeyPatch) -> None:
    levels = np.array([0.1, 0.02, 0.0, 0.3, 0.1], np.float32)
    for size in ((48, 48), (100, 140)):
        noisy = np.stack([add_noise(photograph(*size), 0.1, seed) for seed in range(len(levels))])
        results = []
        for count in ("1", "3"):
            monkeypatch.setenv("BENCHBOX_THREADS", count)
            results.append(made().denoise(noisy.copy(), levels))
        assert np.array_equal(results[0], results[1])
        assert np.array_equal(results[0][2], noisy[2])
        for index in range(len(levels)):
            alone = made().denoise(noisy[index : index + 1].copy(), levels[index : index + 1])
            assert np.array_equal(alone[0], results[0][index])


@BOTH
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (5, 64), (65, 129)])
def test_any_size_and_constants_unchanged(made: type[Denoiser], size: tuple[int, int]) -> None:
    constant = np.full((2, *size), 0.2, np.float32)
    result = made().denoise(constant.copy(), np.array([0.1, 0.3], np.float32))
    assert result.dtype == np.float32
    assert np.abs(result - constant).max() < 1e-5


def test_default_options_grow_with_the_noise() -> None:
    patches = [default_options(sigma)[0] for sigma in (0.01, 0.05, 0.1, 0.2, 0.5)]
    assert patches == sorted(patches)
    assert len(set(patches)) > 2


@BOTH
def test_bad_options_are_refused(made: type[Denoiser]) -> None:
    for options in ({"patch_size": 4}, {"patch_distance": 0}, {"strength": 0.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            made(**options)
    with pytest.raises(BenchboxError, match="noise level"):
        made().denoise(np.zeros((1, 8, 8), np.float32), None)


@pytest.mark.process
def test_looking_imports_nothing_heavy() -> None:
    code = "import benchbox_nlm, sys; benchbox_nlm.benchbox_denoisers(); print({'numba', 'cv2'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert shown.stdout.strip() == "set()"
