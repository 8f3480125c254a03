"""The classical filters: equal to their libraries, alone or in a stack, and better than nothing at every level."""

from __future__ import annotations

import inspect
import subprocess
import sys

import benchbox_filters
import numpy as np
import pytest
from benchbox_filters.levels import ASSUMED_SIGMA

from benchbox import BenchboxError, Denoiser, Images
from benchbox.records.specs import configure, options_of, parse_spec

CLASSES = {cls.name: cls for cls in benchbox_filters.benchbox_denoisers()}
NAMES = sorted(CLASSES)
LEVELS = (0.01, 0.03, 0.05, 0.1, 0.2, 0.35, 0.5)
MIXED = np.array([0.1, 0.02, 0.0, 0.1, 0.3, 0.06, 0.5, 0.01], np.float32)


def ready(spec: str, size: tuple[int, int] = (48, 48)) -> Denoiser:
    denoiser = configure(CLASSES[parse_spec(spec).name], spec).make()
    denoiser.setup((1, *size))
    return denoiser


@pytest.fixture(scope="module")
def tiles() -> Images:
    """48x48 tiles of photographs: every seventh that lies wholly inside."""
    from skimage import color, data

    found = []
    for photograph in (color.rgb2gray(data.astronaut()), data.camera() / 255, data.coins() / 255):
        height, width = (side // 48 * 48 for side in photograph.shape)
        blocks = photograph[:height, :width].reshape(height // 48, 48, width // 48, 48).swapaxes(1, 2)
        found.append(blocks.reshape(-1, 48, 48)[::7])
    return np.ascontiguousarray(np.concatenate(found), dtype=np.float32)


def add_noise(clean: Images, sigma: np.ndarray | float, seed: int = 1) -> Images:
    draw = np.random.default_rng(seed).standard_normal(clean.shape).astype(np.float32)
    return clean + np.asarray(sigma, np.float32).reshape(-1, 1, 1) * draw


def psnr(clean: Images, image: Images) -> float:
    errors = np.square(clean - image.clip(0, 1), dtype=np.float64).mean((1, 2))
    return float(np.mean(-10 * np.log10(errors)))


def level(sigma: float, count: int) -> np.ndarray:
    return np.full(count, sigma, np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_alone_as_in_a_stack(name: str, tiles: Images) -> None:
    """Bit for bit, at mixed noise levels."""
    denoiser = ready(name)
    noisy = add_noise(tiles[:8], MIXED)
    stacked = denoiser.denoise(noisy.copy(), MIXED)
    backwards = denoiser.denoise(noisy[::-1].copy(), MIXED[::-1].copy())
    assert stacked.dtype == np.float32
    assert stacked.shape == noisy.shape
    assert np.array_equal(backwards[::-1], stacked)
    for index in range(len(noisy)):
        alone = denoiser.denoise(noisy[index : index + 1].copy(), MIXED[index : index + 1])
        assert np.array_equal(alone[0], stacked[index]), index


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 5), (7, 48), (65, 33), (130, 200)])
def test_any_size(name: str, size: tuple[int, int]) -> None:
    noisy = add_noise(np.full((2, *size), 0.5, np.float32), 0.1)
    for sigma in (0.1, 0.5):
        result = ready(name, size).denoise(noisy.copy(), level(sigma, 2))
        assert result.shape == noisy.shape
        assert result.dtype == np.float32
        assert np.isfinite(result).all()


@pytest.mark.parametrize("name", NAMES)
def test_without_noise_nothing_changes(name: str, tiles: Images) -> None:
    assert np.array_equal(ready(name).denoise(tiles.copy(), level(0, len(tiles))), tiles)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, -0.2])
def test_constant_images_stay(name: str, value: float) -> None:
    flat = np.full((2, 33, 48), value, np.float32)
    assert np.abs(ready(name).denoise(flat.copy(), level(0.1, 2)) - flat).max() < 2e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sigma", LEVELS)
def test_never_worse_than_nothing(name: str, sigma: float, tiles: Images) -> None:
    noisy = add_noise(tiles, sigma)
    gain = psnr(tiles, ready(name).denoise(noisy.copy(), level(sigma, len(tiles)))) - psnr(tiles, noisy)
    assert gain >= 0
    if name != "identity" and sigma >= 0.1:
        assert gain > 4


@pytest.mark.parametrize("name", [name for name in NAMES if CLASSES[name].capabilities.sigma == "optional"])
def test_without_a_level(name: str, tiles: Images) -> None:
    noisy = add_noise(tiles, 0.08)
    denoiser = ready(name)
    blind = denoiser.denoise(noisy.copy(), None)
    assert psnr(tiles, blind) > psnr(tiles, noisy) + 2
    assert np.array_equal(blind, denoiser.denoise(noisy.copy(), level(ASSUMED_SIGMA, len(tiles))))


