"""BM3D-lite: block matching and 3D filtering of whole stacks."""

from __future__ import annotations

import numpy as np

from benchbox import BenchboxError, Capabilities, Denoiser, Images, Sigma, threads
from benchbox_bm3d.profiles import choose

_SMALLEST = 8


class BM3DLite(Denoiser):
    """Block matching and 3D filtering in two stages: hard threshold, then empirical Wiener filter [1]_ [2]_.

    References
    ----------
    .. [1] K. Dabov, A. Foi, V. Katkovnik and K. Egiazarian, Image denoising by sparse 3-D transform-domain
       collaborative filtering, IEEE Transactions on Image Processing 16(8), 2007, doi:10.1109/TIP.2007.901238
    .. [2] M. Lebrun, An analysis and implementation of the BM3D image denoising method, Image Processing On Line 2,
       2012, doi:10.5201/ipol.2012.l-bm3d
    """

    name = "bm3d_lite"
    summary = "block matching and 3D filtering in compiled code"
    reference = "Dabov et al., IEEE TIP 2007, doi:10.1109/TIP.2007.901238"
    capabilities = Capabilities(sigma="required", min_size=_SMALLEST)

    def setup(self, shape: tuple[int, int, int]) -> None:
        """Compile the kernels, or load them from disk."""
        self.denoise(np.zeros((1, *shape[1:]), np.float32)[:, :48, :48], np.full(1, 0.1, np.float32))

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack; an image whose noise level is zero comes back as it is.

        Raises
        ------
        BenchboxError
            No noise level is told.
        """
        from benchbox_bm3d import pipeline

        if sigma is None:
            raise BenchboxError("bm3d_lite needs the noise level", hint="give or estimate it")
        result = noisy.copy()
        profiles = [choose(noisy.shape[1], noisy.shape[2], float(level)) for level in sigma]
        for profile in dict.fromkeys(profiles):
            chosen = np.array([one == profile for one in profiles]) & (sigma > 0)
            if chosen.any():
                result[chosen] = pipeline.denoise(noisy[chosen], sigma[chosen], profile, threads())
        return result
