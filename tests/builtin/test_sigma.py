"""The noise estimator on real images of a known noise level, and on images that have little to tell."""

from __future__ import annotations

import numpy as np
import pytest

from benchbox.api.arrays import Images
from benchbox.api.noise import NoiseModel
from benchbox.builtin import sigma as module
from benchbox.builtin.noise import Poisson, Speckle
from benchbox.builtin.sigma import estimate_sigma

LEVELS = (0.01, 0.1, 0.3, *(pytest.param(level, marks=pytest.mark.slow) for level in (0.02, 0.05, 0.2)))


def noisy(clean: Images, level: float) -> Images:
    return clean + np.float32(level) * np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)


@pytest.fixture(scope="module")
def faces() -> Images:
    """Real faces of Labeled Faces in the Wild, as large and as smooth as those of FER2013."""
    import skimage.data
    from skimage.transform import resize

    return np.stack([resize(face, (48, 48), order=3) for face in skimage.data.lfw_subset()[:100]]).astype(np.float32)


def photographs() -> Images:
    import skimage.data
    from skimage.color import rgb2gray

    colour = [rgb2gray(getattr(skimage.data, name)()[:256, :256]) for name in ("astronaut", "coffee", "chelsea")]
    return np.stack([*colour, skimage.data.camera()[:256, :256] / 255]).astype(np.float32)


@pytest.mark.parametrize("level", LEVELS)
def test_the_estimate_is_within_15_percent_on_faces(faces: Images, level: float) -> None:
    assert float(np.median(estimate_sigma(noisy(faces, level)))) == pytest.approx(level, rel=0.15)


@pytest.mark.parametrize("level", LEVELS)
def test_the_estimate_is_within_15_percent_on_photographs(level: float) -> None:
    np.testing.assert_allclose(estimate_sigma(noisy(photographs(), level)), level, rtol=0.15)


@pytest.mark.parametrize("noise", [Poisson(30.0), Poisson(200.0), Speckle(0.2)], ids=str)
def test_the_estimate_of_noise_that_depends_on_brightness(faces: Images, noise: NoiseModel) -> None:
    draws = np.stack([noise.apply(face, np.random.default_rng(index)) for index, face in enumerate(faces)])
    true = np.array([noise.sigma_of(face) for face in faces], dtype=np.float64)
    assert float(np.median(estimate_sigma(draws) / true)) == pytest.approx(1, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(("side", "error"), [(11, 0.06), (48, 0.03), (256, 0.02)])
def test_the_estimate_of_noise_alone_is_nearly_unbiased(side: int, error: float) -> None:
    number = 200 if side < 100 else 20  # the mean over so many pixels is as sure
    estimates = estimate_sigma(noisy(np.full((number, side, side), 0.5, dtype=np.float32), 0.1))
    assert estimates.dtype == np.float32 and estimates.shape == (number,)
    assert float(estimates.mean()) == pytest.approx(0.1, rel=error)


def test_an_image_has_the_same_estimate_in_any_stack(faces: Images) -> None:
    stack = noisy(faces[:20], 0.1)
    alone = np.concatenate([estimate_sigma(stack[index : index + 1]) for index in range(20)])
    np.testing.assert_array_equal(estimate_sigma(stack), alone)


def test_flat_and_clipped_areas_do_not_count(faces: Images) -> None:
    stack = noisy(np.full((50, 48, 48), 0.5, dtype=np.float32), 0.1)
    stack[:, :, :30] = 0.7
    assert float(estimate_sigma(stack).mean()) == pytest.approx(0.1, rel=0.15)
    stack[:, :, :30] = np.clip(noisy(np.zeros((50, 48, 30), dtype=np.float32), 0.1), 0, 1)
    assert float(estimate_sigma(stack).mean()) == pytest.approx(0.1, rel=0.15)
    for value in (0.0, 0.3, 1.0):
        assert (estimate_sigma(np.full((2, 48, 48), value, dtype=np.float32)) == 0).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 6), (10, 48)])
def test_small_images_get_the_estimate_of_scikit_image(height: int, width: int) -> None:
    from skimage.restoration import estimate_sigma as theirs

    stack = noisy(np.full((5, height, width), 0.5, dtype=np.float32), 0.1)
    expected = [theirs(image.astype(np.float64)) if min(image.shape) > 1 else 0 for image in stack]
    np.testing.assert_allclose(estimate_sigma(stack), np.nan_to_num(expected), rtol=1e-6)


def test_a_weakly_textured_patch_is_one_that_noise_explains_99_times_in_100() -> None:
    from scipy.stats import gamma

    shape, scale = 8.0**2 / 12.0, 12.0 / 8.0
    assert gamma(shape, scale=scale).ppf(0.99) == pytest.approx(module._WEAK, rel=1e-9)


@pytest.mark.slow
def test_tiles_of_a_large_image_tell_its_level() -> None:
    import cv2
    from skimage import data

    large = cv2.resize(data.camera(), (3000, 2000), interpolation=cv2.INTER_CUBIC).astype(np.float32) / np.float32(255)
    seen = noisy(large, 0.05)
    tiles = np.stack([seen[:2000, left : left + 2000] for left in (0, 1000)])  # each small enough to be used whole
    assert estimate_sigma(seen[None])[0] == pytest.approx(float(estimate_sigma(tiles).mean()), rel=0.01)
