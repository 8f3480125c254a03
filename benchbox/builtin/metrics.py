"""The built-in metrics, one score per image, and how a metric of any plugin scores colour.

On RGB images, PSNR, MSE, MAE and accuracy are joint over pixels and channels, SSIM is the mean over channels, and GMSD
that of the luminance. Other variants have names of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Channels, Images, Scores
from benchbox.api.errors import BenchboxError
from benchbox.api.metric import LabelMetric, Metric
from benchbox.builtin.channels import CHANNELS, channels_apart, is_colour, luminance
from benchbox.builtin.sigma import PsnrSure

UNIFORM = 7
"""Side of the uniform window of SSIM."""


def heading(metric: type[Metric], channels: int) -> str:
    """Column heading of a metric on images of 1 or 3 channels."""
    return (metric.color_title if channels == CHANNELS else "") or metric.title or metric.name


def require_channels(metric: Metric | type[Metric], channels: int) -> None:
    """Raise `BenchboxError` if a metric cannot score images of 1 or 3 channels."""
    if metric.channels == "rgb" and channels != CHANNELS:
        raise BenchboxError(
            f"{metric.name} scores colour images, but these are grey",
            hint=f"omit {metric.name}, or use colour images with --color rgb",
        )


def score_stack(
    metric: Metric, clean: Images, denoised: Images, labels: Mapping[str, NDArray[np.generic]] | None = None
) -> Scores:
    """Score a stack with any metric; the score of a grey one on colour images is its mean over their channels.

    `labels` has those of each image, by name, for a `LabelMetric`.

    Raises
    ------
    BenchboxError
        The metric is for colour and the images are grey.
    """
    own = (labels or {})[metric.label] if isinstance(metric, LabelMetric) else None
    if is_colour(clean) and metric.channels == "grey":
        each = None if own is None else np.repeat(own, CHANNELS)
        apart = _scored(metric, channels_apart(clean), channels_apart(denoised), each)
        means: Scores = apart.reshape(len(clean), CHANNELS).mean(axis=1)
        return means
    require_channels(metric, CHANNELS if is_colour(clean) else 1)
    return _scored(metric, clean, denoised, own)


def _scored(metric: Metric, clean: Images, denoised: Images, labels: NDArray[np.generic] | None) -> Scores:
    if isinstance(metric, LabelMetric) and labels is not None:
        return metric.against(labels, denoised)
    return metric(clean, denoised)


@dataclass(frozen=True)
class Psnr(Metric):
    """Peak signal-to-noise ratio: ``10 log10(1 / mse)``, for a data range of 1; in colour over all three channels.

    A perfectly restored image scores ``inf``, which counts as 100 dB in means and tests, because one ``inf`` would hide
    all others; a note gives the number of such images. The mean PSNR is the mean of the per-image scores, not the PSNR
    of the mean error.
    """

    name: ClassVar[str] = "psnr"
    by_default: ClassVar[bool] = True
    title: ClassVar[str] = "PSNR"
    color_title: ClassVar[str] = "PSNR RGB"
    channels: ClassVar[Channels] = "any"
    digits: ClassVar[int | None] = 2
    summary: ClassVar[str] = "peak signal-to-noise ratio with a data range of 1; inf for a perfect image"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    reference: ClassVar[str] = "Gonzalez & Woods, Digital Image Processing, section 8.1"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`; in dB."""
        return _decibels(Mse()(clean, denoised))


