"""Filters that shrink detail by how far it stands out of the noise: local Wiener and wavelet shrinkage."""

from __future__ import annotations

import numpy as np

from benchbox import Capabilities, Denoiser, Images, Sigma
from benchbox_filters.levels import TUNED_ON, keep_clean, positive, told
from benchbox_filters.smoothing import gaussian


class Wiener(Denoiser):
    """Local adaptive Wiener filter: each pixel keeps the share of its deviation that its surroundings explain.

    ``mean + max(variance - strength sigma^2, 0) / variance * (noisy - mean)``, with mean and variance taken under a
    Gaussian window rather than Lee's square. A `strength` above 1 makes up for the scatter of a variance that is
    measured on few pixels.

    Parameters
    ----------
    window_sigma : float, optional
        Standard deviation of the window in pixels, greater than 0. By default ``0.9 + 3.5 sigma``.
    strength : float
        How many noise variances are subtracted from the local variance, greater than 0.
    """

    name = "wiener"
    summary = "local adaptive Wiener filter over a Gaussian window"
    reference = "Lee, IEEE TPAMI 2(2), 1980, doi:10.1109/TPAMI.1980.4766994"
    capabilities = Capabilities(sigma="required", tuned_on=TUNED_ON)

    def __init__(self, *, window_sigma: float | None = None, strength: float = 1.6) -> None:
        self.window_sigma = positive("window_sigma", window_sigma)
        positive("strength", strength)
        self.strength = strength

    def setup(self, shape: tuple[int, int, int]) -> None:
        """Import OpenCV."""
        gaussian(np.zeros((1, 8, 8), np.float32), np.ones(1, np.float32))

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Filter the stack."""
        sigma = told(self.name, sigma)
        widths = 0.9 + 3.5 * sigma if self.window_sigma is None else np.full(len(noisy), self.window_sigma, np.float32)
        mean = gaussian(noisy, widths)
        variance = gaussian(noisy * noisy, widths)
        variance -= mean * mean
        floor = (np.float32(self.strength) * sigma * sigma)[:, None, None]
        # Where the variance does not exceed the noise the gain is 0; the maximum also keeps the divisor from 0.
        np.maximum(variance, np.maximum(floor, np.finfo(np.float32).tiny), out=variance)
        result = noisy - mean
        result *= (variance - floor) / variance
        result += mean
        return keep_clean(result, noisy, sigma)


class Wavelet(Denoiser):
    """Soft thresholds in the undecimated wavelet transform, one for each image and band (BayesShrink).

    The threshold of a band is ``strength * sigma^2 / sqrt(max(mean(coefficients^2) - sigma^2, 0))``. The undecimated
    transform (`pywt.swt2`) averages over all shifts of the image, which removes the blocks that thresholds leave.

    Parameters
    ----------
    wavelet : str
        A discrete orthogonal wavelet of PyWavelets.
    level : int
        Number of scales, at least 1.
    strength : float
        Factor on the BayesShrink threshold, greater than 0.
    """

    name = "wavelet"
    summary = "translation-invariant wavelet shrinkage with BayesShrink thresholds"
    reference = "Chang, Yu and Vetterli, IEEE TIP 9(9), 2000, doi:10.1109/83.862633"
    capabilities = Capabilities(sigma="required", tuned_on=TUNED_ON)

    def __init__(self, *, wavelet: str = "haar", level: int = 3, strength: float = 1.2) -> None:
        if level < 1:
            raise ValueError(f"level must be at least 1, got {level}")
        positive("strength", strength)
        self.wavelet = wavelet
        self.level = level
        self.strength = strength

    def setup(self, shape: tuple[int, int, int]) -> None:
        """Import PyWavelets and look the wavelet up; raises ValueError where there is none of that name."""
        import pywt

        if not pywt.Wavelet(self.wavelet).orthogonal:
            raise ValueError(f"wavelet {self.wavelet} is not orthogonal, so its bands do not share one noise level")

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Shrink the stack."""
        import pywt

        sigma = told(self.name, sigma)
        height, width = noisy.shape[1:]
        block = 2**self.level
        # The transform is periodic and wants multiples of 2^level; a mirrored margin keeps opposite borders apart.
        padding = [(0, 0), *((block, block + -side % block) for side in (height, width))]
        bands = pywt.swt2(
            np.pad(noisy, padding, mode="symmetric"), self.wavelet, self.level, axes=(1, 2), trim_approx=True
        )
        noise = sigma * sigma
        for scale in range(1, len(bands)):
            bands[scale] = tuple(self._shrink(band, noise) for band in bands[scale])
        result = pywt.iswt2(bands, self.wavelet, axes=(1, 2))[:, block : block + height, block : block + width]
        return keep_clean(np.ascontiguousarray(result, dtype=np.float32), noisy, sigma)

    def _shrink(self, band: Images, noise: Sigma) -> Images:
        flat = np.ascontiguousarray(band).reshape(len(band), -1)
        signal = np.maximum(np.square(flat).mean(axis=1) - noise, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            threshold = np.float32(self.strength) * noise / np.sqrt(signal)
        threshold = np.where(noise > 0, threshold, 0)[:, None]
        return (flat - np.clip(flat, -threshold, threshold)).reshape(band.shape)
