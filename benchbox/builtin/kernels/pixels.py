"""Pixel-wise errors of whole stacks: squared, absolute, share within a tolerance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox.builtin.kernels import STACK, compiled


@compiled(f"void({STACK}, {STACK}, float64[::1])")
def mean_squared(clean: NDArray[np.float32], denoised: NDArray[np.float32], scores: NDArray[np.float64]) -> None:
    """Fill `scores`, shape (N,), with the mean squared error of each image."""
    count, height, width = clean.shape
    for index in range(count):
        total = 0.0
        for i in range(height):
            for j in range(width):
                error = np.float64(clean[index, i, j]) - np.float64(denoised[index, i, j])
                total += error * error
        scores[index] = total / (height * width)


@compiled(f"void({STACK}, {STACK}, float64[::1])")
def mean_absolute(clean: NDArray[np.float32], denoised: NDArray[np.float32], scores: NDArray[np.float64]) -> None:
    """Fill `scores`, shape (N,), with the mean absolute error of each image."""
    count, height, width = clean.shape
    for index in range(count):
        total = 0.0
        for i in range(height):
            for j in range(width):
                total += abs(np.float64(clean[index, i, j]) - np.float64(denoised[index, i, j]))
        scores[index] = total / (height * width)


@compiled(f"void({STACK}, {STACK}, float64, float64[::1])")
def share_within(
    clean: NDArray[np.float32], denoised: NDArray[np.float32], tolerance: float, scores: NDArray[np.float64]
) -> None:
    """Fill `scores`, shape (N,), with the share of pixels whose absolute error is at most `tolerance`."""
    count, height, width = clean.shape
    for index in range(count):
        within = 0
        for i in range(height):
            for j in range(width):
                error = abs(np.float64(clean[index, i, j]) - np.float64(denoised[index, i, j]))
                within += 1 if error <= tolerance else 0
        scores[index] = within / (height * width)