@dataclass(frozen=True)
class Ssim(Metric):
    """Structural similarity as defined by Wang et al.; 1 for a perfect image.

    An 11 x 11 Gaussian window with a standard deviation of 1.5 pixels, population covariance, a data range of 1,
    K1 = 0.01 and K2 = 0.03, averaged over all positions where the window is inside the image. Equal to
    ``skimage.metrics.structural_similarity(clean, denoised, data_range=1, gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False)`` computed in float64. Images smaller than the window raise `ValueError`.

    In colour the mean over the three channels, as with ``channel_axis=-1``. It is computed in float32: within 1e-7 on
    photographs with noise, within 1e-5 on every image tried but a black one of 11 x 11 pixels (3e-5).

    The options are other variants in use. ``window="uniform"`` is what scikit-image computes by default: a 7 x 7 window
    of equal weights and sample covariance. ``edges="repeated"`` repeats the pixels at the edges, so that the mean is
    over all pixels.
    """

    name: ClassVar[str] = "ssim"
    by_default: ClassVar[bool] = True
    title: ClassVar[str] = "SSIM"
    color_title: ClassVar[str] = "SSIM RGB mean"
    channels: ClassVar[Channels] = "any"
    digits: ClassVar[int | None] = 4
    summary: ClassVar[str] = "structural similarity with an 11 x 11 Gaussian window, sigma 1.5, population covariance"
    higher_is_better: ClassVar[bool] = True
    reference: ClassVar[str] = "Wang, Bovik, Sheikh & Simoncelli 2004, doi:10.1109/TIP.2003.819861"
    min_size: ClassVar[int] = 11

    window: Literal["gaussian", "uniform"] = "gaussian"
    edges: Literal["inside", "repeated"] = "inside"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`; in [-1, 1]."""
        clean, denoised, scores = _prepare(self, clean, denoised)
        if self.edges == "repeated":
            taps = UNIFORM if self.window == "uniform" else self.min_size
            clean, denoised = (_with_edges(images, taps // 2) for images in (clean, denoised))
        if self.window == "uniform":
            return _ssim_uniform(clean, denoised)
        if is_colour(clean):
            from benchbox.builtin.kernels import ssim_rgb

            ssim_rgb.ssim_rgb(_flat(clean), _flat(denoised), False, scores)
        else:
            from benchbox.builtin.kernels import ssim

            ssim.ssim(clean, denoised, scores)
        return scores


@dataclass(frozen=True)
class Mse(Metric):
    """Mean squared error: ``mean((clean - denoised)**2)`` on the [0, 1] scale, in colour over all three channels."""

    name: ClassVar[str] = "mse"
    by_default: ClassVar[bool] = True
    title: ClassVar[str] = "MSE"
    color_title: ClassVar[str] = "MSE RGB"
    channels: ClassVar[Channels] = "any"
    summary: ClassVar[str] = "mean squared error on the [0, 1] scale"
    higher_is_better: ClassVar[bool] = False
    reference: ClassVar[str] = "Gonzalez & Woods, Digital Image Processing, section 8.1"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`."""
        clean, denoised, scores = _prepare(self, clean, denoised)
        from benchbox.builtin.kernels import pixels

        pixels.mean_squared(_flat(clean), _flat(denoised), scores)
        return scores


@dataclass(frozen=True)
class Mae(Metric):
    """Mean absolute error: ``mean(|clean - denoised|)`` on the [0, 1] scale, in colour over all three channels."""

    name: ClassVar[str] = "mae"
    by_default: ClassVar[bool] = True
    title: ClassVar[str] = "MAE"
    color_title: ClassVar[str] = "MAE RGB"
    channels: ClassVar[Channels] = "any"
    shown: ClassVar[bool] = False
    summary: ClassVar[str] = "mean absolute error on the [0, 1] scale"
    higher_is_better: ClassVar[bool] = False
    reference: ClassVar[str] = "Willmott & Matsuura 2005, doi:10.3354/cr030079"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`."""
        clean, denoised, scores = _prepare(self, clean, denoised)
        from benchbox.builtin.kernels import pixels

        pixels.mean_absolute(_flat(clean), _flat(denoised), scores)
        return scores


