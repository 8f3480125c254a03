"""What a denoiser leaves and takes away: by frequency, by bias and spread, by region of the image."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchbox.report.figures.error_analysis import BANDS, analyse_errors, frequencies, regions_of


def noise_and_images() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    random = np.random.default_rng(0)
    ramp = np.linspace(0.2, 0.8, 48, dtype=np.float32)
    clean = np.repeat(np.tile(ramp, (48, 1))[None], 8, axis=0)
    return clean, (clean + random.normal(0, 0.1, clean.shape)).astype(np.float32)


def test_doing_nothing_leaves_all_the_noise_and_removes_nothing() -> None:
    clean, noisy = noise_and_images()
    causes = analyse_errors(list(clean), list(noisy), list(np.clip(noisy, 0, 1)), list(range(8)))
    np.testing.assert_allclose(causes.remaining_db, 0, atol=0.05)
    assert causes.region_psnr["flat"] == pytest.approx(20, abs=0.3)
    assert np.isnan(causes.correlation)
    assert np.isnan(causes.bias)


def test_a_perfect_denoiser_removes_white_noise_and_a_blind_one_removes_the_image() -> None:
    clean, noisy = noise_and_images()
    perfect = analyse_errors(list(clean), list(noisy), list(clean), list(range(8)))
    # Eight pictures of 2304 pixels: the standard error of a correlation of white noise is 0.007.
    assert perfect.correlation < 0.03
    grey = analyse_errors(list(clean), list(noisy), [np.full_like(one, 0.5) for one in clean], list(range(8)))
    assert grey.correlation > 0.5


def test_a_blur_leaves_low_frequencies_and_takes_high_ones() -> None:
    from scipy.ndimage import gaussian_filter

    clean, noisy = noise_and_images()
    flat = np.full_like(clean, 0.5)
    noisy = noisy - clean + flat
    blurred = [gaussian_filter(one, 1.0, mode="wrap") for one in noisy]
    causes = analyse_errors(list(flat), list(noisy), blurred, list(range(8)))
    expected = -8.685889638 * (2 * np.pi * frequencies()) ** 2 / 2
    assert len(causes.remaining_db) == BANDS
    # The filter is cut off at four standard deviations and bands are wide: compare where it passes something.
    passing = expected > -20
    np.testing.assert_allclose(causes.remaining_db[passing], expected[passing], atol=1.0)


def test_repeats_split_the_error_into_bias_and_spread() -> None:
    random = np.random.default_rng(1)
    clean = [np.full((48, 48), 0.5, dtype=np.float32)] * 16
    denoised = [(one + 0.05 + random.normal(0, 0.02, one.shape)).astype(np.float32) for one in clean]
    causes = analyse_errors(clean, denoised, denoised, [0] * 8 + [1] * 8)
    assert causes.bias == pytest.approx(0.05, rel=0.02)
    assert causes.spread == pytest.approx(0.02, rel=0.02)


def test_regions_are_flat_edge_and_texture() -> None:
    image = np.full((64, 64), 0.5, dtype=np.float32)
    image[:, 20:] = 0.9
    image[40:, 40:] = np.random.default_rng(0).random((24, 24), dtype=np.float32)
    regions = regions_of(image)
    assert regions["flat"][5:30, 2:12].all()
    assert regions["edge"][5:35, 19:21].all()
    assert regions["texture"][44:60, 44:60].mean() > 0.7
    np.testing.assert_array_equal(np.sum(list(regions.values()), axis=0), 1)


def test_pictures_of_any_size_are_analysed() -> None:
    random = np.random.default_rng(0)
    for shapes in ([(1, 1)], [(1, 9), (40, 40)], [(2, 2), (9, 1)]):
        clean = [random.random(shape, dtype=np.float32) for shape in shapes]
        noisy = [image + np.float32(0.1) for image in clean]
        analysis = analyse_errors(clean, noisy, noisy, range(len(shapes)))
        np.testing.assert_allclose(analysis.remaining_db[0], 0, atol=1e-6)
        large = shapes[-1] == (40, 40)
        assert (
            analysis.region_psnr["flat"] == pytest.approx(20, abs=1e-3)
            if large
            else np.isnan(analysis.region_psnr["flat"])
        )
