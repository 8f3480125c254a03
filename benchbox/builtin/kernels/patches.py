"""Compiled sums over the 4 x 4 patches of images, for the noise estimator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox.builtin.kernels import STACK, compiled

SIDE = 4
"""Pixels on a side of a patch."""
AREA = SIDE * SIDE


@compiled(f"void({STACK}, float64[:,::1], float64[:,::1])")
def texture(stack: NDArray[np.float32], energies: NDArray[np.float64], brightness: NDArray[np.float64]) -> None:
    """Fill `energies`, shape (N, patches), with the squared gradients of each patch, summed; infinity to leave it out.

    Patches overlap: one begins at each pixel. Gradients are central differences between pixels of the patch. A patch is
    left out if all its gradients are 0, and, in an image that has no values outside [0, 1] and may be clipped, if a
    pixel is exactly 0 or 1, because clipping hides a part of the noise there. `brightness` gets the sum of each patch.
    """
    count, height, width = stack.shape
    columns = width - SIDE + 1
    for index in range(count):
        image = stack[index]
        outside = 0
        for y in range(height):
            for x in range(width):
                outside += 1 if image[y, x] < 0.0 or image[y, x] > 1.0 else 0
        for y in range(height - SIDE + 1):
            for x in range(columns):
                clipped = 0
                energy, total = 0.0, 0.0
                for i in range(SIDE):
                    for j in range(SIDE):
                        value = image[y + i, x + j]
                        clipped += 1 if value == 0.0 or value == 1.0 else 0
                        total += value
                for i in range(SIDE):
                    for j in range(1, SIDE - 1):
                        across = 0.5 * (image[y + i, x + j + 1] - image[y + i, x + j - 1])
                        down = 0.5 * (image[y + j + 1, x + i] - image[y + j - 1, x + i])
                        energy += across * across + down * down
                hidden = clipped > 0 and outside == 0
                energies[index, y * columns + x] = np.inf if hidden or energy == 0.0 else energy
                brightness[index, y * columns + x] = total


@compiled(f"void({STACK}, float64[:,::1], float64[::1], float64[:,:,::1])")
def covariances(
    stack: NDArray[np.float32],
    energies: NDArray[np.float64],
    limits: NDArray[np.float64],
    result: NDArray[np.float64],
) -> None:
    """Fill `result`, shape (N, 16, 16), with the covariance of each image's patches of an energy up to its limit.

    The covariance of no patch is 0.
    """
    count, height, width = stack.shape
    rows, columns = height - SIDE + 1, width - SIDE + 1
    kept = np.empty((rows, columns), dtype=np.float32)
    total = np.empty(AREA)
    for index in range(count):
        image, limit, patches = stack[index], limits[index], 0.0
        for y in range(rows):
            for x in range(columns):
                energy = energies[index, y * columns + x]
                kept[y, x] = 1.0 if energy <= limit and energy < np.inf else 0.0
                patches += kept[y, x]
        scale = 1.0 / max(patches, 1.0)
        # Pixel pairs outside, patches inside: the inner loops run along rows, so they use the vector units.
        for a in range(AREA):
            total[a] = 0.0
            for y in range(rows):
                first = image[y + a // SIDE, a % SIDE :]
                for x in range(columns):
                    total[a] += kept[y, x] * first[x]
            for b in range(a + 1):
                products = 0.0
                for y in range(rows):
                    first, second = image[y + a // SIDE, a % SIDE :], image[y + b // SIDE, b % SIDE :]
                    line = 0.0
                    for x in range(columns):
                        line += np.float64(kept[y, x] * first[x]) * second[x]
                    products += line
                value = scale * (products - scale * total[a] * total[b])
                result[index, a, b] = value
                result[index, b, a] = value
