"""BM3D-lite and DCT thresholding in colour: equal to a plain version, channels in order, as good as bm3d_rgb."""

from __future__ import annotations

import numpy as np
import pytest
from benchbox_bm3d import transforms
from benchbox_bm3d.bm3d_lite import BM3DLite
from benchbox_bm3d.dct import DCT
from benchbox_bm3d.pipeline import denoise
from benchbox_bm3d.plain import plain_denoise
from benchbox_bm3d.profiles import choose
from made_scenes import add_noise, psnr, scene
from numpy.typing import NDArray

from benchbox import BenchboxError, Denoiser, Images, Sigma


def colours(height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """A scene whose channels have edges in common, but not their contrast."""
    shapes = scene(height, width, seed)[..., None]
    return np.asarray(0.5 + (shapes - 0.5) * [1.0, 0.7, 0.4] + [0.0, 0.1, -0.2], np.float32)


def levels(count: int, sigma: float) -> Sigma:
    return np.full(count, sigma, np.float32)


def alone(denoiser: Denoiser, noisy: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    result: NDArray[np.float32] = denoiser.denoise(noisy[None].copy(), levels(1, sigma))[0]
    return result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "height", "width", "sigma"),
    [(48, 21, 26, 0.1), (48, 8, 19, 0.05), (1000, 24, 31, 0.06), (1000, 17, 25, 0.2)],
)
def test_equals_the_plain_version_with_channels_scaled_as_in_the_paper(
    side: int, height: int, width: int, sigma: float
) -> None:
    """Images of `side` choose the profile: that of small images, or of photographs."""
    noisy = add_noise(colours(height, width), sigma)
    profile = choose(side, side, sigma, "normal", colour=True)
    ours = denoise(noisy[None], levels(1, sigma), profile, 1)[0]
    assert np.abs(ours - plain_denoise(noisy.astype(np.float64), float(np.float32(sigma)), profile)).max() < 1e-4


def test_opponent_channels_keep_white_noise_and_come_back() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 60, 70, 3)).astype(np.float32)
    planes = transforms.split(noise)
    assert planes.shape == (2, 3, 60, 70)
    assert np.abs(transforms.join(planes) - noise).max() < 1e-5
    assert np.abs(planes.std((0, 2, 3)) - 1).max() < 0.02
    red, green, blue = np.moveaxis(noise, 3, 0)
    by_hand = (red + green + blue) / 3**0.5, (red - blue) / 2**0.5, (red - 2 * green + blue) / 6**0.5
    assert np.abs(planes - np.stack(by_hand, axis=1)).max() < 1e-5


def test_grey_images_are_their_own_plane() -> None:
    image = add_noise(scene(20, 30), 0.1)[None]
    assert np.array_equal(transforms.split(image)[:, 0], image)
    assert np.array_equal(transforms.join(transforms.split(image)), image)


@pytest.mark.parametrize("denoiser", [BM3DLite(), BM3DLite(profile="fast"), BM3DLite(profile="high"), DCT()])
@pytest.mark.parametrize("size", [(8, 8), (8, 50), (13, 9), (48, 48), pytest.param((97, 130), marks=pytest.mark.slow)])
def test_flat_colours_of_any_size_come_back_channel_by_channel(denoiser: Denoiser, size: tuple[int, int]) -> None:
    clean = np.tile(np.array([0.1, 0.5, 0.8], np.float32), (*size, 1))
    assert np.abs(alone(denoiser, clean, 0.1) - clean).max() < 1e-5
    result = alone(denoiser, add_noise(clean, 0.1), 0.1)
    assert result.shape == clean.shape
    assert result.dtype == np.float32
    assert np.square(result - clean).mean() < 0.1 * 0.1**2


@pytest.mark.parametrize("denoiser", [BM3DLite(), DCT()])
def test_channels_in_reverse_are_denoised_in_reverse(denoiser: Denoiser) -> None:
    """What is left is the rounding of the luminance, which may tip a coefficient over the threshold."""
    noisy = add_noise(colours(60, 90), 0.1)
    there = alone(denoiser, noisy, 0.1)
    back = alone(denoiser, np.ascontiguousarray(noisy[..., ::-1]), 0.1)[..., ::-1]
    assert np.median(np.abs(back - there)) < 1e-6
    assert np.sqrt(np.square(back - there).mean()) < 2e-3 * 0.1


