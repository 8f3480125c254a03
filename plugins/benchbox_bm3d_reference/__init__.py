"""`bm3d_reference`: the authors' BM3D, from the PyPI package `bm3d` (non-commercial licence)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from benchbox import BenchboxError, Capabilities, Denoiser, Image, ImageDenoiser, hookimpl

# Opponent channels of `bm3d_rgb`, one a column; it divides by the range of each.
_OPPONENT = np.array([[1 / 3, 1 / 2, 1 / 4], [1 / 3, 0, -1 / 2], [1 / 3, -1 / 2, 1 / 4]])


class BM3DReference(ImageDenoiser):
    """The authors' BM3D, on one thread, because with more its results vary between calls [1]_ [2]_.

    Grey images go to `bm3d.bm3d`, colour images to `bm3d.bm3d_rgb`; the few that it cannot scale, because an opponent
    channel is constant, go to `bm3d.bm3d` channel by channel.
    The package is free for non-commercial use only. It crashes the process on 8x8 images, so sides must be at least 16.

    References
    ----------
    .. [1] K. Dabov, A. Foi, V. Katkovnik and K. Egiazarian, Image denoising by sparse 3-D transform-domain
       collaborative filtering, IEEE Transactions on Image Processing 16(8), 2007, doi:10.1109/TIP.2007.901238
    .. [2] Y. Mäkinen, L. Azzari and A. Foi, Collaborative filtering of correlated noise, IEEE Transactions on Image
       Processing 29, 2020, doi:10.1109/TIP.2020.3014721
    """

    name = "bm3d_reference"
    summary = "the authors' BM3D, from the PyPI package bm3d; non-commercial use only"
    notice = "the licence of the package bm3d allows non-commercial use only"
    reference = "Mäkinen, Azzari and Foi, IEEE TIP 2020, doi:10.1109/TIP.2020.3014721"
    capabilities = Capabilities(sigma="required", min_size=16, channels="any")
    default_rows: ClassVar[tuple[str, ...]] = ()  # run only by name, because of its licence

    def setup(self, shape: tuple[int, ...]) -> None:
        """Import the package and run it once."""
        self.denoise_image(np.zeros((16, 16), np.float32), 0.1)

    def denoise_image(self, noisy: Image, sigma: float | None) -> Image:
        """Denoise one image; an image with noise level 0 is returned unchanged.

        Raises `BenchboxError` if the package is not installed or no noise level is given.
        """
        try:
            import bm3d
        except ImportError as error:
            raise BenchboxError(
                "bm3d_reference needs the package bm3d, whose licence allows non-commercial use only",
                hint='install it: pip install "benchbox-denoise[bm3d]"',
            ) from error
        if sigma is None:
            raise BenchboxError(
                "bm3d_reference needs the noise level", hint="give or estimate it, or use a blind denoiser"
            )
        if sigma == 0:
            return noisy.copy()
        profile: Any = bm3d.BM3DProfile()
        profile.num_threads = 1
        if noisy.ndim == 2:
            result = bm3d.bm3d(noisy, sigma, profile)
        elif np.ptp(noisy.reshape(-1, 3).astype(np.float64) @ _OPPONENT, axis=0).all():
            result = bm3d.bm3d_rgb(noisy, sigma, profile)
        else:
            result = np.dstack([bm3d.bm3d(channel, sigma, profile) for channel in np.moveaxis(noisy, 2, 0)])
        return np.asarray(result, np.float32)


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Return the denoiser."""
    return [BM3DReference]
