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

    An image restored perfectly has ``inf``. A mean of PSNR is taken over the images of finite value, for one ``inf``
    would hide all others; the number of perfect images is stated beside it. It is the mean of the images' values and
    not the value of their mean error.
    """

    name: ClassVar[str] = "psnr"
    title: ClassVar[str] = "PSNR"
    digits: ClassVar[int | None] = 2
    summary: ClassVar[str] = "peak signal-to-noise ratio, data range 1; inf for a perfect image"
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
    """Structural similarity as Wang et al. define it; 1 for a perfect image.

    An 11 x 11 Gaussian window of standard deviation 1.5, population covariance, data range 1, K1 = 0.01, K2 = 0.03,
    averaged over the places where the window lies inside the image. It is
    ``skimage.metrics.structural_similarity(clean, denoised, data_range=1, gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False)`` computed in float64.

    Raises
    ------
    ValueError
        An image is smaller than the window.
    """

    name: ClassVar[str] = "ssim"
    title: ClassVar[str] = "SSIM"
    digits: ClassVar[int | None] = 4
    summary: ClassVar[str] = "structural similarity, 11 x 11 Gaussian window of 1.5 pixels, population covariance"
    higher_is_better: ClassVar[bool] = True
    reference: ClassVar[str] = "Wang, Bovik, Sheikh & Simoncelli 2004, doi:10.1109/TIP.2003.819861"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`; in [-1, 1]."""
        clean, denoised, scores = _prepare(self, clean, denoised, smallest=11)
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
    """Gradient magnitude similarity deviation; 0 for a perfect image, more is worse.

    As in the authors' code: 2 x 2 means and every second place, Prewitt gradients scaled by 1/3, zeros beyond the
    border, ``(2 g1 g2 + c) / (g1**2 + g2**2 + c)``, and the sample standard deviation over the map. Their c = 170 for
    images in [0, 255] is ``170 / 255**2 = 0.0026`` here.

    Raises
    ------
    ValueError
        An image is smaller than 6 x 6, which halved has no full gradient.
    """

    name: ClassVar[str] = "gmsd"
    title: ClassVar[str] = "GMSD"
    digits: ClassVar[int | None] = 4
    shown: ClassVar[bool] = False
    summary: ClassVar[str] = "gradient magnitude similarity deviation"
    higher_is_better: ClassVar[bool] = False
    reference: ClassVar[str] = "Xue, Zhang, Mou & Bovik 2014, doi:10.1109/TIP.2013.2293423"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`."""
        clean, denoised, scores = _prepare(self, clean, denoised, smallest=6)
        from benchbox.builtin.kernels import pixels as gmsd

        gmsd.gmsd(clean, denoised, scores)
        return scores


@dataclass(frozen=True)
class Accuracy(Metric):
    """Share of the pixels restored to within a tolerance: ``mean(255 * |clean - denoised| <= tolerance)``.

    Parameters
    ----------
    tolerance : float
        Largest error that counts as restored, in grey levels of 1/255. The default of 8 is 3 % of the range, about a
        third of the standard deviation of ``gaussian:0.1``.

    Raises
    ------
    ValueError
        `tolerance` is outside [0, 255].
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

        # Two float32 grey levels differ from their distance by up to 3e-5 levels; an error at the tolerance counts.
        pixels.share_within(clean, denoised, (self.tolerance + 1e-4) / 255, scores)
        return scores


METRICS: list[type[Metric]] = [Psnr, Ssim, Mse, Mae, Gmsd, Accuracy]


def _prepare(metric: Metric, clean: Images, denoised: Images, smallest: int = 1) -> tuple[Images, Images, Scores]:
    """Check two stacks, lay them out for the kernels and make room for the scores."""
    if clean.ndim != 3 or clean.shape != denoised.shape:
        raise ValueError(f"{metric.name} compares stacks of one shape (N, H, W), got {clean.shape}, {denoised.shape}")
    height, width = clean.shape[1:]
    if min(height, width) < smallest:
        raise ValueError(
            f"{metric.name} needs images of at least {smallest} x {smallest} pixels, got {height} x {width}"
        )
    return (
        np.ascontiguousarray(clean, dtype=np.float32),
        np.ascontiguousarray(denoised, dtype=np.float32),
        np.empty(len(clean), dtype=np.float64),
    )