@dataclass(frozen=True)
class Gmsd(Metric):
    """Gradient magnitude similarity deviation; 0 for a perfect image, higher is worse.

    As in the authors' code: average 2 x 2 blocks, take Prewitt gradients scaled by 1/3 with zeros beyond the border,
    compute ``(2 g1 g2 + c) / (g1**2 + g2**2 + c)`` for each pixel, and take the sample standard deviation over this
    map. Their c = 170 for images in [0, 255] becomes ``170 / 255**2 = 0.0026``. Images smaller than 6 x 6 pixels, which
    have no complete gradient after halving, raise `ValueError`. In colour, that of the luminance (ITU-R BT.601).
    """

    name: ClassVar[str] = "gmsd"
    by_default: ClassVar[bool] = True
    title: ClassVar[str] = "GMSD"
    color_title: ClassVar[str] = "GMSD Y"
    channels: ClassVar[Channels] = "any"
    digits: ClassVar[int | None] = 4
    shown: ClassVar[bool] = False
    summary: ClassVar[str] = "gradient magnitude similarity deviation"
    higher_is_better: ClassVar[bool] = False
    reference: ClassVar[str] = "Xue, Zhang, Mou & Bovik 2014, doi:10.1109/TIP.2013.2293423"
    min_size: ClassVar[int] = 6

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`."""
        clean, denoised, scores = _prepare(self, clean, denoised)
        from benchbox.builtin.kernels import pixels

        pixels.gmsd(_grey(clean), _grey(denoised), scores)
        return scores


@dataclass(frozen=True)
class Accuracy(Metric):
    """Share of pixels restored to within a tolerance: ``mean(255 * |clean - denoised| <= tolerance)``.

    The tolerance is in grey levels of 1/255, from 0 to 255. The default of 8 is 3 % of the range, about a third of the
    standard deviation of ``gaussian:0.1``. In colour, each channel of a pixel counts by itself.
    """

    name: ClassVar[str] = "accuracy"
    by_default: ClassVar[bool] = True
    color_title: ClassVar[str] = "accuracy RGB"
    channels: ClassVar[Channels] = "any"
    digits: ClassVar[int | None] = 4
    shown: ClassVar[bool] = False
    summary: ClassVar[str] = "share of pixels restored to within a tolerance in grey levels"
    higher_is_better: ClassVar[bool] = True

    tolerance: float = 8.0

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 255:
            raise ValueError(f"tolerance={self.tolerance:g} is outside [0, 255] grey levels")

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`; in [0, 1]."""
        clean, denoised, scores = _prepare(self, clean, denoised)
        from benchbox.builtin.kernels import pixels

        # Rounding to float32 changes a difference by up to 3e-5 grey levels; an error equal to the tolerance counts.
        pixels.share_within(_flat(clean), _flat(denoised), (self.tolerance + 1e-4) / 255, scores)
        return scores


@dataclass(frozen=True)
class PsnrY(Metric):
    """PSNR of the luminance of RGB images, in the variants of ITU-R BT.601, Y not rounded to 8 bits.

    With the limited range, the default, Y goes from 16/255 to 235/255, as MATLAB's ``rgb2ycbcr`` computes it and papers
    on super-resolution and denoising report it: ``Y = (65.481 R + 128.553 G + 24.966 B + 16) / 255``. Its peak still
    counts as 1, so scores are ``20 log10(255 / 219) = 1.32 dB`` above those of the full range,
    ``Y = 0.299 R + 0.587 G + 0.114 B``. (For 8-bit images, MATLAB also rounds Y to integers.)
    """

    name: ClassVar[str] = "psnr_y"
    title: ClassVar[str] = "PSNR Y"
    channels: ClassVar[Channels] = "rgb"
    digits: ClassVar[int | None] = 2
    summary: ClassVar[str] = "PSNR of the luminance of RGB images (ITU-R BT.601), limited range (16 to 235) or full"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    reference: ClassVar[str] = "ITU-R Recommendation BT.601-7, sections 2.5.1 and 2.5.3"

    range: Literal["limited", "full"] = "limited"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`; in dB."""
        clean, denoised, scores = _prepare(self, clean, denoised)
        from benchbox.builtin.kernels import pixels

        full = self.range == "full"
        weights = np.array([0.299, 0.587, 0.114]) if full else np.array([65.481, 128.553, 24.966]) / 255
        pixels.mean_squared_sum(_flat(clean), _flat(denoised), weights, scores)
        return _decibels(scores)