@pytest.mark.parametrize("denoiser", [BM3DLite(), DCT()])
def test_channels_help_each_other(denoiser: Denoiser) -> None:
    clean = colours(96, 80)
    noisy = add_noise(clean, 0.15)
    apart = denoiser.denoise(np.ascontiguousarray(np.moveaxis(noisy, 2, 0)), levels(3, 0.15))
    assert psnr(clean, alone(denoiser, noisy, 0.15)) > psnr(clean, np.moveaxis(apart, 0, 2)) + 0.5


@pytest.mark.parametrize("denoiser", [BM3DLite(), DCT()])
def test_a_grey_image_in_three_channels_stays_grey_and_gains_from_three_draws(denoiser: Denoiser) -> None:
    clean = np.repeat(scene(80, 96)[..., None], 3, axis=2)
    noisy = add_noise(clean, 0.1)
    result = alone(denoiser, noisy, 0.1)
    assert np.ptp(result, axis=2).mean() < 0.15 * np.ptp(noisy, axis=2).mean()
    assert psnr(clean, result) > psnr(clean[..., 0], alone(denoiser, noisy[..., 0], 0.1)) + 2
    # The same noise in all channels is noise of luminance alone, so that they stay equal up to rounding.
    same = np.repeat(noisy[..., :1], 3, axis=2)
    assert np.ptp(alone(denoiser, same, 0.1), axis=2).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("denoiser", [BM3DLite(), DCT()])
@pytest.mark.parametrize("size", [(48, 48), (120, 150)])
def test_alone_as_in_a_stack_on_any_number_of_threads(
    denoiser: Denoiser, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sigma = np.array([0.1, 0.02, 0.0, 0.3], np.float32)
    noisy = np.stack([add_noise(colours(*size, seed), 0.1, seed) for seed in range(4)])
    results = []
    for count in ("1", "3"):
        monkeypatch.setenv("BENCHBOX_THREADS", count)
        results.append(denoiser.denoise(noisy.copy(), sigma))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0][2], noisy[2])
    for index in range(4):
        one = denoiser.denoise(noisy[index : index + 1].copy(), sigma[index : index + 1])
        assert np.array_equal(one[0], results[0][index])


@pytest.mark.parametrize("denoiser", [BM3DLite(), DCT()])
def test_too_small_is_refused(denoiser: Denoiser) -> None:
    with pytest.raises(BenchboxError, match="at least 8x8 pixels, got 30x7"):
        denoiser.denoise(np.zeros((1, 30, 7, 3), np.float32), levels(1, 0.1))


def test_photons_are_counted_in_colour_too() -> None:
    clean = colours(64, 80).clip(0.02, 1)[None]
    draws: Images = np.random.default_rng(3).poisson(clean * 10).astype(np.float32) / np.float32(10)
    sigma = np.sqrt(clean.mean((1, 2, 3)) / 10).astype(np.float32)
    plain, stable, auto = (BM3DLite(vst=vst).denoise(draws.copy(), sigma) for vst in ("none", "anscombe", "auto"))
    assert psnr(clean, stable) > psnr(clean, plain) + 0.2
    assert abs(psnr(clean, auto) - psnr(clean, stable)) < 0.02


# --- against the reference implementation --------------------------------------------------------------------------


def within_5_hundredths_of_bm3d_rgb(clean: NDArray[np.float32], level: int) -> None:
    bm3d = pytest.importorskip("bm3d", reason="pip install benchbox-denoise[dev]")
    noisy = add_noise(clean, level / 255)
    assert psnr(clean, alone(BM3DLite(), noisy, level / 255)) > (
        psnr(clean, bm3d.bm3d_rgb(noisy, level / 255).astype(np.float32)) - 0.05
    )


@pytest.mark.slow
def test_a_crop_is_as_good_as_by_bm3d_rgb() -> None:
    from skimage import data

    within_5_hundredths_of_bm3d_rgb((data.astronaut()[100:180, 200:280] / 255).astype(np.float32), 15)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "level"), [("coffee", 50), ("chelsea", 25)])
def test_a_photograph_is_as_good_as_by_bm3d_rgb(name: str, level: int) -> None:
    from skimage import data

    picture = getattr(data, name)()
    top, left = (picture.shape[0] - 256) // 2, (picture.shape[1] - 256) // 2
    within_5_hundredths_of_bm3d_rgb((picture[top : top + 256, left : left + 256] / 255).astype(np.float32), level)
