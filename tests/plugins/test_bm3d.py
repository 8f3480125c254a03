"""BM3D-lite: equal to a plain NumPy version, harmless where nothing is to be done, the same on any threads."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from benchbox_bm3d import anscombe, transforms
from benchbox_bm3d.bm3d_lite import BM3DLite
from benchbox_bm3d.pipeline import Lines, Workers, denoise, plan, run_stage
from benchbox_bm3d.plain import PLAIN, plain_blend, plain_denoise, plain_stage
from benchbox_bm3d.profiles import Effort, Stage, choose
from benchbox_bm3d.tiles import blend
from made_scenes import add_noise, psnr, scene
from numpy.typing import NDArray

from benchbox import BenchboxError, Images
from benchbox.builtin.datasets.sample import Sample
from benchbox.builtin.sigma import estimate_sigma
from benchbox.registry import load_registry


def photographs() -> Images:
    return Sample().load(None).stack(np.arange(0, 142, 4))


# --- the whole algorithm --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("effort", ["fast", "normal", "high"])
@pytest.mark.parametrize(("height", "width", "sigma"), [(21, 26, 0.1), (24, 17, 0.2), (8, 30, 0.05), (9, 8, 0.1)])
def test_equals_the_plain_version_on_small_images(effort: Effort, height: int, width: int, sigma: float) -> None:
    noisy = add_noise(scene(height, width), sigma)
    profile = choose(height, width, sigma, effort)
    ours = denoise(noisy[None], np.full(1, sigma, np.float32), profile, 1)[0]
    assert np.abs(ours - plain_denoise(noisy.astype(np.float64), float(np.float32(sigma)), profile)).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.06, 0.2])
def test_equals_the_plain_version_with_the_profile_of_photographs(sigma: float) -> None:
    noisy = add_noise(scene(30, 41), sigma)
    profile = choose(1000, 1000, sigma, "normal")
    ours = denoise(noisy[None], np.full(1, sigma, np.float32), profile, 1)[0]
    assert np.abs(ours - plain_denoise(noisy.astype(np.float64), float(np.float32(sigma)), profile)).max() < 1e-4


@pytest.mark.slow
def test_equals_the_plain_version_across_tiles() -> None:
    """Wide enough for two tiles, so that matches cross from one to the other."""
    noisy = add_noise(scene(20, 150), 0.1)
    stage = choose(1000, 1000, 0.1, "normal").hard[0]
    assert len(plan(1, 20, 150, stage.side, stage.step, stage.reach)) > 1
    stack, sigma = noisy[None, None], np.full(1, 0.1, np.float32)
    with Workers(2) as workers:
        ours = run_stage(stack, stack[:0], sigma, stage, workers)
    assert np.abs(ours - plain_stage(stack[0].astype(np.float64), None, sigma.astype(np.float64), stage)).max() < 1e-4


# --- parts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", ["dct", "bior"])
@pytest.mark.parametrize("side", [4, 8])
def test_transforms_have_unit_rows_and_an_inverse(transform: transforms.Transform, side: int) -> None:
    lines = Lines.of(transform, side, 0.0)
    assert np.abs(lines.synthesis @ lines.analysis - np.eye(side)).max() < 1e-5
    assert np.abs(np.linalg.norm(lines.analysis, axis=1) - 1).max() < 1e-6


def test_dct_is_scipys() -> None:
    from scipy.fft import dct

    assert np.abs(transforms.dct(8) - dct(np.eye(8), axis=0, norm="ortho")).max() < 1e-12


def test_bior_is_that_of_pywavelets_with_rows_of_unit_norm() -> None:
    import pywt

    columns = []
    for line in np.eye(8):
        parts: list[PLAIN] = []
        while len(line) > 1:
            line, detail = pywt.dwt(line, "bior1.5", mode="periodization")
            parts.insert(0, detail)
        columns.append(np.concatenate([line, *parts]))
    theirs = np.stack(columns, axis=1)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    # The sign of a wavelet is a matter of taste.
    assert np.abs(np.abs(transforms.bior(8)) - np.abs(theirs)).max() < 1e-10


@pytest.mark.parametrize("side", [4, 8])
@pytest.mark.parametrize("transform", ["dct", "bior"])
def test_a_stage_that_keeps_everything_returns_the_image(transform: transforms.Transform, side: int) -> None:
    """Forward transform, Haar, both inverses and aggregation undo each other."""
    image = add_noise(scene(40, 33), 0.3)[None, None]
    stage = Stage(transform, side, 3, 16, 8, 0.0, 1e6, 0.0, 16)
    with Workers(1) as workers:
        same = run_stage(image, image[:0], np.full(1, 0.1, np.float32), stage, workers)
    assert np.abs(same - image).max() < 1e-5


def test_small_patches_count_where_there_is_detail() -> None:
    """A smooth image stays with the large patches; one of strong detail becomes the mean of both."""
    smooth = np.full((1, 30, 41), 0.4, np.float32)
    detail = np.random.default_rng(0).random((1, 30, 41), np.float32)
    halves = np.full(1, 1e-6, np.float32)
    for coarse, share in ((smooth, 0.0), (detail, 0.5)):
        fine = coarse[:, ::-1] * np.float32(0.5)
        blended = coarse.copy()
        blend(blended, fine, 0, 1, halves)
        assert np.abs(blended - (coarse + share * (fine - coarse))).max() < 1e-4


def test_blends_by_the_variance_around_each_pixel() -> None:
    images = np.stack([scene(21, 34), scene(21, 34, 1), scene(21, 34, 2)])
    fine, halves = images[:, :, ::-1].copy(), np.array([0.01, 0.1, 0.001], np.float32)
    blended = images.copy()
    blend(blended, fine, 0, 3, halves)
    for index in range(3):
        plain = plain_blend(images[index].astype(np.float64), fine[index].astype(np.float64), float(halves[index]))
        assert np.abs(blended[index] - plain).max() < 1e-6


@pytest.mark.parametrize("length", [8, 9, 48, 103, 104, 105, 107, 210, 1000])
@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_tiles_hold_each_reference_once_and_all_that_it_may_match(length: int, step: int) -> None:
    tiles = plan(1, length, 8, 8, step, 19)
    places = [place for _, first, last, *_ in tiles.tolist() for place in sorted({*range(first, last + 1, step), last})]
    assert places == sorted({*range(0, length - 8, step), length - 8})
    for _, first, last, _, _, top, _, rows, _ in tiles.tolist():
        assert top == max(0, first - 19)
        assert top + rows - 1 == min(length - 8, last + 19)


# --- what anyone may rely on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (8, 50), (13, 9), (48, 48), (97, 130), (120, 100)])
@pytest.mark.parametrize("effort", ["fast", "normal", "high"])
def test_any_size(size: tuple[int, int], effort: Effort) -> None:
    clean = np.full((2, *size), 0.4, np.float32)
    result = BM3DLite(profile=effort).denoise(add_noise(clean, 0.1), np.full(2, 0.1, np.float32))
    assert result.shape == clean.shape
    assert result.dtype == np.float32
    assert np.square(result - clean).mean() < 0.1 * 0.1**2


def test_too_small_is_refused() -> None:
    with pytest.raises(BenchboxError, match="at least 8x8 pixels, got 7x30"):
        BM3DLite().denoise(np.zeros((1, 7, 30), np.float32), np.full(1, 0.1, np.float32))
    with pytest.raises(BenchboxError, match="noise level"):
        BM3DLite().denoise(np.zeros((1, 8, 8), np.float32), None)


@pytest.mark.parametrize("size", [(48, 48), (130, 110)])
def test_constant_images_and_images_without_noise_come_back(size: tuple[int, int]) -> None:
    constant = np.full((2, *size), 0.7, np.float32)
    assert np.abs(BM3DLite().denoise(constant.copy(), np.array([0.05, 0.3], np.float32)) - constant).max() < 1e-5
    noisy = add_noise(scene(*size), 0.2)[None]
    assert np.array_equal(BM3DLite().denoise(noisy.copy(), np.zeros(1, np.float32)), noisy)


@pytest.mark.slow
@pytest.mark.parametrize("effort", ["fast", "normal", "high"])
@pytest.mark.parametrize("sigma", [0.05, 0.2])
@pytest.mark.parametrize("size", [(48, 48), (64, 64), (160, 160)])
def test_pure_noise_loses_98_percent_of_its_variance(size: tuple[int, int], sigma: float, effort: Effort) -> None:
    clean = np.full((8, *size), 0.5, np.float32)
    result = BM3DLite(profile=effort).denoise(add_noise(clean, sigma), np.full(8, sigma, np.float32))
    assert np.square(result - clean, dtype=np.float64).mean() < 0.02 * sigma**2


@pytest.mark.parametrize("effort", ["normal", "high"])
@pytest.mark.parametrize("sigma", [0.05, 0.2])
def test_a_small_image_without_detail_is_smoothed_as_well_as_a_large_one(sigma: float, effort: Effort) -> None:
    """Patches of 4x4 alone leave twice the noise and more; the package bm3d leaves 0.5 to 0.9 % of its variance."""
    clean = np.full((8, 48, 48), 0.5, np.float32)
    result = BM3DLite(profile=effort).denoise(add_noise(clean, sigma), np.full(8, sigma, np.float32))
    assert np.square(result - clean, dtype=np.float64).mean() < 0.008 * sigma**2


def test_flips_and_transposition_commute_up_to_the_order_of_sums() -> None:
    """With a step of 1 the reference patches of a flipped image are those of the image, flipped."""
    image = add_noise(scene(30, 26), 0.1)
    dct = Stage("dct", 8, 1, 16, 8, 2.7, 2500, 2.0, 64)
    with Workers(1) as workers:

        def stage(noisy: NDArray[np.float32]) -> NDArray[np.float32]:
            stack = np.ascontiguousarray(noisy)[None, None]
            estimate: NDArray[np.float32] = run_stage(stack, stack[:0], np.full(1, 0.1, np.float32), dct, workers)[0, 0]
            return estimate

        straight = stage(image)
        for turned in (stage(image[::-1])[::-1], stage(image[:, ::-1])[:, ::-1], stage(image.T).T):
            assert np.abs(turned - straight).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2])
@pytest.mark.parametrize(
    ("effort", "height", "width"), [("normal", 44, 38), ("normal", 26, 50), ("high", 48, 48), ("fast", 48, 48)]
)
def test_the_whole_filter_commutes_with_flips_where_its_grid_is_symmetric(
    effort: Effort, height: int, width: int, sigma: float
) -> None:
    """What is left is rounding, which may tip a coefficient over the threshold or swap patches equally near."""
    profile = choose(height, width, sigma, effort)
    assert all(
        (length - one.side) % one.step == 0 for one in profile.hard + profile.wiener for length in (height, width)
    )
    clean = photographs()
    noisy = add_noise(np.concatenate([clean, clean], axis=2)[:, :height, :width], sigma)
    level = np.full(len(noisy), sigma, np.float32)
    straight = denoise(noisy, level, profile, 2)
    for axes in ((1,), (2,), (1, 2)):
        flipped = np.ascontiguousarray(np.flip(noisy, axes))
        change = np.abs(np.flip(denoise(flipped, level, profile, 2), axes) - straight)
        assert np.median(change) < 1e-6
        assert np.mean(change > 1e-4) < 0.05
        assert np.sqrt(np.square(change, dtype=np.float64).mean()) < 2e-3 * sigma


def test_a_flip_changes_little_where_the_grid_is_not_symmetric() -> None:
    """At 48x48 the grid of step 3 is not symmetric: the last row and column of patches follow after one pixel."""
    clean = photographs()
    noisy, level = add_noise(clean, 0.1), np.full(len(clean), 0.1, np.float32)
    straight = BM3DLite().denoise(noisy.copy(), level)
    turned = BM3DLite().denoise(np.ascontiguousarray(noisy.transpose(0, 2, 1)), level).transpose(0, 2, 1)
    assert np.sqrt(np.square(turned - straight, dtype=np.float64).mean()) < 2e-3 * 0.1
    for axis in (1, 2):
        flipped = np.flip(BM3DLite().denoise(np.ascontiguousarray(np.flip(noisy, axis)), level), axis)
        assert np.sqrt(np.square(flipped - straight, dtype=np.float64).mean()) < 0.05 * 0.1
        assert abs(psnr(clean, flipped) - psnr(clean, straight)) < 0.02


@pytest.mark.slow
def test_alone_as_in_a_stack_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = np.array([0.1, 0.02, 0.0, 0.1, 0.3, 0.06], np.float32)
    for size in ((48, 48), (150, 120)):
        noisy = np.stack([add_noise(scene(*size, seed), 0.1, seed) for seed in range(len(levels))])
        results = []
        for count in ("1", "2", "5"):
            monkeypatch.setenv("BENCHBOX_THREADS", count)
            results.append(BM3DLite().denoise(noisy.copy(), levels))
        assert np.array_equal(results[0], results[1])
        assert np.array_equal(results[0], results[2])
        for index in range(len(levels)):
            alone = BM3DLite().denoise(noisy[index : index + 1].copy(), levels[index : index + 1])
            assert np.array_equal(alone[0], results[0][index])


def test_many_threads_may_call_it_at_once() -> None:
    noisy = np.stack([add_noise(scene(48, 48, seed), 0.1, seed) for seed in range(6)])
    sigma = np.full(1, 0.1, np.float32)
    expected = [BM3DLite().denoise(image[None].copy(), sigma) for image in noisy]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda image: BM3DLite().denoise(image[None].copy(), sigma), noisy))
    assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))


def test_effort_buys_quality() -> None:
    clean = np.stack([scene(48, 48, seed) for seed in range(4)])
    noisy, sigma = add_noise(clean, 0.1), np.full(4, 0.1, np.float32)
    fast, normal = (psnr(clean, BM3DLite(profile=effort).denoise(noisy.copy(), sigma)) for effort in ("fast", "normal"))
    assert normal > fast > psnr(clean, noisy) + 6


@pytest.mark.process
def test_looking_imports_nothing_heavy() -> None:
    code = (
        "import benchbox_bm3d, sys; benchbox_bm3d.benchbox_denoisers();"
        "print({'numba', 'llvmlite', 'scipy'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert shown.stdout.strip() == "set()"


@pytest.mark.slow
def test_a_photograph_of_4096_pixels_needs_less_than_2_gigabytes() -> None:
    code = """
