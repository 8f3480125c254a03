"""`dct`: sliding-window DCT thresholding, between a simple filter and BM3D in speed and quality."""

from __future__ import annotations

import numpy as np

from benchbox import BenchboxError, Capabilities, Denoiser, Images, Sigma, threads
from benchbox_bm3d import transforms

_SIDE = 8


class DCT(Denoiser):
    """Hard threshold on the DCT of every 8x8 patch; all estimates of a pixel are averaged [1]_.

    Patches that keep fewer coefficients get more weight [2]_. The opponent channels of colour images are filtered as
    grey images.

    Parameters
    ----------
    threshold : float
        Threshold divided by `sigma`, greater than 0.

    References
    ----------
    .. [1] G. Yu and G. Sapiro, DCT image denoising: a simple and effective image denoising algorithm, Image Processing
       On Line 1, 2011, doi:10.5201/ipol.2011.ys-dct
    .. [2] O. G. Guleryuz, Weighted averaging for denoising with overcomplete dictionaries, IEEE Transactions on Image
       Processing 16(12), 2007, doi:10.1109/TIP.2007.908078
    """

    name = "dct"
    summary = "hard threshold on the DCT of every 8x8 patch"
    reference = "Yu and Sapiro, IPOL 2011, doi:10.5201/ipol.2011.ys-dct"
    capabilities = Capabilities(
        sigma="required", min_size=_SIDE, tuned_on="FER2013 Training + scikit-image photographs", channels="any"
    )

    def __init__(self, *, threshold: float = 2.6) -> None:
        if not threshold > 0:
            raise ValueError(f"threshold must be greater than 0, got {threshold}")
        self.threshold = threshold

    def setup(self, shape: tuple[int, ...]) -> None:
        """Compile the kernels, or load them from disk."""
        self.denoise(np.zeros((1, 16, 16), np.float32), np.full(1, 0.1, np.float32))

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack; images with noise level 0 are returned unchanged.

        Raises `BenchboxError` if no noise level is given or the images are too small.
        """
        if sigma is None:
            raise BenchboxError("dct needs the noise level", hint="give or estimate it, or use a blind denoiser")
        if min(noisy.shape[1:3]) < _SIDE:
            height, width = noisy.shape[1:3]
            raise BenchboxError(
                f"dct needs images of at least {_SIDE}x{_SIDE} pixels, got {height}x{width}",
                hint="use another denoiser, for example nl_means",
            )
        result = noisy.copy()
        chosen = np.flatnonzero(sigma > 0)
        if len(chosen):
            planes = transforms.split(noisy[chosen])
            count, channels, height, width = planes.shape
            thresholds = np.repeat(self.threshold * sigma[chosen], channels)
            filtered = _filter(planes.reshape(count * channels, height, width), thresholds)
            result[chosen] = transforms.join(filtered.reshape(planes.shape))
        return result


def _filter(noisy: Images, thresholds: Sigma) -> Images:
    from benchbox_bm3d.pipeline import Lines, Workers, batches, plan, run_tiles
    from benchbox_bm3d.tiles import threshold_tiles

    lines = Lines.of("dct", _SIDE, 0.0)
    _, height, width = noisy.shape
    result = np.empty_like(noisy)
    with Workers(threads()) as workers:
        for some in batches(noisy.shape, _SIDE, 1, 0):
            images, limits = noisy[some], thresholds[some].astype(np.float32)
            tiles = plan(len(images), height, width, _SIDE, 1, 0)

            def work(
                first: int, last: int, pixels: Images, shares: Images,
                images: Images = images, tiles: np.ndarray = tiles, limits: Sigma = limits,
            ) -> None:  # fmt: skip
                threshold_tiles(
                    images, tiles, first, last, limits, lines.analysis, lines.synthesis, lines.window, pixels[0],
                    shares[0],
                )  # fmt: skip

            result[some] = run_tiles(images[:, None], tiles, _SIDE, workers, work)[:, 0]
    return result
