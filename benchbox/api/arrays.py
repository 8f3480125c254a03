"""Type aliases for images, noise levels and scores."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.float32]
"""One image, float32, shape (H, W) if grey, (H, W, 3) if RGB; clean values are in [0, 1]."""

Images: TypeAlias = NDArray[np.float32]
"""A stack of images of one size, float32, C-contiguous; clean values are in [0, 1].

Shape (N, H, W) if grey; (N, H, W, 3) if colour: red, green, blue as stored in files, sRGB values divided by 255.
"""

Channels: TypeAlias = Literal["grey", "rgb", "any"]
"""What a denoiser or metric takes: grey stacks, RGB stacks, or both."""

Sigma: TypeAlias = NDArray[np.float32]
"""One noise standard deviation per image, float32, shape (N,), on the [0, 1] scale."""

Scores: TypeAlias = NDArray[np.float64]
"""One score per image, float64, shape (N,)."""
