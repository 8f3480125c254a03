"""Deterministic damage from storing an image: coarse grey levels and JPEG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchbox.api.arrays import Image
from benchbox.api.noise import NoiseModel


@dataclass(frozen=True)
class Quantize(NoiseModel):
    """Coarse grey levels: ``noisy = round(L * clean) / L`` with ``L = 2**bits - 1``; halves go to the even level.

    The step is ``1 / L`` and the error at most half of it. Its often quoted variance of ``1 / (12 * L**2)`` needs
    values spread evenly over a step, which images of few grey levels are not, so no standard deviation is told.
    Values outside [0, 1], which only a composition gives, are rounded and not cut.

    Parameters
    ----------
    bits : int
        Bits a pixel, 1 to 16.

    Raises
    ------
    ValueError
        `bits` is outside 1 to 16.
    """

    name: ClassVar[str] = "quantize"
    summary: ClassVar[str] = "rounding to few grey levels"
    formula: ClassVar[str] = "noisy = round(L*clean)/L, L = 2^bits - 1"
    reference: ClassVar[str] = "Gray & Neuhoff 1998, Quantization, doi:10.1109/18.720541"
    example: ClassVar[str] = "quantize:4"

    bits: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise ValueError(f"bits={self.bits} is outside 1 to 16")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Round one image, shape (H, W); the generator is not used."""
        levels = np.float32(2**self.bits - 1)
        noisy: Image = np.rint(clean * levels)
        noisy /= levels
        return noisy


@dataclass(frozen=True)
class Jpeg(NoiseModel):
    """JPEG: ``noisy = decode(encode(round(255 * clean), quality)) / 255`` by the codec of OpenCV.

    The codec stores 8 bits, so values are cut to [0, 1] and rounded to multiples of 1/255 whatever the protocol says.
    The error follows the image and is correlated, so no standard deviation is told. Its last bits depend on the codec's
    version, which a run records.

    Parameters
    ----------
    quality : int
        1 to 100 in the scale of the Independent JPEG Group; less is worse.

    Raises
    ------
    ValueError
        `quality` is outside 1 to 100.
    """

    name: ClassVar[str] = "jpeg"
    summary: ClassVar[str] = "JPEG compression"
    formula: ClassVar[str] = "noisy = decode(encode(round(255*clean), quality))/255"
    reference: ClassVar[str] = "Wallace 1992, The JPEG still picture compression standard, doi:10.1109/30.125072"
    example: ClassVar[str] = "jpeg:20"

    quality: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality={self.quality} is outside 1 to 100")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Compress and read back one image, shape (H, W) of at most 65,500 pixels a side; the generator is not used."""
        import cv2

        pixels = np.rint(np.clip(clean, 0, 1) * np.float32(255)).astype(np.uint8)
        written, code = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        if not written:
            raise ValueError(f"jpeg cannot encode an image of {clean.shape[0]} x {clean.shape[1]} pixels")
        decoded = cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)
        if decoded is None:
            raise ValueError("jpeg cannot read back what it encoded")
        noisy: Image = decoded.astype(np.float32)
        noisy /= 255
        return noisy
