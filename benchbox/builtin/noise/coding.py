"""Deterministic storage artefacts: coarse grey levels and JPEG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchbox.api.arrays import Image
from benchbox.api.noise import NoiseModel


@dataclass(frozen=True)
class Quantize(NoiseModel):
    """Coarse grey levels: ``noisy = round(L * clean) / L`` with ``L = 2**bits - 1``; halves round to the even level.

    The step is ``1 / L`` and the error is at most half a step. Its often quoted variance of ``1 / (12 * L**2)`` assumes
    values spread evenly over a step, which images with few grey levels do not have, so no standard deviation is
    defined. Values outside [0, 1], which occur only in compositions, are rounded but not clipped. `bits` per pixel is
    1 to 16.
    """

    name: ClassVar[str] = "quantize"
    summary: ClassVar[str] = "rounding to 2^bits grey levels"
    level_title: ClassVar[str] = "bits per pixel"
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
    """JPEG: ``noisy = decode(encode(round(255 * clean), quality)) / 255`` with OpenCV's codec.

    The codec stores 8 bits, so values are clipped to [0, 1] and rounded to multiples of 1/255 whatever the protocol
    says. The error depends on the image and is correlated, so no standard deviation is defined. Its last bits depend on
    the codec's version, which a run records. `quality` is 1 to 100 on the scale of the Independent JPEG Group; lower is
    worse.
    """

    name: ClassVar[str] = "jpeg"
    summary: ClassVar[str] = "JPEG compression"
    level_title: ClassVar[str] = "JPEG quality"
    formula: ClassVar[str] = "noisy = decode(encode(round(255*clean), quality))/255"
    reference: ClassVar[str] = "Wallace 1992, The JPEG still picture compression standard, doi:10.1109/30.125072"
    example: ClassVar[str] = "jpeg:20"

    quality: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality={self.quality} is outside 1 to 100")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Compress and decode one image, at most 65,500 pixels per side; the generator is not used."""
        import cv2

        pixels = np.rint(np.clip(clean, 0, 1) * np.float32(255)).astype(np.uint8)
        written, code = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        if not written:
            raise ValueError(f"jpeg cannot encode an image of {clean.shape[0]} x {clean.shape[1]} pixels")
        decoded = cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)
        if decoded is None:
            raise ValueError("jpeg cannot decode what it encoded")
        noisy: Image = decoded.astype(np.float32)
        noisy /= 255
        return noisy
