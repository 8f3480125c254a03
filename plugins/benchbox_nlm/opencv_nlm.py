"""`opencv_nlm`: OpenCV's non-local means, which processes only 8-bit images."""

from __future__ import annotations

import numpy as np

from benchbox import BenchboxError, Capabilities, Denoiser, Images, Sigma

_STRONG = 0.15


class OpenCVNLM(Denoiser):
    """OpenCV's non-local means (`cv2.fastNlMeansDenoising`); images are clipped to [0, 1] and rounded to 8 bits.

    Parameters
    ----------
    patch_size : int, optional
        Side of a patch in pixels, odd. By default 3 below ``sigma = 0.15``, then 5.
    patch_distance : int
        Rows and columns to search on either side of a pixel, at least 1.
    strength : float, optional
        Scale on which weights decrease with the patch distance, divided by `sigma`; greater than 0. By default 1.2
        below ``sigma = 0.15``, then 0.95.
    """

    name = "opencv_nlm"
    summary = "OpenCV's non-local means, on images rounded to 8 bits"
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

    def setup(self, shape: tuple[int, ...]) -> None:
        """Import OpenCV."""
        self.denoise(np.zeros((1, 8, 8), np.float32), np.full(1, 0.1, np.float32))

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack; images with noise level 0 are returned unchanged.

        Raises `BenchboxError` if no noise level is given.
        """
        import cv2

        if sigma is None:
            raise BenchboxError("opencv_nlm needs the noise level", hint="give or estimate it, or use a blind denoiser")
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