@pytest.mark.parametrize("name", ["wiener", "wavelet"])
def test_a_level_that_is_required_is_asked_for(name: str, tiles: Images) -> None:
    with pytest.raises(BenchboxError, match=f"{name} needs the noise level"):
        ready(name).denoise(tiles.copy(), None)


def test_identity_is_the_floor(tiles: Images) -> None:
    assert np.array_equal(ready("identity").denoise(tiles.copy(), None), tiles)


def test_gaussian_blur_is_that_of_scipy(tiles: Images) -> None:
    from scipy import ndimage

    for width in (0.4, 1.2, 2.7):
        result = ready(f"gaussian_blur:blur_sigma={width}").denoise(tiles.copy(), level(0.1, len(tiles)))
        # OpenCV rounds the kernel's reach differently from scipy: tell scipy the same one.
        reach = (round(width * 8 + 1) | 1) // 2
        expected = ndimage.gaussian_filter(tiles, (0, width, width), mode="reflect", radius=(0, reach, reach))
        np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize(("options", "size", "passes"), [("size=3", 3, 1), ("size=5,passes=2", 5, 2), ("size=7", 7, 1)])
def test_median_is_that_of_scipy(options: str, size: int, passes: int, tiles: Images) -> None:
    from scipy import ndimage

    expected = tiles[:5]
    for _ in range(passes):
        expected = np.stack([ndimage.median_filter(image, size, mode="nearest") for image in expected])
    assert np.array_equal(ready(f"median:{options}").denoise(tiles[:5].copy(), None), expected)


def test_median_removes_salt_and_pepper(tiles: Images) -> None:
    rng = np.random.default_rng(3)
    noisy = np.where(rng.random(tiles.shape) < 0.05, rng.integers(0, 2, tiles.shape), tiles).astype(np.float32)
    sigma = np.sqrt(np.square(noisy - tiles).mean((1, 2)))
    for told in (sigma, None):
        assert psnr(tiles, ready("median").denoise(noisy.copy(), told)) > psnr(tiles, noisy) + 7


def test_bilateral_is_that_of_opencv(tiles: Images) -> None:
    import cv2

    result = ready("bilateral:sigma_color=0.25,sigma_space=1.4").denoise(tiles.copy(), level(0.1, len(tiles)))
    expected = [cv2.bilateralFilter(image, 7, 0.25, 1.4, borderType=cv2.BORDER_REFLECT) for image in tiles]
    assert np.array_equal(result, expected)


def test_tv_chambolle_is_that_of_scikit_image(tiles: Images) -> None:
    from skimage.restoration import denoise_tv_chambolle

    noisy = add_noise(tiles[:12], 0.1)
    for weight, eps, iterations in ((0.02, 2e-4, 200), (0.12, 2e-4, 200), (0.5, 2e-4, 200), (0.2, 0.0, 40)):
        denoiser = ready(f"tv_chambolle:weight={weight},eps={eps},iterations={iterations}")
        expected = [denoise_tv_chambolle(image, weight, eps, iterations) for image in noisy]
        np.testing.assert_allclose(denoiser.denoise(noisy.copy(), level(0.1, 12)), expected, atol=2e-6)


def test_wiener_is_its_formula_in_double_precision(tiles: Images) -> None:
    from scipy import ndimage

    noisy = add_noise(tiles, 0.1)
    result = ready("wiener:window_sigma=1.3,strength=1.5").denoise(noisy.copy(), level(0.1, len(tiles)))
    exact = noisy.astype(np.float64)
    mean = ndimage.gaussian_filter(exact, (0, 1.3, 1.3), radius=(0, 5, 5))
    variance = ndimage.gaussian_filter(exact**2, (0, 1.3, 1.3), radius=(0, 5, 5)) - mean**2
    expected = mean + np.maximum(variance - 1.5 * 0.01, 0) / np.maximum(variance, 1e-9) * (exact - mean)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def shrink(bands: Images, energy: Images, variance: float, strength: float) -> Images:
    threshold = strength * variance / np.sqrt(np.maximum(energy - variance, 1e-20))
    return np.asarray(np.sign(bands) * np.maximum(np.abs(bands) - threshold, 0))


