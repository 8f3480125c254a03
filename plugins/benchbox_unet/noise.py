"""The noise of the published recipe: Gaussian, truncated to whole grey levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchbox import Image, NoiseModel


@dataclass(frozen=True)
class TruncatedGaussian(NoiseModel):
    """White Gaussian noise truncated towards zero to whole 8-bit grey levels.

    ``normal(0, 10).astype(int)`` adds it to 8-bit images. `level`, in (0, 1], is the standard deviation before
    truncation: ``10/255`` for 10 grey levels. Truncation removes half a grey level on average, so the noise is weaker:
    10 grey levels become 9.6.
    """

    name: ClassVar[str] = "truncated-gaussian"
    summary: ClassVar[str] = "white Gaussian noise truncated to whole grey levels"
    level_title: ClassVar[str] = "standard deviation before truncation"
    formula: ClassVar[str] = "noisy = clean + trunc(255*level*n)/255, n ~ N(0, 1) in each pixel"
    reference: ClassVar[str] = "the published FER2013 U-Net project"
    example: ClassVar[str] = "truncated-gaussian:10/255"

    level: float = 10 / 255

    def __post_init__(self) -> None:
        if not 0 < self.level <= 1:
            raise ValueError(f"level={self.level} is outside (0, 1]")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image, shape (H, W); see `NoiseModel.apply`."""
        grey: Image = rng.standard_normal(clean.shape, dtype=np.float32)
        grey *= np.float32(255 * self.level)
        np.trunc(grey, out=grey)
        grey /= np.float32(255)
        grey += clean
        return grey

    def sigma_of(self, clean: Image) -> float:
        """Noise standard deviation after truncation, the same for every image."""
        # P(|trunc| = k) is the Gaussian's share in [k, k + 1), so E[trunc^2] = sum over k of (2k - 1) P(|x| >= k).
        deviation = 255 * self.level
        last = math.ceil(8 * deviation) + 1
        variance = sum((2 * k - 1) * math.erfc(k / (deviation * math.sqrt(2))) for k in range(1, last))
        return math.sqrt(variance) / 255
