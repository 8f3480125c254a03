"""The classical denoisers in colour: against independent definitions, and better than channel by channel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from benchbox_filters.chambolle import chambolle, chambolle_colour
from benchbox_filters.opponent import from_opponent, to_opponent
from benchbox_nlm.nl_means import default_options
from numpy.typing import NDArray
from skimage import data
from skimage.restoration import denoise_nl_means

from benchbox import Denoiser
from benchbox.builtin.channels import channels_apart, channels_together
from benchbox.registry import load_registry

Stack = NDArray[np.float32]
LEVEL = np.float32(25 / 255)
BETTER = {"bilateral": 0.1, "tv_chambolle": 0.3, "wiener": 0.02, "wavelet": 0.5, "nl_means": 0.3, "opencv_nlm": 0.1}
"""Denoisers that use colour, and the least gain in dB over channel by channel on each photograph."""
SAME = ("identity", "gaussian_blur", "median", "median:size=3", "median:size=7")
"""Those that treat channels alike, so that the result is that of each channel by itself."""


@pytest.fixture(scope="module")
def clean() -> Stack:
    whole = (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
    small = [cv2.resize(picture, (128, 112), interpolation=cv2.INTER_AREA) for picture in whole]
    return np.stack(small).astype(np.float32) / np.float32(255)


@pytest.fixture(scope="module")
def noisy(clean: Stack) -> Stack:
    return clean + LEVEL * np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)


def made(spec: str) -> Denoiser:
    denoiser: Denoiser = load_registry().denoiser(spec).make()
    assert denoiser.capabilities.channels == "any"
    denoiser.setup((1, 112, 128, 3))
    return denoiser


def sigma_of(stack: Stack) -> Stack:
    return np.full(len(stack), LEVEL)


def psnr(clean: Stack, denoised: Stack) -> NDArray[np.float64]:
    error = (np.clip(denoised, 0, 1) - clean).astype(np.float64)
    scores: NDArray[np.float64] = -10 * np.log10(np.square(error).reshape(len(clean), -1).mean(axis=1))
    return scores


@pytest.mark.parametrize("spec", BETTER)
def test_colour_helps_on_every_photograph(spec: str, clean: Stack, noisy: Stack) -> None:
    denoiser = made(spec)
    joint = denoiser.denoise(noisy.copy(), sigma_of(noisy))
    planes = channels_apart(noisy)
    apart = channels_together(denoiser.denoise(planes, sigma_of(planes)))
    assert (psnr(clean, joint) - psnr(clean, apart)).min() > BETTER[spec]


@pytest.mark.parametrize("spec", SAME)
def test_channels_are_treated_alike(spec: str, noisy: Stack) -> None:
    denoiser = made(spec)
    planes = channels_apart(noisy)
    apart = channels_together(denoiser.denoise(planes.copy(), sigma_of(planes)))
    np.testing.assert_allclose(denoiser.denoise(noisy.copy(), sigma_of(noisy)), apart, atol=1e-6)


@pytest.mark.parametrize("spec", [*BETTER, *SAME])
def test_images_alone_are_those_of_a_stack(spec: str, noisy: Stack) -> None:
    denoiser = made(spec)
    stack = denoiser.denoise(noisy.copy(), sigma_of(noisy))
    alone = [denoiser.denoise(noisy[place : place + 1].copy(), sigma_of(noisy[:1])) for place in range(2)]
    np.testing.assert_array_equal(stack[:2], np.concatenate(alone))
    untouched = denoiser.denoise(noisy[:1].copy(), np.zeros(1, np.float32))
    np.testing.assert_allclose(untouched, noisy[:1], atol=1e-6)


@pytest.mark.parametrize("spec", [*BETTER, *SAME])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (33, 17)])
def test_small_images_of_mixed_noise_keep_their_channels(spec: str, size: tuple[int, int]) -> None:
    """Each image is filtered at its own level; red stays red, and no channel is treated unlike the others."""
    generator = np.random.default_rng(3)
    sigma = np.array([0.05, 0.2, 0.4], np.float32)
    noise = generator.standard_normal((3, *size, 3), dtype=np.float32)
    stack = np.array([0.9, 0.5, 0.1], np.float32) + sigma[:, None, None, None] * noise
    denoiser = made(spec)
    found = denoiser.denoise(stack.copy(), sigma)
    assert found.shape == stack.shape
    assert np.isfinite(found).all()
    alone = [denoiser.denoise(stack[place : place + 1].copy(), sigma[place : place + 1]) for place in range(3)]
    np.testing.assert_array_equal(found, np.concatenate(alone))
    red, green, blue = found[0].reshape(-1, 3).mean(axis=0)
    assert red > green > blue
    swapped = denoiser.denoise(np.ascontiguousarray(stack[..., ::-1]), sigma)[..., ::-1]
    np.testing.assert_allclose(swapped, found, atol=2e-4)


def test_nl_means_is_that_of_scikit_image(noisy: Stack) -> None:
    patch, distance, strength = default_options(float(LEVEL), colour=True)
    expected = denoise_nl_means(
        noisy[0].astype(np.float64), patch, distance, h=strength * LEVEL, fast_mode=False, sigma=LEVEL, channel_axis=-1
    )
    found = made("nl_means").denoise(noisy[:1].copy(), sigma_of(noisy[:1]))[0]
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_bilateral_is_that_of_its_definition(noisy: Stack) -> None:
    """Written out in NumPy, with OpenCV's sum of absolute differences over the channels."""
    image = noisy[0, :24, :24]
    space, scale, radius = 0.87 + 4.3 * LEVEL, 1.8 * (2.2 + 8.8 * LEVEL) * LEVEL, 3
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="symmetric").astype(np.float64)
    total, weights = np.zeros(image.shape), np.zeros((*image.shape[:2], 1))
    for down in range(-radius, radius + 1):
        for across in range(-radius, radius + 1):
            if np.hypot(down, across) > radius:
                continue
            other = padded[radius + down :, radius + across :][:24, :24]
            apart = np.abs(other - image).sum(axis=2, keepdims=True)
            weight = np.exp(-(down**2 + across**2) / (2 * space**2) - apart**2 / (2 * scale**2))
            total += weight * other
            weights += weight
    found = made("bilateral").denoise(noisy[:1, :24, :24].copy(), sigma_of(noisy[:1]))[0]
    np.testing.assert_allclose(found, total / weights, atol=1e-3)


