"""Metrics against independent implementations, on photographs and on awkward images."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchbox import Image, Images, Metric
from benchbox.api.metric import NoReferenceMetric
from benchbox.builtin.metrics import METRICS, Accuracy, Gmsd, Mae, Mse, Psnr, Ssim
from benchbox.records.specs import configure

GREY = [cls for cls in METRICS if cls.channels != "rgb" and not issubclass(cls, NoReferenceMetric)]
SIZES: list[Any] = [
    (11, 11), (11, 64), (64, 11), (13, 37), (48, 48), (66, 66), (67, 67), (85, 84), (139, 150),
    pytest.param(512, 512, marks=pytest.mark.slow),
]  # fmt: skip


@cache
def photographs() -> tuple[Image, ...]:
    """Grey photographs, and a page and a text with large white areas."""
    import skimage.data
    from skimage.color import rgb2gray

    colour = [skimage.data.astronaut(), skimage.data.coffee()]
    grey = [skimage.data.camera(), skimage.data.moon(), skimage.data.coins(), skimage.data.page(), skimage.data.text()]
    return tuple(np.asarray(one, dtype=np.float32) for one in [*(one / 255 for one in grey), *map(rgb2gray, colour)])


def pieces(height: int, width: int) -> Images:
    """The middle of each photograph that is large enough."""
    found = []
    for picture in photographs():
        top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
        if top >= 0 and left >= 0:
            found.append(picture[top : top + height, left : left + width])
    return np.stack(found)


def pairs(height: int, width: int) -> tuple[Images, Images]:
    """Clean images and all that a denoiser may make of them."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(height * 1000 + width)
    clean = pieces(height, width)
    draw = rng.random(clean.shape, dtype=np.float32)
    noisy = np.clip(clean + 0.1 * rng.standard_normal(clean.shape, dtype=np.float32), 0, 1)
    made = [
        clean,
        clean + np.float32(1e-4) * draw,
        noisy,
        gaussian_filter(noisy, (0, 1.2, 1.2)),
        1 - clean,
        np.roll(clean, 1, axis=2),
        np.zeros_like(clean),
        np.ones_like(clean),
        draw,
    ]
    flat = np.stack([np.full((height, width), value, np.float32) for value in (0, 0, 1, 1, 0.3, 0.999)])
    others = np.stack([np.full((height, width), value, np.float32) for value in (0, 1, 1, 0.999, 0.3, 0.9995)])
    return np.concatenate([clean] * len(made) + [flat]), np.concatenate([*made, others]).astype(np.float32)


