"""`opencv_nlm`: OpenCV's non-local means, which works on 8-bit images only."""

from __future__ import annotations

import numpy as np

from benchbox import BenchboxError, Capabilities, Denoiser, Images, Sigma

_STRONG = 0.15


class OpenCVNLM(Denoiser):
    """Non-local means of OpenCV (`cv2.fastNlMeansDenoising`): images are clipped to [0, 1] and rounded to 8 bit.

    Parameters
    ----------
    patch_size : int, optional
        Side of a patch in pixels, odd. By default 3 below ``sigma = 0.15``, then 5.
    patch_distance : int
        Rows and columns that are searched on either side of a pixel, at least 1.
    strength : float, optional
        Scale of distances at which weights fall off, over `sigma`; greater than 0. By default 1.2 below
        ``sigma = 0.15``, then 0.95.
    """

    name = "opencv_nlm"
    summary = "non-local means of OpenCV, on images rounded to 8 bit"
    reference = "Buades et al., IPOL 2011, doi:10.5201/ipol.2011.bcm_nlm"
    capabilities = Capabilities(sigma="required", tuned_on="FER2013 Training + scikit-image photographs")

    def __init__(
        self, *, patch_size: int | None = None, patch_distance: int = 5, strength: float | None = None
    ) -> None:
        if patch_size is not None and (patch_size < 1 or patch_size % 2 == 0):
            raise ValueError(f"patch_size must be odd and at least 1, got {patch_size}")
        if patch_distance < 1:
            raise ValueError(f"patch_distance must be at least 1, got {patch_distance}")
        if strength is not None and not strength > 0:
            raise ValueError(f"strength must be greater than 0, got {strength}")
        self.patch_size = patch_size
        self.patch_distance = patch_distance
        self.strength = strength

    def setup(self, shape: tuple[int, int, int]) -> None:
        """Import OpenCV."""
        self.denoise(np.zeros((1, 8, 8), np.float32), np.full(1, 0.1, np.float32))

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise every image: OpenCV takes one at a time. One whose noise level is zero comes back as it is.

        Raises
        ------
        BenchboxError
            No noise level is told.
        """
        import cv2

        if sigma is None:
            raise BenchboxError("opencv_nlm needs the noise level", hint="give it, or take a blind denoiser")
        result = noisy.copy()
        for out, image, level in zip(result, noisy, sigma.tolist(), strict=True):
            if level > 0:
                grey = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
                patch_size, strength = (3, 1.2) if level < _STRONG else (5, 0.95)
                patch_size = patch_size if self.patch_size is None else self.patch_size
                strength = strength if self.strength is None else self.strength
                filtered = cv2.fastNlMeansDenoising(
                    grey, None, 255 * level * strength, patch_size, 2 * self.patch_distance + 1
                )
                out[:] = filtered / np.float32(255)
        return result
