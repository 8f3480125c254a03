"""The built-in metrics: PSNR, SSIM, MSE, MAE, GMSD and accuracy, one score per image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchbox.api.arrays import Images, Scores
from benchbox.api.metric import Metric


@dataclass(frozen=True)
class Psnr(Metric):
    """Peak signal-to-noise ratio: ``10 log10(1 / mse)``, for a data range of 1.

    A perfectly restored image scores ``inf``, which counts as 100 dB in means and tests, because one ``inf`` would hide
    all others; a note gives the number of such images. The mean PSNR is the mean of the per-image scores, not the PSNR
    of the mean error.
    """

    name: ClassVar[str] = "psnr"
    title: ClassVar[str] = "PSNR"
    digits: ClassVar[int | None] = 2
    summary: ClassVar[str] = "peak signal-to-noise ratio with a data range of 1; inf for a perfect image"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    reference: ClassVar[str] = "Gonzalez & Woods, Digital Image Processing, section 8.1"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`; in dB."""
        with np.errstate(divide="ignore"):
            scores: Scores = 10 * np.log10(1 / Mse()(clean, denoised))
        return scores


@dataclass(frozen=True)
class Ssim(Metric):
    """Structural similarity as defined by Wang et al.; 1 for a perfect image.

    An 11 x 11 Gaussian window with a standard deviation of 1.5 pixels, population covariance, a data range of 1,
    K1 = 0.01 and K2 = 0.03, averaged over all positions where the window is inside the image. Equal to
    ``skimage.metrics.structural_similarity(clean, denoised, data_range=1, gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False)`` computed in float64. Images smaller than the window raise `ValueError`.
    """

    name: ClassVar[str] = "ssim"
    title: ClassVar[str] = "SSIM"
    digits: ClassVar[int | None] = 4
    summary: ClassVar[str] = "structural similarity with an 11 x 11 Gaussian window, sigma 1.5, population covariance"
    higher_is_better: ClassVar[bool] = True
    reference: ClassVar[str] = "Wang, Bovik, Sheikh & Simoncelli 2004, doi:10.1109/TIP.2003.819861"
    min_size: ClassVar[int] = 11

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`; in [-1, 1]."""
        clean, denoised, scores = _prepare(self, clean, denoised)
        from benchbox.builtin.kernels import ssim

        ssim.ssim(clean, denoised, scores)
        return scores


@dataclass(frozen=True)
class Mse(Metric):
    """Mean squared error: ``mean((clean - denoised)**2)`` on the [0, 1] scale; 0 for a perfect image."""

    name: ClassVar[str] = "mse"
    title: ClassVar[str] = "MSE"
    summary: ClassVar[str] = "mean squared error on the [0, 1] scale"
    higher_is_better: ClassVar[bool] = False
    reference: ClassVar[str] = "Gonzalez & Woods, Digital Image Processing, section 8.1"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`."""
        clean, denoised, scores = _prepare(self, clean, denoised)
        from benchbox.builtin.kernels import pixels

        pixels.mean_squared(clean, denoised, scores)
        return scores


@dataclass(frozen=True)
class Mae(Metric):
    """Mean absolute error: ``mean(|clean - denoised|)`` on the [0, 1] scale; 0 for a perfect image."""

    name: ClassVar[str] = "mae"
    title: ClassVar[str] = "MAE"
    shown: ClassVar[bool] = False
    summary: ClassVar[str] = "mean absolute error on the [0, 1] scale"
    higher_is_better: ClassVar[bool] = False
    reference: ClassVar[str] = "Willmott & Matsuura 2005, doi:10.3354/cr030079"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`."""
        clean, denoised, scores = _prepare(self, clean, denoised)
        from benchbox.builtin.kernels import pixels

        pixels.mean_absolute(clean, denoised, scores)
        return scores


@dataclass(frozen=True)
class Gmsd(Metric):
    """Gradient magnitude similarity deviation; 0 for a perfect image, higher is worse.

    As in the authors' code: average 2 x 2 blocks, take Prewitt gradients scaled by 1/3 with zeros beyond the border,
    compute ``(2 g1 g2 + c) / (g1**2 + g2**2 + c)`` for each pixel, and take the sample standard deviation over this
    map. Their c = 170 for images in [0, 255] becomes ``170 / 255**2 = 0.0026``. Images smaller than 6 x 6 pixels, which
    have no complete gradient after halving, raise `ValueError`.
    """

    name: ClassVar[str] = "gmsd"
    title: ClassVar[str] = "GMSD"
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

        pixels.gmsd(clean, denoised, scores)
        return scores


@dataclass(frozen=True)
class Accuracy(Metric):
    """Share of pixels restored to within a tolerance: ``mean(255 * |clean - denoised| <= tolerance)``.

    The tolerance is in grey levels of 1/255, from 0 to 255. The default of 8 is 3 % of the range, about a third of the
    standard deviation of ``gaussian:0.1``.
    """

    name: ClassVar[str] = "accuracy"
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
        pixels.share_within(clean, denoised, (self.tolerance + 1e-4) / 255, scores)
        return scores


METRICS: list[type[Metric]] = [Psnr, Ssim, Mse, Mae, Gmsd, Accuracy]


def _prepare(metric: Metric, clean: Images, denoised: Images) -> tuple[Images, Images, Scores]:
    """Check two stacks, make them contiguous float32 and allocate the scores."""
    if clean.ndim == 4:
        clean, denoised = (x.reshape(*x.shape[:2], -1) for x in (clean, denoised))
    if clean.ndim != 3 or clean.shape != denoised.shape:
        raise ValueError(
            f"{metric.name} needs two stacks of the same shape (N, H, W), got {clean.shape} and {denoised.shape}"
        )
    height, width = clean.shape[1:]
    if min(height, width) < metric.min_size:
        smallest = f"{metric.min_size} x {metric.min_size}"
        raise ValueError(f"{metric.name} needs images of at least {smallest} pixels, got {height} x {width}")
    return (
        np.ascontiguousarray(clean, dtype=np.float32),
        np.ascontiguousarray(denoised, dtype=np.float32),
        np.empty(len(clean), dtype=np.float64),
    )