def loop_ssim(clean: Images, denoised: Images) -> NDArray[np.float64]:
    """SSIM by scikit-image, image by image, in float64: in float32 it is itself off by up to 1e-4 on flat areas."""
    from skimage.metrics import structural_similarity

    return np.array(
        [
            structural_similarity(
                one.astype(np.float64),
                other.astype(np.float64),
                data_range=1,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for one, other in zip(clean, denoised, strict=True)
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_ssim_is_that_of_scikit_image_on_every_image(height: int, width: int) -> None:
    clean, denoised = pairs(height, width)
    # The requirement is 1e-5; in float64 nothing but rounding is left.
    np.testing.assert_allclose(Ssim()(clean, denoised), loop_ssim(clean, denoised), rtol=0, atol=1e-9)


def test_ssim_of_float32_images_is_within_tolerance_of_scikit_image_as_it_comes() -> None:
    from skimage.metrics import structural_similarity

    clean, denoised = pairs(48, 48)
    theirs = [
        structural_similarity(one, other, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for one, other in zip(clean, denoised, strict=True)
    ]
    np.testing.assert_allclose(Ssim()(clean, denoised), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_errors_are_those_of_scikit_image(height: int, width: int) -> None:
    from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

    clean, denoised = pairs(height, width)
    exact = [(one.astype(np.float64), other.astype(np.float64)) for one, other in zip(clean, denoised, strict=True)]
    np.testing.assert_allclose(Mse()(clean, denoised), [mean_squared_error(*pair) for pair in exact], rtol=1e-12)
    with np.errstate(divide="ignore"):
        psnr = [peak_signal_noise_ratio(*pair, data_range=1) for pair in exact]
    np.testing.assert_allclose(Psnr()(clean, denoised), psnr, rtol=1e-12, atol=1e-12)
    mae = [np.abs(one - other).mean() for one, other in exact]
    np.testing.assert_allclose(Mae()(clean, denoised), mae, rtol=1e-12)


def published_gmsd(clean: Image, denoised: Image) -> float:
    """GMSD in the steps and on the scale of the paper, 0 to 255; 'same' is MATLAB's."""
    from scipy.signal import convolve2d

    def same(image: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
        top, left = kernel.shape[0] // 2, kernel.shape[1] // 2
        whole: NDArray[np.float64] = convolve2d(image, kernel, mode="full")
        return whole[top : top + image.shape[0], left : left + image.shape[1]]

    def gradient(image: Image) -> NDArray[np.float64]:
        small = same(255.0 * image.astype(np.float64), np.full((2, 2), 0.25))[::2, ::2]
        prewitt = np.array([[1.0, 0.0, -1.0]] * 3) / 3
        return np.hypot(same(small, prewitt), same(small, prewitt.T))

    one, other = gradient(clean), gradient(denoised)
    return float(((2 * one * other + 170) / (one**2 + other**2 + 170)).std(ddof=1))


@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 9), *SIZES])
def test_gmsd_is_that_of_the_paper(height: int, width: int) -> None:
    clean, denoised = pairs(height, width)
    expected = [published_gmsd(one, other) for one, other in zip(clean, denoised, strict=True)]
    np.testing.assert_allclose(Gmsd()(clean, denoised), expected, rtol=0, atol=1e-10)


def test_grey_scores_stay_what_they_were() -> None:
    clean = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(1, 32, 32) ** 2
    levels = np.sin(np.arange(32 * 32)).astype(np.float32).reshape(1, 32, 32)
    denoised = np.clip(clean + np.float32(0.1) * levels, 0, 1)
    expected = {
        "psnr": 23.610306798604306,
        "ssim": 0.5075682069916436,
        "mse": 0.00435481108911614,
        "mae": 0.05721920252914181,
        "gmsd": 0.0722698919743241,
        "accuracy": 0.2822265625,
    }
    # Other processors add in another order, which changes the last digits.
    assert {cls.name: cls()(clean, denoised)[0] for cls in GREY} == pytest.approx(expected, rel=1e-12)


def test_accuracy_counts_pixels_within_the_tolerance_and_at_it() -> None:
    levels = np.arange(256)
    clean = np.repeat(levels, 256).reshape(1, 256, 256)
    denoised = np.tile(levels, 256).reshape(1, 256, 256)
    distance = np.abs(clean - denoised)
    for tolerance in (0, 1, 8, 100, 255):
        score = Accuracy(float(tolerance))((clean / 255).astype(np.float32), (denoised / 255).astype(np.float32))
        assert score[0] == (distance <= tolerance).mean()
    with pytest.raises(ValueError, match=r"tolerance=256 is outside \[0, 255\] grey levels"):
        Accuracy(256.0)


def test_a_perfect_image_has_the_best_score() -> None:
    clean = pieces(48, 48)
    for cls, best in ((Psnr, np.inf), (Ssim, 1.0), (Mse, 0.0), (Mae, 0.0), (Gmsd, 0.0), (Accuracy, 1.0)):
        np.testing.assert_allclose(cls()(clean, clean.copy()), best, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cls", GREY, ids=lambda cls: cls.name)
def test_direction_follows_the_damage(cls: type[Metric]) -> None:
    clean = pieces(48, 48)
    noise = np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)
    slight, strong = cls()(clean, clean + np.float32(0.02) * noise), cls()(clean, clean + np.float32(0.2) * noise)
    assert ((slight > strong) == cls.higher_is_better).all()


@pytest.mark.parametrize("cls", GREY, ids=lambda cls: cls.name)
def test_a_score_is_the_image_s_own(cls: type[Metric]) -> None:
    clean, denoised = pairs(48, 48)
    metric = configure(cls, cls.name).make()
    scores = metric(clean, denoised)
    assert scores.dtype == np.float64 and scores.shape == (len(clean),)
    order = np.random.default_rng(0).permutation(len(clean))
    np.testing.assert_array_equal(metric(clean[order], denoised[order]), scores[order])
    single = [metric(clean[index : index + 1], denoised[index : index + 1])[0] for index in range(len(clean))]
    np.testing.assert_array_equal(single, scores)
    assert metric(clean[:0], denoised[:0]).shape == (0,)


@pytest.mark.parametrize("cls", GREY, ids=lambda cls: cls.name)
def test_read_only_and_strided_stacks_are_scored_alike_and_left_alone(cls: type[Metric]) -> None:
    clean, denoised = pairs(48, 48)
    expected = cls()(clean, denoised)
    wide = np.zeros((*clean.shape[:2], 96), dtype=np.float32)
    wide[:, :, ::2] = denoised
    strided = wide[:, :, ::2]
    strided.flags.writeable = False
    clean.flags.writeable = False
    np.testing.assert_array_equal(cls()(clean, strided), expected)


@pytest.mark.parametrize("cls", GREY, ids=lambda cls: cls.name)
def test_a_value_that_is_not_finite_shows_in_the_score(cls: type[Metric]) -> None:
    clean = pieces(48, 48)
    spoiled = clean.copy()
    spoiled[0, 20, 20] = np.nan
    scores = cls()(clean, spoiled)
    if cls is Accuracy:
        assert scores[0] == 1 - 1 / 48**2
    else:
        assert np.isnan(scores[0])
    assert not np.isnan(scores[1:]).any()


def test_shapes_and_sizes_are_refused_by_name() -> None:
    small = np.zeros((2, 10, 40), dtype=np.float32)
    with pytest.raises(ValueError, match="ssim needs images of at least 11 x 11 pixels, got 10 x 40"):
        Ssim()(small, small)
    tiny = np.zeros((2, 40, 5), dtype=np.float32)
    with pytest.raises(ValueError, match="gmsd needs images of at least 6 x 6 pixels, got 40 x 5"):
        Gmsd()(tiny, tiny)
    for cls in GREY:
        with pytest.raises(ValueError, match=f"{Mse.name if cls is Psnr else cls.name} needs two stacks"):
            cls()(np.zeros((2, 48, 48), np.float32), np.zeros((1, 48, 48), np.float32))
        with pytest.raises(ValueError, match="needs two stacks of the same shape"):
            cls()(np.zeros((48, 48), np.float32), np.zeros((48, 48), np.float32))
    one = np.full((1, 1, 1), 0.5, np.float32)
    assert Mse()(one, one + np.float32(0.25))[0] == 0.0625


@pytest.mark.process
def test_listing_metrics_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from benchbox.builtin import metrics, noise, sigma\n"
        "print([name for name in ('numba', 'cv2', 'skimage', 'scipy', 'pywt', 'pandas') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(11, 11), (13, 37), (48, 48)], ids=str)
def test_variants_of_ssim_are_those_of_scikit_image(size: tuple[int, int], channels: int) -> None:
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(4)
    clean = pieces(*size)
    clean = clean if channels == 1 else np.stack([clean, clean[::-1], clean[:, ::-1]], axis=3)
    other = (clean + 0.1 * rng.standard_normal(clean.shape)).clip(0, 1).astype(np.float32)
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for spec, edge, how in (
        ("ssim:window=uniform", 0, {}),
        ("ssim:window=uniform,edges=repeated", 3, {}),
        ("ssim:edges=repeated", 5, wang),
    ):
        padding = ((edge, edge), (edge, edge), (0, 0))[: clean.ndim - 1]
        axis = -1 if channels == 3 else None
        expected = [
            structural_similarity(
                np.pad(x, padding, mode="edge"), np.pad(y, padding, mode="edge"), data_range=1, channel_axis=axis, **how
            )
            for x, y in zip(clean.astype(np.float64), other.astype(np.float64), strict=True)
        ]
        metric = configure(Ssim, spec)
        assert metric.spec == spec
        assert metric.make()(clean, other) == pytest.approx(expected, abs=1e-6)
