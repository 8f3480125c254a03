"""Metrics on RGB images against scikit-image, SciPy and the published formulas."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from benchbox import BenchboxError, Images, LabelMetric, Metric, Scores
from benchbox.api.arrays import Channels
from benchbox.api.metric import NoReferenceMetric
from benchbox.builtin.kernels import ssim_rgb
from benchbox.builtin.metrics import METRICS, Accuracy, Gmsd, Mae, Mse, Psnr, PsnrY, Ssim, Ssim3d, heading, score_stack

# One tile of the compiled SSIM, several, and sides that fill none.
SIZES = [(11, 64), (64, 11), (13, 37), (48, 48), (67, 66), (139, 150)]

COMPARING = [cls for cls in METRICS if not issubclass(cls, NoReferenceMetric)]


@cache
def photographs() -> tuple[NDArray[np.float32], ...]:
    import skimage.data

    pictures = (skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket())
    return tuple(picture.astype(np.float32) / 255 for picture in pictures)


def pieces(height: int, width: int) -> Images:
    """The middle of each photograph."""
    corners = [((one.shape[0] - height) // 2, (one.shape[1] - width) // 2) for one in photographs()]
    return np.stack(
        [one[top : top + height, left : left + width] for one, (top, left) in zip(photographs(), corners, strict=True)]
    )


def noisy(clean: Images, seed: int = 0) -> Images:
    draw = np.random.default_rng(seed).standard_normal(clean.shape, dtype=np.float32)
    return np.clip(clean + np.float32(0.1) * draw, 0, 1)


def pairs(height: int, width: int) -> tuple[Images, Images]:
    """Clean images and all that a denoiser may make of them."""
    from scipy.ndimage import gaussian_filter

    clean = pieces(height, width)
    draw = np.random.default_rng(1).random(clean.shape, dtype=np.float32)
    made = [
        clean,
        clean + np.float32(1e-4) * draw,
        noisy(clean),
        gaussian_filter(noisy(clean), (0, 1.2, 1.2, 0)),
        clean[..., ::-1],
        1 - clean,
        np.roll(clean, 1, axis=2),
        np.zeros_like(clean),
        np.ones_like(clean),
    ]
    return np.concatenate([clean] * len(made)), np.concatenate(made).astype(np.float32)


def in_float64(clean: Images, denoised: Images) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    return [(one.astype(np.float64), other.astype(np.float64)) for one, other in zip(clean, denoised, strict=True)]


def mean_ssim(clean: Images, denoised: Images) -> list[float]:
    """SSIM by scikit-image, the mean over channels, in float64."""
    from skimage.metrics import structural_similarity

    return [
        structural_similarity(
            *pair, channel_axis=-1, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for pair in in_float64(clean, denoised)
    ]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_ssim_is_the_mean_over_channels_of_scikit_image(height: int, width: int) -> None:
    clean, denoised = pairs(height, width)
    np.testing.assert_allclose(Ssim()(clean, denoised), mean_ssim(clean, denoised), rtol=0, atol=1e-5)


def test_ssim_of_noisy_photographs_is_exact_to_seven_digits() -> None:
    clean = pieces(256, 256)
    np.testing.assert_allclose(Ssim()(clean, noisy(clean)), mean_ssim(clean, noisy(clean)), rtol=0, atol=1e-7)
    apart = Ssim()(np.ascontiguousarray(clean[..., 0]), np.ascontiguousarray(noisy(clean)[..., 0]))
    threefold = [np.repeat(images[..., :1], 3, axis=3) for images in (clean, noisy(clean))]
    np.testing.assert_allclose(Ssim()(*threefold), apart, rtol=0, atol=1e-7)


def test_the_window_of_float32_weights_adds_up_to_one() -> None:
    side = sum(map(float, (ssim_rgb.W1, ssim_rgb.W2, ssim_rgb.W3, ssim_rgb.W4, ssim_rgb.W5)))
    assert float(ssim_rgb.W0) + 2 * side == pytest.approx(1, abs=2e-10)


def volume_ssim(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """SSIM with MATLAB's window for volumes: a 3-D Gaussian of radius ceil(3 * 1.5), borders replicated."""
    from scipy.ndimage import correlate

    steps = np.arange(-5, 6) ** 2
    window = np.exp(-(steps[:, None, None] + steps[:, None] + steps) / (2 * 1.5**2))
    window /= window.sum()

    def local(values: NDArray[np.float64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = correlate(values, window, mode="nearest")
        return result

    mean, other_mean = local(one), local(other)
    variance, other_variance = local(one * one) - mean**2, local(other * other) - other_mean**2
    covariance = local(one * other) - mean * other_mean
    above = (2 * mean * other_mean + 0.01**2) * (2 * covariance + 0.03**2)
    below = (mean**2 + other_mean**2 + 0.01**2) * (variance + other_variance + 0.03**2)
    return float((above / below).mean())


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 8), (11, 12), (37, 13), (48, 48)])
def test_ssim_3d_is_that_of_a_dense_window_over_the_volume(height: int, width: int) -> None:
    clean, denoised = pairs(height, width)
    expected = [volume_ssim(*pair) for pair in in_float64(clean, denoised)]
    np.testing.assert_allclose(Ssim3d()(clean, denoised), expected, rtol=0, atol=1e-5)