def test_vectorial_total_variation(noisy: Stack) -> None:
    """Equal channels: the norm is sqrt(3) times that of one, so the weight of one channel is, too."""
    grey = np.ascontiguousarray(noisy[:2, ..., 1])
    weight = np.array([0.05, 0.2], np.float32)
    three = chambolle_colour(np.repeat(grey[:, None], 3, axis=1), weight, 1e-6, 400)
    one = chambolle(grey, (weight / np.float32(np.sqrt(3))).astype(np.float32), 1e-6, 400)
    np.testing.assert_allclose(three, np.repeat(one[:, None], 3, axis=1), atol=2e-3)


def test_vectorial_total_variation_minimises_its_energy(noisy: Stack) -> None:
    image, weight = np.ascontiguousarray(np.moveaxis(noisy[:1], 3, 1)).astype(np.float64), 0.1

    def energy(u: NDArray[np.float64]) -> float:
        down, across = np.zeros_like(u), np.zeros_like(u)
        down[:, :, :-1] = np.diff(u, axis=2)
        across[..., :-1] = np.diff(u, axis=3)
        variation = np.sqrt((down**2 + across**2).sum(axis=1)).sum()
        return float(np.square(u - image).sum() / 2 + weight * variation)

    found = chambolle_colour(image.astype(np.float32), np.array([weight], np.float32), 0.0, 1000).astype(np.float64)
    least = energy(found)
    generator = np.random.default_rng(1)
    for size in (1e-3, 1e-2):
        for _ in range(5):
            assert energy(found + size * generator.standard_normal(found.shape)) > least
    assert energy(cv2.GaussianBlur(noisy[0], (0, 0), 1.0).transpose(2, 0, 1)[None].astype(np.float64)) > least


def test_the_opponent_space_keeps_white_noise(noisy: Stack) -> None:
    np.testing.assert_allclose(from_opponent(to_opponent(noisy)), noisy, atol=1e-6)
    noise = np.random.default_rng(2).standard_normal((1, 200, 200, 3)).astype(np.float32)
    planes = to_opponent(noise).reshape(3, -1)
    np.testing.assert_allclose(np.cov(planes), np.eye(3), atol=0.03)
    grey = np.repeat(noise[..., :1], 3, axis=3)
    assert np.abs(to_opponent(grey)[1:]).max() < 1e-5


def test_opencv_in_lab_is_the_function_of_that_name(noisy: Stack) -> None:
    found = made("opencv_nlm:space=lab").denoise(noisy[:1].copy(), sigma_of(noisy[:1]))[0]
    pixels = np.rint(noisy[0].clip(0, 1) * 255).astype(np.uint8)[..., ::-1].copy()
    scale = float(255 * LEVEL * 1.1)
    expected = cv2.fastNlMeansDenoisingColored(pixels, None, scale, scale, 3, 11)[..., ::-1]
    np.testing.assert_array_equal(np.rint(255 * found), expected)
