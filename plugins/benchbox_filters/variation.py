"""`tv_chambolle`: total variation denoising by Chambolle's projection."""

from __future__ import annotations

import numpy as np

from benchbox import Capabilities, Denoiser, Images, Sigma
from benchbox_filters.levels import TUNED_ON, keep_clean, levels, positive

_COLOUR = np.float32(1.6)
"""Factor on the weight in colour, where the norm of the gradient is over three channels."""


class TVChambolle(Denoiser):
    """Total variation denoising: the image that best balances total variation and distance from the noisy image.

    In colour, the total variation is that of all channels together, so that they share their edges; scikit-image treats
    each by itself. On grey images: same steps, stopping rule and result as `skimage.restoration.denoise_tv_chambolle`,
    up to float32 rounding. The compiled kernel takes a sixteenth of its time on stacks of 48x48 images.

    Parameters
    ----------
    weight : float, optional
        Weight of the total variation, greater than 0. By default ``1.2 sigma^1.22``.
    eps : float
        Stop when a step changes an image's energy by less than this share of its first energy. The default is a tenth
        of scikit-image's, which stops too early at high noise and loses 1 dB on photographs at sigma 0.5.
    iterations : int
        Maximum number of steps, at least 1.
    """

    name = "tv_chambolle"
    summary = "total variation by Chambolle's projection; the weight follows the noise level"
    reference = "Chambolle, J. Math. Imaging Vis. 20, 2004, doi:10.1023/B:JMIV.0000011325.36760.1e"
    capabilities = Capabilities(sigma="optional", tuned_on=TUNED_ON, channels="any")

    def __init__(self, *, weight: float | None = None, eps: float = 2e-5, iterations: int = 200) -> None:
        self.weight = positive("weight", weight)
        if eps < 0:
            raise ValueError(f"eps must not be negative, got {eps}")
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        self.eps = eps
        self.iterations = iterations

    def setup(self, shape: tuple[int, ...]) -> None:
        """Import numba and compile the kernel, or load it from numba's cache."""
        self.denoise(np.zeros((1, 8, 8, *shape[3:]), np.float32), None)

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Minimise the energy of every image."""
        from benchbox_filters.chambolle import chambolle, chambolle_colour

        sigma = levels(noisy, sigma)
        if self.weight is None:
            # Images without noise get an arbitrary valid weight and are restored afterwards.
            weights = np.float32(1.2) * np.where(sigma > 0, sigma, 1) ** np.float32(1.22)
        else:
            weights = np.full(len(noisy), self.weight)
        weights = weights.astype(np.float32)
        if noisy.ndim == 3:
            return keep_clean(chambolle(noisy, weights, self.eps, self.iterations), noisy, sigma)
        planes = np.ascontiguousarray(np.moveaxis(noisy, 3, 1))
        result = chambolle_colour(planes, _COLOUR * weights, self.eps, self.iterations)
        return keep_clean(np.ascontiguousarray(np.moveaxis(result, 1, 3)), noisy, sigma)