@dataclass(frozen=True)
class Ssim3d(Metric):
    """SSIM of RGB images as a volume of height x width x 3, as MATLAB's ``ssim`` computes it for such an array.

    As `Ssim`, but the Gaussian window also covers the third axis (11 x 11 x 11, standard deviation 1.5), values beyond
    all borders repeat those at the border, and the mean is over all positions. The window thus mixes the channels: at
    red it weighs red with 0.63, green with 0.21 and blue with 0.15. Papers on SIDD report this variant. Computed in
    float32 like `Ssim` in colour.
    """

    name: ClassVar[str] = "ssim_3d"
    title: ClassVar[str] = "SSIM 3D"
    channels: ClassVar[Channels] = "rgb"
    digits: ClassVar[int | None] = 4
    summary: ClassVar[str] = "SSIM with an 11 x 11 x 11 window over height, width and channels, as MATLAB's ssim of RGB"
    higher_is_better: ClassVar[bool] = True
    reference: ClassVar[str] = "Wang, Bovik, Sheikh & Simoncelli 2004, doi:10.1109/TIP.2003.819861"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`; in [-1, 1]."""
        clean, denoised, scores = _prepare(self, clean, denoised)
        from benchbox.builtin.kernels import ssim_rgb

        clean, denoised = (_with_edges(images, 5) for images in (clean, denoised))
        ssim_rgb.ssim_rgb(_flat(clean), _flat(denoised), True, scores)
        return scores


METRICS: list[type[Metric]] = [Psnr, Ssim, Mse, Mae, Gmsd, Accuracy, PsnrY, Ssim3d, PsnrSure]


def _prepare(metric: Metric, clean: Images, denoised: Images) -> tuple[Images, Images, Scores]:
    """Check two stacks, make them contiguous float32 and allocate the scores."""
    colour = is_colour(clean) and clean.shape[3] == CHANNELS
    grey = clean.ndim == 3 and metric.channels != "rgb"
    if not (colour or grey) or clean.shape != denoised.shape:
        shapes = "(N, H, W, 3)" if metric.channels == "rgb" else "(N, H, W) or (N, H, W, 3)"
        raise ValueError(
            f"{metric.name} needs two stacks of the same shape {shapes}, got {clean.shape} and {denoised.shape}"
        )
    height, width = clean.shape[1:3]
    if min(height, width) < metric.min_size:
        smallest = f"{metric.min_size} x {metric.min_size}"
        raise ValueError(f"{metric.name} needs images of at least {smallest} pixels, got {height} x {width}")
    return (
        np.ascontiguousarray(clean, dtype=np.float32),
        np.ascontiguousarray(denoised, dtype=np.float32),
        np.empty(len(clean), dtype=np.float64),
    )


def _with_edges(images: Images, width: int) -> Images:
    """Repeat the pixels at the edges of a stack `width` times."""
    padding = ((0, 0), (width, width), (width, width)) + ((0, 0),) * (images.ndim - 3)
    return np.ascontiguousarray(np.pad(images, padding, mode="edge"))


def _ssim_uniform(clean: Images, denoised: Images) -> Scores:
    """SSIM with a uniform window and sample covariance, where the window is inside the image; mean over channels."""
    from scipy.ndimage import uniform_filter

    def local(values: NDArray[np.float64]) -> NDArray[np.float64]:
        means = uniform_filter(values, size=(1, UNIFORM, UNIFORM, 1)[: values.ndim])
        edge = UNIFORM // 2
        inside: NDArray[np.float64] = means[:, edge:-edge, edge:-edge]
        return inside

    x, y = clean.astype(np.float64), denoised.astype(np.float64)
    mean_x, mean_y = local(x), local(y)
    sample = UNIFORM**2 / (UNIFORM**2 - 1)
    variances = sample * (local(x * x) - mean_x**2 + local(y * y) - mean_y**2)
    covariance = sample * (local(x * y) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    scores: Scores = similarity.reshape(len(clean), -1).mean(axis=1)
    return scores


def _flat(images: Images) -> Images:
    """View RGB images (N, H, W, 3) as (N, H, 3 W); grey ones stay as they are."""
    return images.reshape(*images.shape[:2], math.prod(images.shape[2:]))


def _grey(images: Images) -> Images:
    return luminance(images) if is_colour(images) else images


def _decibels(errors: Scores) -> Scores:
    with np.errstate(divide="ignore"):
        scores: Scores = 10 * np.log10(1 / errors)
    return scores
