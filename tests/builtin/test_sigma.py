"""The noise estimator against scikit-image's, the true level, and a reference on flat areas."""

from __future__ import annotations

import numpy as np
import pytest

from benchbox.builtin.sigma import estimate_sigma


@pytest.mark.parametrize(("height", "width"), [(5, 6), (11, 13), (48, 48), (49, 47), (512, 512)])
def test_estimated_sigma_is_that_of_scikit_image(height: int, width: int) -> None:
    import skimage.data
    from skimage.restoration import estimate_sigma as theirs

    rng = np.random.default_rng(0)
    picture = skimage.data.camera()[:height, :width].astype(np.float32) / 255
    clean = np.stack([picture, 1 - picture, 0.5 * picture])
    for sigma in (0.02, 0.1, 0.3):
        noisy = clean + np.float32(sigma) * rng.standard_normal(clean.shape, dtype=np.float32)
        expected = [theirs(image.astype(np.float64)) for image in noisy]
        np.testing.assert_allclose(estimate_sigma(noisy), expected, rtol=1e-6)


@pytest.mark.parametrize("levels", [2, 4, 255])
def test_estimated_sigma_of_rounded_images_leaves_out_what_is_flat(levels: int) -> None:
    import pywt

    rng = np.random.default_rng(0)
    for height, width in [(1, 1), (1, 7), (2, 2), (3, 4), (4, 3), (6, 5), (11, 11), (48, 48)]:
        bright = np.clip(0.9 + 0.3 * rng.standard_normal((40, height, width)), 0, 1)
        noisy = (np.rint(bright * levels) / levels).astype(np.float32)
        expected: list[float] = []
        for image in noisy.astype(np.float64):
            details = np.abs(pywt.dwt2(image, "db2")[1][2])
            seen = details[details > 1e-9]
            expected.append(float(np.median(seen)) / 0.6744897501960817 if len(seen) else 0.0)
        np.testing.assert_allclose(estimate_sigma(noisy), expected, rtol=1e-6)


@pytest.mark.parametrize(("side", "low"), [(48, 0.022), (256, 0.005)])
def test_estimated_sigma_is_near_the_true_one(side: int, low: float) -> None:
    rng = np.random.default_rng(0)
    noisy = 0.5 + np.float32(0.1) * rng.standard_normal((200, side, side), dtype=np.float32)
    estimates = estimate_sigma(noisy)
    assert estimates.dtype == np.float32 and estimates.shape == (200,)
    # The median of n magnitudes has a relative error of 1.17 / sqrt(n); mirrored borders make it low by about 1 / side.
    spread = 1.17 / (side / 2)
    assert float(estimates.mean()) == pytest.approx(0.1 * (1 - low), rel=4 * spread / np.sqrt(200))
    assert float(estimates.std()) == pytest.approx(0.1 * spread, rel=4 / np.sqrt(400))


def test_estimated_sigma_overlooks_flat_areas() -> None:
    rng = np.random.default_rng(0)
    noisy = 0.5 + np.float32(0.1) * rng.standard_normal((200, 48, 48), dtype=np.float32)
    noisy[:, :, :30] = 0.7
    # With the flat five eighths counted in, the median would be near 0.
    assert float(estimate_sigma(noisy).mean()) == pytest.approx(0.1, rel=0.06)
    for value in (0.0, 0.3, 1.0):
        assert (estimate_sigma(np.full((2, 48, 48), value, dtype=np.float32)) == 0).all()