def test_ssim_3d_of_photographs_is_that_of_scipy_s_gaussian_filter() -> None:
    from scipy.ndimage import gaussian_filter

    clean = pieces(150, 139)
    for one, other, score in zip(clean, noisy(clean), Ssim3d()(clean, noisy(clean)), strict=True):
        maps = [one, other, one**2, other**2, one * other]
        x, y, xx, yy, xy = (gaussian_filter(m.astype(np.float64), 1.5, radius=5, mode="nearest") for m in maps)
        above = (2 * x * y + 1e-4) * (2 * (xy - x * y) + 9e-4)
        below = (x * x + y * y + 1e-4) * (xx - x * x + yy - y * y + 9e-4)
        assert score == pytest.approx((above / below).mean(), abs=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), *SIZES])
def test_errors_are_joint_over_pixels_and_channels(height: int, width: int) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    clean, denoised = pairs(height, width)
    exact = in_float64(clean, denoised)
    with np.errstate(divide="ignore"):
        psnr = [peak_signal_noise_ratio(*pair, data_range=1) for pair in exact]
    np.testing.assert_allclose(Psnr()(clean, denoised), psnr, rtol=1e-12)
    np.testing.assert_allclose(Mse()(clean, denoised), [((a - b) ** 2).mean() for a, b in exact], rtol=1e-12)
    np.testing.assert_allclose(Mae()(clean, denoised), [abs(a - b).mean() for a, b in exact], rtol=1e-12)
    close = [(255 * abs(a - b) <= 8 + 1e-4).mean() for a, b in exact]
    np.testing.assert_allclose(Accuracy()(clean, denoised), close, rtol=0, atol=1e-12)


