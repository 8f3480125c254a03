"""`bm3d_lite`: block matching and 3D filtering for whole stacks."""

from __future__ import annotations

from typing import Literal

import numpy as np

from benchbox import BenchboxError, Capabilities, Denoiser, Images, Sigma, threads
from benchbox_bm3d.anscombe import peak_of_counts, peaks_of, stabilized
from benchbox_bm3d.profiles import Effort, choose

_SMALLEST = 8


class BM3DLite(Denoiser):
    """Block matching and 3D filtering in two stages: a hard threshold, then an empirical Wiener filter [1]_ [2]_.

    Colour images are filtered in opponent channels, in groups that are matched on luminance [4]_.

    Parameters
    ----------
    profile : {'fast', 'normal', 'high'}
        Effort; the parameters also depend on image size and noise level, see `benchbox_bm3d.profiles`.
    vst : {'none', 'anscombe', 'auto'}
        Variance stabilization for Poisson noise. ``anscombe`` transforms every image by Anscombe's square root, derives
        the peak count from the mean and the noise level, and inverts without bias [3]_. ``auto`` does so only for
        images of whole photon counts, and derives the peak count from the step between them. It inspects the image,
        because a denoiser knows only the noise level. Images that are rounded to 8 bits, contain other noise as well,
        or have an estimated noise level far from that of their counts are denoised without stabilization.

    References
    ----------
    .. [1] K. Dabov, A. Foi, V. Katkovnik and K. Egiazarian, Image denoising by sparse 3-D transform-domain
       collaborative filtering, IEEE Transactions on Image Processing 16(8), 2007, doi:10.1109/TIP.2007.901238
    .. [2] M. Lebrun, An analysis and implementation of the BM3D image denoising method, Image Processing On Line 2,
       2012, doi:10.5201/ipol.2012.l-bm3d
    .. [3] M. Makitalo and A. Foi, Optimal inversion of the Anscombe transformation in low-count Poisson image
       denoising, IEEE Transactions on Image Processing 20(1), 2011, doi:10.1109/TIP.2010.2056693
    .. [4] K. Dabov, A. Foi, V. Katkovnik and K. Egiazarian, Color image denoising via sparse 3D collaborative
       filtering with grouping constraint in luminance-chrominance space, IEEE International Conference on Image
       Processing, 2007, doi:10.1109/ICIP.2007.4378954
    """

    name = "bm3d_lite"
    summary = "block matching and 3D filtering, compiled for whole stacks"
    reference = "Dabov et al., IEEE TIP 2007, doi:10.1109/TIP.2007.901238"
    capabilities = Capabilities(
        sigma="required", min_size=_SMALLEST, tuned_on="FER2013 Training + photographs", channels="any"
    )

    def __init__(self, *, profile: Effort = "normal", vst: Literal["none", "anscombe", "auto"] = "none") -> None:
        self.profile = profile
        self.vst = vst

    def setup(self, shape: tuple[int, ...]) -> None:
        """Compile the kernels, or load them from disk."""
        self._denoise(np.zeros((1, 16, 16), np.float32), np.full(1, 0.1, np.float32))

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack; images with noise level 0 are returned unchanged.

        Raises `BenchboxError` if no noise level is given or the images are too small.
        """
        if sigma is None:
            raise BenchboxError("bm3d_lite needs the noise level", hint="give or estimate it, or use a blind denoiser")
        if min(noisy.shape[1:3]) < _SMALLEST:
            height, width = noisy.shape[1:3]
            raise BenchboxError(
                f"bm3d_lite needs images of at least {_SMALLEST}x{_SMALLEST} pixels, got {height}x{width}",
                hint="use another denoiser, for example nl_means",
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

    def plain(self, noisy: Images, sigma: Sigma) -> Images:
        """The same without variance stabilization in plain NumPy, which is slow; `benchbox verify` compares them."""
        from benchbox_bm3d.plain import plain_denoise

        _, height, width, *channels = noisy.shape
        stack = [
            plain_denoise(
                image.astype(np.float64),
                float(level),
                choose(height, width, float(level), self.profile, colour=bool(channels)),
            )
            for image, level in zip(noisy, sigma, strict=True)
        ]
        return np.stack(stack).astype(np.float32)

    def _denoise(self, noisy: Images, sigma: Sigma) -> Images:
        from benchbox_bm3d import pipeline

        result = noisy.copy()
        _, height, width, *channels = noisy.shape
        profiles = [choose(height, width, float(level), self.profile, colour=bool(channels)) for level in sigma]
        for profile in dict.fromkeys(profiles):
            members = np.array([candidate == profile for candidate in profiles]) & (sigma > 0)
            if members.any():
                result[members] = pipeline.denoise(noisy[members], sigma[members], profile, threads())
        return result
