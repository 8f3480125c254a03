"""The stencil by which machines are compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox.builtin.kernels import compiled


@compiled("void(float32[:, ::1], float32[:, ::1], int64)")
def smooth(first: NDArray[np.float32], second: NDArray[np.float32], rounds: int) -> None:
    """Pass a binomial 3x3 window over `first` into `second` and back, `rounds` times; both have shape (H, W)."""
    height, width = first.shape
    for number in range(2 * rounds):
        source, target = (first, second) if number % 2 == 0 else (second, first)
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                above = source[i - 1, j - 1] + 2 * source[i - 1, j] + source[i - 1, j + 1]
                middle = source[i, j - 1] + 2 * source[i, j] + source[i, j + 1]
                below = source[i + 1, j - 1] + 2 * source[i + 1, j] + source[i + 1, j + 1]
                target[i, j] = (above + 2 * middle + below) / 16