def test_gmsd_is_that_of_the_luminance() -> None:
    clean, denoised = pairs(48, 48)
    weights = np.array([0.299, 0.587, 0.114])
    grey = [(images.astype(np.float64) @ weights).astype(np.float32) for images in (clean, denoised)]
    np.testing.assert_allclose(Gmsd()(clean, denoised), Gmsd()(*grey), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_psnr_y_has_the_limited_range_of_rgb2ycbcr_or_the_full_one(height: int, width: int) -> None:
    from skimage.color import rgb2ycbcr, rgb2yuv
    from skimage.metrics import peak_signal_noise_ratio

    clean, denoised = pairs(height, width)
    clean, denoised = clean[len(photographs()) :], denoised[len(photographs()) :]  # without those that are perfect
    limited, full = [], []
    for one, other in in_float64(clean, denoised):
        limited.append(peak_signal_noise_ratio(rgb2ycbcr(one)[..., 0], rgb2ycbcr(other)[..., 0], data_range=255))
        full.append(peak_signal_noise_ratio(rgb2yuv(one)[..., 0], rgb2yuv(other)[..., 0], data_range=1))
    np.testing.assert_allclose(PsnrY()(clean, denoised), limited, rtol=0, atol=1e-4)
    np.testing.assert_allclose(PsnrY("full")(clean, denoised), full, rtol=0, atol=1e-3)


def test_psnr_y_of_known_differences() -> None:
    clean = np.zeros((4, 2, 2, 3), np.float32)
    denoised = clean.copy()
    for channel in range(3):
        denoised[channel, ..., channel] = 0.5
    denoised[3] = 0.5  # grey: Y differs by 0.5, or by 0.5 * 219 / 255
    by_hand = -20 * np.log10(0.5 * np.array([65.481 / 255, 128.553 / 255, 24.966 / 255, 219 / 255]))
    np.testing.assert_allclose(PsnrY()(clean, denoised), by_hand, rtol=1e-12)
    np.testing.assert_allclose(
        PsnrY("full")(clean, denoised), -20 * np.log10(0.5 * np.array([0.299, 0.587, 0.114, 1])), rtol=1e-12
    )


def test_variants_of_one_pair_differ_and_say_so_in_their_headings() -> None:
    clean = pieces(128, 128)[:1]
    assert Ssim3d()(clean, noisy(clean)) > Ssim()(clean, noisy(clean)) + 0.1
    assert [heading(cls, 3) for cls in COMPARING] == [
        "PSNR RGB",
        "SSIM RGB mean",
        "MSE RGB",
        "MAE RGB",
        "GMSD Y",
        "accuracy RGB",
        "PSNR Y",
        "SSIM 3D",
    ]
    assert [heading(cls, 1) for cls in METRICS[:6]] == ["PSNR", "SSIM", "MSE", "MAE", "GMSD", "accuracy"]


class Brightness(Metric):
    """Mean of the denoised image, by a plugin that knows nothing of colour."""

    name = "brightness"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        assert denoised.ndim == 3 and denoised.flags.c_contiguous and denoised.dtype == np.float32
        return np.asarray(denoised.mean(axis=(1, 2), dtype=np.float64))


class Redness(Brightness):
    """Mean of red, by a plugin that takes colour only."""

    name = "redness"
    channels: ClassVar[Channels] = "rgb"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        return np.asarray(denoised[..., 0].mean(axis=(1, 2), dtype=np.float64))


def test_a_grey_metric_scores_colour_by_its_mean_over_channels() -> None:
    clean, denoised = pairs(20, 24)
    np.testing.assert_allclose(score_stack(Brightness(), clean, denoised), denoised.mean(axis=(1, 2, 3)), rtol=1e-5)
    grey = np.ascontiguousarray(denoised[..., 1])
    np.testing.assert_allclose(score_stack(Brightness(), grey, grey), grey.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(score_stack(Redness(), clean, denoised), denoised[..., 0].mean(axis=(1, 2)), rtol=1e-5)
    for metric in (PsnrY(), Ssim3d(), Redness()):
        with pytest.raises(BenchboxError, match=f"{metric.name} scores colour images, but these are grey"):
            score_stack(metric, grey, grey)


@pytest.mark.parametrize("cls", COMPARING, ids=lambda cls: cls.name)
def test_a_score_is_the_image_s_own_and_has_a_best_value(cls: type[Metric]) -> None:
    metric, (clean, denoised) = cls(), pairs(48, 100)
    scores = metric(clean, denoised)
    assert scores.dtype == np.float64 and scores.shape == (len(clean),)
    order = np.random.default_rng(0).permutation(len(clean))
    np.testing.assert_array_equal(metric(clean[order], denoised[order]), scores[order])
    assert metric(clean[:0], denoised[:0]).shape == (0,)
    wide = np.zeros((*clean.shape[:2], 200, 3), dtype=np.float32)
    wide[:, :, ::2] = denoised
    wide.flags.writeable = False
    np.testing.assert_array_equal(metric(clean, wide[:, :, ::2]), scores)
    best = {"dB": np.inf}.get(cls.unit, 1.0 if cls.higher_is_better else 0.0)
    np.testing.assert_allclose(scores[: len(photographs())], best, rtol=0, atol=1e-15)
    slight, strong = (metric(clean, clean + np.float32(step) * (noisy(clean) - clean)) for step in (0.1, 1))
    assert ((slight > strong) == cls.higher_is_better).all()


@pytest.mark.parametrize("cls", COMPARING, ids=lambda cls: cls.name)
def test_a_value_that_is_not_finite_shows_in_the_score(cls: type[Metric]) -> None:
    clean = pieces(48, 100)
    spoiled = clean.copy()
    spoiled[0, 20, 90, 1] = np.nan
    scores = cls()(clean, spoiled)
    assert scores[0] == 1 - 1 / (48 * 100 * 3) if cls is Accuracy else np.isnan(scores[0])
    assert not np.isnan(scores[1:]).any()


def test_shapes_are_refused_by_name() -> None:
    def zeros(*shape: int) -> Images:
        return np.zeros(shape, np.float32)

    for cls in COMPARING:
        for shape in ((2, 16, 16, 4), (2, 16, 16, 1), (16, 16), (1, 2, 16, 16, 3)):
            with pytest.raises(ValueError, match=f"{'mse' if cls is Psnr else cls.name} needs two stacks of the same"):
                cls()(zeros(*shape), zeros(*shape))
        with pytest.raises(ValueError, match=r"got \(2, 16, 16, 3\) and \(2, 16, 16\)"):
            cls()(zeros(2, 16, 16, 3), zeros(2, 16, 16))
    with pytest.raises(ValueError, match=r"psnr_y .* same shape \(N, H, W, 3\), got \(2, 16, 16\)"):
        PsnrY()(zeros(2, 16, 16), zeros(2, 16, 16))
    with pytest.raises(ValueError, match="ssim needs images of at least 11 x 11 pixels, got 10 x 40"):
        Ssim()(zeros(1, 10, 40, 3), zeros(1, 10, 40, 3))


class Label(LabelMetric):
    """The label, plus the mean of the image."""

    name = "label"
    summary = "a label"
    label = "kind"

    def against(self, labels: NDArray[np.generic], denoised: Images) -> Scores:
        means: Scores = labels + denoised.reshape(len(denoised), -1).mean(axis=1, dtype=np.float64)
        return means


class ColourLabel(Label):
    channels: ClassVar[Channels] = "any"


@pytest.mark.parametrize("metric", [Label(), ColourLabel()])
def test_a_metric_gets_the_label_of_each_image_also_for_its_channels(metric: LabelMetric) -> None:
    colour = pieces(16, 20)
    labels = {"kind": np.arange(len(colour)) * 10, "other": np.zeros(len(colour))}
    expected = labels["kind"] + colour.mean(axis=(1, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(score_stack(metric, colour, colour, labels), expected, atol=1e-6)
    grey = np.ascontiguousarray(colour[..., 0])
    expected = labels["kind"] + grey.mean(axis=(1, 2), dtype=np.float64)
    np.testing.assert_allclose(score_stack(metric, grey, grey, labels), expected, atol=1e-6)
    with pytest.raises(TypeError, match="call against"):
        metric(grey, grey)