@pytest.mark.parametrize("wavelet", ["haar", "db2", "sym4"])
def test_wavelet_is_bayes_shrink_by_pywt(wavelet: str, tiles: Images) -> None:
    """With a window over the whole image the thresholds are those of one for each band."""
    import pywt

    noisy = add_noise(tiles[:4], 0.1)
    result = ready(f"wavelet:wavelet={wavelet},level=3,window=999,strength=1.2").denoise(noisy.copy(), level(0.1, 4))
    padded = np.pad(noisy, ((0, 0), (8, 8), (8, 8)), mode="symmetric").astype(np.float64)
    bands = pywt.swt2(padded, wavelet, 3, axes=(1, 2), trim_approx=True)
    for scale in range(1, 4):
        bands[scale] = tuple(
            shrink(band, np.square(band).mean((1, 2), keepdims=True), float(np.float32(0.1)) ** 2, 1.2)
            for band in bands[scale]
        )
    expected = pywt.iswt2(bands, wavelet, axes=(1, 2))[:, 8:-8, 8:-8]
    np.testing.assert_allclose(result, expected, atol=5e-6)


def test_wavelet_is_its_definition(tiles: Images) -> None:
    """Against plain NumPy that shifts whole arrays, on an image whose sides are no powers of two."""
    import pywt
    from scipy import ndimage

    noisy = add_noise(tiles[:1, :29, :41], 0.1)
    result = ready("wavelet:level=3,window=7,strength=1.1").denoise(noisy.copy(), level(0.1, 1))
    filters = [pywt.Wavelet("db2").rec_lo, pywt.Wavelet("db2").rec_hi]

    def along(image: Images, taps: list[float], step: int, axis: int) -> Images:
        return np.asarray(sum(tap * np.roll(image, -place * step, axis) for place, tap in enumerate(taps)))

    def back(image: Images, taps: list[float], step: int, axis: int) -> Images:
        return np.asarray(sum(tap / 2 * np.roll(image, place * step, axis) for place, tap in enumerate(taps)))

    def denoised(image: Images, scale: int) -> Images:
        if scale == 3:
            return image
        total = np.zeros_like(image)
        for row in (0, 1):
            for column in (0, 1):
                band = along(along(image, filters[row], 2**scale, 1), filters[column], 2**scale, 0)
                if row == column == 0:
                    band = denoised(band, scale + 1)
                else:
                    share = ndimage.uniform_filter(np.ones_like(band), 7, mode="constant")
                    energy = ndimage.uniform_filter(band**2, 7, mode="constant") / share
                    band = shrink(band, energy, float(np.float32(0.1)) ** 2, 1.1)
                total += back(back(band, filters[column], 2**scale, 0), filters[row], 2**scale, 1)
        return total

    expected = denoised(np.pad(noisy[0], 8, mode="symmetric").astype(np.float64), 0)[8:-8, 8:-8]
    np.testing.assert_allclose(result[0], expected, atol=5e-6)


@pytest.mark.parametrize(
    "spec",
    [
        "median:size=4",
        "median:size=0",
        "median:passes=0",
        "gaussian_blur:blur_sigma=0",
        "bilateral:sigma_color=-1",
        "bilateral:sigma_space=0",
        "wiener:strength=0",
        "wiener:window_sigma=-2",
        "wavelet:level=0",
        "wavelet:level=9",
        "wavelet:window=8",
        "wavelet:strength=-1",
        "tv_chambolle:weight=0",
        "tv_chambolle:eps=-1",
        "tv_chambolle:iterations=0",
        "identity:size=3",
    ],
)
def test_a_wrong_option_is_named(spec: str) -> None:
    parsed = parse_spec(spec)
    with pytest.raises(BenchboxError) as caught:
        configure(CLASSES[parsed.name], spec).make()
    assert parsed.options[0][0] in caught.value.message or "no option" in caught.value.message


@pytest.mark.parametrize("wavelet", ["nosuch", "bior2.2"])
def test_a_wrong_wavelet_is_refused(wavelet: str) -> None:
    with pytest.raises(BenchboxError, match=wavelet):
        ready(f"wavelet:wavelet={wavelet}")


@pytest.mark.parametrize("name", NAMES)
def test_every_filter_says_what_it_is(name: str) -> None:
    cls = CLASSES[name]
    assert cls.summary
    assert cls.reference or name == "identity"
    for option in options_of(cls):
        assert f"\n{option.name} : " in (inspect.getdoc(cls) or "")
    assert (cls.capabilities.tuned_on == "") == (name == "identity")


@pytest.mark.process
def test_the_plugin_imports_nothing_heavy() -> None:
    heavy = "{'numba', 'cv2', 'skimage', 'pywt', 'scipy', 'pandas'}"
    code = (
        "import sys, benchbox_filters; benchbox_filters.benchbox_denoisers();"
        f"sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
