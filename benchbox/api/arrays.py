"""Type aliases for images, noise levels and scores."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.float32]
"""One grey image, float32, shape (H, W); clean values are in [0, 1]."""

Images: TypeAlias = NDArray[np.float32]
"""A stack of grey images of one size, float32, shape (N, H, W), C-contiguous; clean values are in [0, 1]."""

Sigma: TypeAlias = NDArray[np.float32]
"""One noise standard deviation per image, float32, shape (N,), on the [0, 1] scale."""

Scores: TypeAlias = NDArray[np.float64]
"""One score per image, float64, shape (N,)."""