import re, pathlib, numpy as np
from benchbox_bm3d.bm3d_lite import BM3DLite
noisy = np.random.default_rng(0).standard_normal((1, 4096, 4096), dtype=np.float32)
BM3DLite(profile="fast").denoise(noisy, np.full(1, 1, np.float32))
# Not ru_maxrss: a new program inherits the largest memory of the process that started it.
print(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert int(shown.stdout) * 1024 < 2e9


# --- Poisson noise -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0.0, 0.2, 1.0, 5.0, 30.0, 49.0, 51.0, 200.0])
def test_the_inverse_of_anscombe_is_unbiased(count: float) -> None:
    from scipy import stats

    draws = np.arange(600)
    mean = float((stats.poisson.pmf(draws, count) * 2 * np.sqrt(draws + 3 / 8)).sum())
    assert abs(float(anscombe.unbiased_inverse(np.array([mean]))[0]) - count) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("peak", [5.0, 40.0])
def test_anscombe_helps_with_poisson_noise_and_auto_knows_it(peak: float) -> None:
    clean = np.stack([scene(48, 48, seed) for seed in range(4)]).clip(0, 1)
    draws: Images = np.random.default_rng(3).poisson(clean * peak).astype(np.float32) / np.float32(peak)
    sigma: NDArray[np.float32] = np.asarray(np.sqrt(clean.mean((1, 2)) / peak), np.float32)
    plain, stable, auto = (BM3DLite(vst=vst).denoise(draws.copy(), sigma) for vst in ("none", "anscombe", "auto"))
    assert psnr(clean, stable) > psnr(clean, plain) + 0.2
    # Both are told the same peak, but for the difference between the mean of the noisy image and that of the clean one.
    assert abs(psnr(clean, auto) - psnr(clean, stable)) < 0.02


@pytest.mark.parametrize("peak", [5.0, *(pytest.param(peak, marks=pytest.mark.slow) for peak in (30.0, 100.0))])
def test_auto_knows_photons_by_an_estimated_level(peak: float) -> None:
    clean = photographs()
    draws: Images = np.random.default_rng(3).poisson(clean * peak).astype(np.float32) / np.float32(peak)
    sigma = estimate_sigma(draws)
    plain, stable, auto = (BM3DLite(vst=vst).denoise(draws.copy(), sigma) for vst in ("none", "anscombe", "auto"))
    peaks = [anscombe.peak_of_counts(*one) for one in zip(draws, anscombe.peaks_of(draws, sigma), strict=True)]
    found = np.array([one for one in peaks if one])
    assert len(found) > 0.9 * len(draws)
    assert np.abs(found / peak - 1).max() < 1e-3
    assert psnr(clean, auto) > max(psnr(clean, stable), psnr(clean, plain))


@pytest.mark.parametrize("rounded", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "noise",
    [
        "gaussian:0.02",
        "gaussian:0.045",
        "gaussian:0.1",
        "gaussian:0.3",
        "truncated-gaussian:0.1",
        "uniform:0.1",
        "speckle:0.2",
        "jpeg:20",
        "salt-pepper:0.02",
        "salt-pepper:0.3",
        "impulse:0.1",
        "stripe:0.1",
        "quantize:8",
        "poisson-gaussian",
        "poisson:255",
    ],
)
def test_auto_takes_nothing_else_for_photons(noise: str, rounded: bool) -> None:
    clean = photographs()
    rng = np.random.default_rng(3)
    model = load_registry().noise_model(noise).make()
    noisy = np.stack([model.apply(image, rng) for image in clean])
    if rounded:
        noisy = np.rint(noisy.clip(0, 1) * 255).astype(np.float32) / np.float32(255)
    for sigma in (estimate_sigma(noisy), np.sqrt(np.square(noisy - clean).mean((1, 2)))):
        known = sigma > 0
        peaks = anscombe.peaks_of(noisy[known], sigma[known])
        assert not any(anscombe.peak_of_counts(*one) for one in zip(noisy[known], peaks, strict=True))


def test_auto_leaves_gaussian_noise_alone() -> None:
    noisy, sigma = add_noise(scene(48, 48), 0.1)[None], np.full(1, 0.1, np.float32)
    rounded: Images = np.rint(noisy * 255).astype(np.float32) / np.float32(255)
    for image in (noisy, rounded):
        plain = BM3DLite().denoise(image.copy(), sigma)
        assert np.array_equal(BM3DLite(vst="auto").denoise(image.copy(), sigma), plain)


# --- against the reference implementation --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("level", [15, 25, 50])
@pytest.mark.parametrize("name", ["coins", "text", "brick"])
def test_within_a_tenth_of_a_decibel_of_the_reference(name: str, level: int) -> None:
    """On photographs and on texture, where weak block matching shows first."""
    bm3d = pytest.importorskip("bm3d", reason="pip install benchbox-denoise[dev]")
    from skimage import data

    clean = (getattr(data, name)()[:256, :256] / 255).astype(np.float32)
    noisy, sigma = add_noise(clean, level / 255), np.full(1, level / 255, np.float32)
    ours = BM3DLite().denoise(noisy[None].copy(), sigma)[0]
    assert psnr(clean, ours) > psnr(clean, bm3d.bm3d(noisy, level / 255).astype(np.float32)) - 0.1
