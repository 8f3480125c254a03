"""`identity`, `gaussian_blur`, `median` and `bilateral`: filters that average or rank neighbours."""

from __future__ import annotations

import math

import numpy as np

from benchbox import Capabilities, Denoiser, Images, Sigma
from benchbox_filters.levels import TUNED_ON, keep_clean, levels, positive


class Identity(Denoiser):
    """Returns its input: the score of doing nothing, the floor of every leaderboard."""

    name = "identity"
    summary = "returns its input unchanged; the floor of every leaderboard"
    capabilities = Capabilities(sigma="unused", channels="any")
    is_floor = True

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Return a copy of the stack."""
        return noisy.copy()


def gaussian(stack: Images, widths: Sigma) -> Images:
    """Convolve each image with a Gaussian of its own width, cut off at four widths, with mirrored borders.

    `widths`, shape (N,), are standard deviations in pixels, greater than 0. One OpenCV call per image takes half the
    time of `scipy.ndimage.gaussian_filter` on the whole stack, and is as fast if every image has its own width.
    """
    import cv2

    result = np.empty_like(stack)
    for image, width, out in zip(stack, widths.tolist(), result, strict=True):
        cv2.GaussianBlur(image, (0, 0), width, dst=out, borderType=cv2.BORDER_REFLECT)
    return result


class GaussianBlur(Denoiser):
    """Gaussian blur (`cv2.GaussianBlur`, cut off at four standard deviations).

    Parameters
    ----------
    blur_sigma : float, optional
        Standard deviation of the kernel in pixels, greater than 0. By default ``0.28 + 4.6 sigma^0.9``.
    """

    name = "gaussian_blur"
    summary = "Gaussian blur whose width follows the noise level"
    reference = "Gonzalez and Woods, Digital Image Processing, chapter 3"
    capabilities = Capabilities(sigma="optional", tuned_on=TUNED_ON, channels="any")

    def __init__(self, *, blur_sigma: float | None = None) -> None:
        self.blur_sigma = positive("blur_sigma", blur_sigma)

    def setup(self, shape: tuple[int, ...]) -> None:
        """Import OpenCV."""
        gaussian(np.zeros((1, 8, 8), np.float32), np.ones(1, np.float32))

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Blur every image."""
        sigma = levels(noisy, sigma)
        widths = (
            0.28 + 4.6 * sigma**0.9 if self.blur_sigma is None else np.full(len(noisy), self.blur_sigma, np.float32)
        )
        return keep_clean(gaussian(noisy, widths), noisy, sigma)


class Median(Denoiser):
    """Median filter with a square window, applied once or repeatedly.

    Repeated small windows beat one large window at high noise: at ``sigma = 0.5`` three passes of 5x5 gain 0.6 dB over
    one pass of 9x9 on faces, in a fraction of the time.

    Parameters
    ----------
    size : int, optional
        Side of the window in pixels, odd. By default, size and passes follow `sigma`: no filter below 0.048, where a
        median removes more detail than noise; 3x3 once from 0.048 and twice from 0.13; 5x5 twice from 0.25 and three
        times from 0.4; 3x3 once if no noise level is given.
    passes : int
        Number of passes if `size` is set.
    """

    name = "median"
    summary = "median filter with a small square window, repeated at high noise"
    reference = "Tukey, Exploratory Data Analysis, 1977"
    capabilities = Capabilities(sigma="optional", tuned_on=TUNED_ON, channels="any")

    def __init__(self, *, size: int | None = None, passes: int = 1) -> None:
        if size is not None and (size < 1 or size % 2 == 0):
            raise ValueError(f"size must be odd and at least 1, got {size}")
        if passes < 1:
            raise ValueError(f"passes must be at least 1, got {passes}")
        self.size = size
        self.passes = passes

    def setup(self, shape: tuple[int, ...]) -> None:
        """Import the library that the window size needs."""
        self.denoise(np.zeros((1, 8, 8), np.float32), np.full(1, 0.1, np.float32))

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Filter every image."""
        if self.size is not None:
            plan = [(self.size, self.passes)] * len(noisy)
        elif sigma is None:
            plan = [(3, 1)] * len(noisy)
        else:
            plan = [_window(level) for level in sigma.tolist()]
        result = noisy.copy()
        if self.size is not None and self.size > 5:
            from scipy import ndimage

            # OpenCV filters float images only with windows up to 5x5.
            for _ in range(self.passes):
                window = (1, self.size, self.size, 1)[: result.ndim]
                result = ndimage.median_filter(result, window, mode="nearest")
        else:
            import cv2

            for out, (size, passes) in zip(result, plan, strict=True):
                for _ in range(passes if size > 1 else 0):
                    cv2.medianBlur(out, size, dst=out)
        return result if sigma is None else keep_clean(result, noisy, sigma)


_COLOUR = 1.8
"""Factor on the grey-level scale of colour, because OpenCV sums the absolute differences of the channels."""


def _window(sigma: float) -> tuple[int, int]:
    if sigma < 0.048:
        return 1, 1
    if sigma < 0.25:
        return 3, 1 if sigma < 0.13 else 2
    return 5, 2 if sigma < 0.4 else 3


class Bilateral(Denoiser):
    """Bilateral filter: averages pixels that are close in position and in grey level (`cv2.bilateralFilter`).

    In colour, they must be close in all channels together.

    Parameters
    ----------
    sigma_color : float, optional
        Standard deviation of the grey-level weight on the [0, 1] scale, greater than 0. By default
        ``(2.2 + 8.8 sigma) sigma``.
    sigma_space : float, optional
        Standard deviation of the distance weight in pixels, greater than 0. By default ``0.87 + 4.3 sigma``. The window
        extends to twice this distance, rounded up.
    """

    name = "bilateral"
    summary = "bilateral filter: average of pixels close in position and grey level"
    reference = "Tomasi and Manduchi, ICCV 1998, doi:10.1109/ICCV.1998.710815"
    capabilities = Capabilities(sigma="optional", tuned_on=TUNED_ON, channels="any")

    def __init__(self, *, sigma_color: float | None = None, sigma_space: float | None = None) -> None:
        self.sigma_color = positive("sigma_color", sigma_color)
        self.sigma_space = positive("sigma_space", sigma_space)

    def setup(self, shape: tuple[int, ...]) -> None:
        """Import OpenCV."""
        self.denoise(np.zeros((1, 8, 8), np.float32), None)

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Filter one image per OpenCV call, because the table of weights spans the range of its input."""
        import cv2

        sigma = levels(noisy, sigma)
        result = noisy.copy()
        for image, out, level in zip(noisy, result, sigma.tolist(), strict=True):
            color = (2.2 + 8.8 * level) * level if self.sigma_color is None else self.sigma_color
            color *= 1 if image.ndim == 2 else _COLOUR
            space = 0.87 + 4.3 * level if self.sigma_space is None else self.sigma_space
            if level > 0:
                cv2.bilateralFilter(
                    image, 2 * math.ceil(2 * space) + 1, color, space, dst=out, borderType=cv2.BORDER_REFLECT
                )
        return result
