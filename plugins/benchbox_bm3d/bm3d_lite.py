"""`bm3d_lite`: block matching and 3D filtering of whole stacks."""

from __future__ import annotations

from typing import Literal

import numpy as np

from benchbox import BenchboxError, Capabilities, Denoiser, Images, Sigma, threads
from benchbox_bm3d.anscombe import peak_of_counts, peaks_of, stabilized
from benchbox_bm3d.profiles import Effort, choose

_SMALLEST = 8


class BM3DLite(Denoiser):
    """Block matching and 3D filtering in two stages: hard threshold, then empirical Wiener filter [1]_ [2]_.

    Parameters
    ----------
    profile : {'fast', 'normal', 'high'}
        Effort; the parameters follow size and noise level as well, see `benchbox_bm3d.profiles`.
    vst : {'none', 'anscombe', 'auto'}
        Variance stabilization for Poisson noise: ``anscombe`` transforms every image by Anscombe's square root, takes
        the peak count from mean and noise level, and inverts without bias [3]_; ``auto`` does so for images that
        hold whole photon counts, and takes the peak count from the step between them. It looks at the image, for a
        denoiser is told the noise level and nothing else; images rounded to 8 bit, those with other noise on top, and
        those whose noise level, estimated, is far from that of their counts, are left to the plain method.

    References
    ----------
    .. [1] K. Dabov, A. Foi, V. Katkovnik and K. Egiazarian, Image denoising by sparse 3-D transform-domain
       collaborative filtering, IEEE Transactions on Image Processing 16(8), 2007, doi:10.1109/TIP.2007.901238
    .. [2] M. Lebrun, An analysis and implementation of the BM3D image denoising method, Image Processing On Line 2,
       2012, doi:10.5201/ipol.2012.l-bm3d
    .. [3] M. Makitalo and A. Foi, Optimal inversion of the Anscombe transformation in low-count Poisson image
       denoising, IEEE Transactions on Image Processing 20(1), 2011, doi:10.1109/TIP.2010.2056693
    """

    name = "bm3d_lite"
    summary = "block matching and 3D filtering in compiled code"
    reference = "Dabov et al., IEEE TIP 2007, doi:10.1109/TIP.2007.901238"
    capabilities = Capabilities(sigma="required", min_size=_SMALLEST, tuned_on="FER2013 Training + photographs")

    def __init__(self, *, profile: Effort = "normal", vst: Literal["none", "anscombe", "auto"] = "none") -> None:
        self.profile = profile
        self.vst = vst

    def setup(self, shape: tuple[int, int, int]) -> None:
        """Compile the kernels, or load them from disk."""
        self._denoise(np.zeros((1, 16, 16), np.float32), np.full(1, 0.1, np.float32))

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack; an image whose noise level is zero comes back as it is.

        Raises
        ------
        BenchboxError
            No noise level is told, or an image is too small.
        """
        if sigma is None:
            raise BenchboxError("bm3d_lite needs the noise level", hint="give or estimate it, or take a blind denoiser")
        if min(noisy.shape[1:]) < _SMALLEST:
            height, width = noisy.shape[1:]
            raise BenchboxError(
                f"bm3d_lite takes images of {_SMALLEST}x{_SMALLEST} pixels or more, got {height}x{width}",
                hint="use another denoiser for them, for example nl_means",
            )
        if self.vst == "none":
            return self._denoise(noisy, sigma)
        result = noisy.copy()
        peaks = np.zeros(len(noisy))
        noise = sigma > 0
        peaks[noise] = peaks_of(noisy[noise], sigma[noise])
        if self.vst == "auto":
            peaks = np.array([peak_of_counts(image, peak) for image, peak in zip(noisy, peaks, strict=True)])
        stable = peaks > 0
        if stable.any():
            result[stable] = stabilized(self._denoise, noisy[stable], peaks[stable])
        if not stable.all():
            result[~stable] = self._denoise(noisy[~stable], sigma[~stable])
        return result

    def _denoise(self, noisy: Images, sigma: Sigma) -> Images:
        from benchbox_bm3d import pipeline

        result = noisy.copy()
        profiles = [choose(noisy.shape[1], noisy.shape[2], float(level), self.profile) for level in sigma]
        for profile in dict.fromkeys(profiles):
            chosen = np.array([one == profile for one in profiles]) & (sigma > 0)
            if chosen.any():
                result[chosen] = pipeline.denoise(noisy[chosen], sigma[chosen], profile, threads())
        return result
