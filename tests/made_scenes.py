"""Pictures to try BM3D on, and how good a result is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox import Images


def scene(height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Edges, stripes and a slope, so that some patches are alike and others are not."""
    y, x = np.mgrid[:height, :width]
    tilt = np.random.default_rng(seed).uniform(0.5, 1.5)
    image = 0.3 + 0.2 * np.sin(tilt * x) * (y > height / 2) + 0.3 * (x + y > (height + width) / 2) + 0.1 * y / height
    return np.asarray(image, np.float32)


def add_noise(clean: NDArray[np.float32], sigma: float, seed: int = 1) -> NDArray[np.float32]:
    return (clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape)).astype(np.float32)


def psnr(clean: Images, image: Images) -> float:
    return float(-10 * np.log10(np.square(clean - image.clip(0, 1), dtype=np.float64).mean()))
