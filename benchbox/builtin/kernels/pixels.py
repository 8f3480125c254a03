"""Compiled sums over whole stacks: pixel errors, GMSD, patches for the noise estimator, and a stencil for timing."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from benchbox.builtin.kernels import STACK, compiled

PATCH = 4
"""Pixels on a side of a patch."""
_TOGETHER = 192
"""Patches whose products are summed together: their pixels fit the cache."""


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


@compiled(f"void({STACK}, {STACK}, float64[::1], float64[::1])")
def mean_squared_sum(
    clean: NDArray[np.float32],
    denoised: NDArray[np.float32],
    weights: NDArray[np.float64],
    scores: NDArray[np.float64],
) -> None:
    """Fill `scores`, shape (N,), with the mean squared error of the weighted sum of channels, shape (N, H, 3 W)."""
    count, height, width = clean.shape
    red, green, blue = weights
    for index in range(count):
        total = 0.0
        for i in range(height):
            for j in range(0, width, 3):
                error = (
                    red * (np.float64(clean[index, i, j]) - np.float64(denoised[index, i, j]))
                    + green * (np.float64(clean[index, i, j + 1]) - np.float64(denoised[index, i, j + 1]))
                    + blue * (np.float64(clean[index, i, j + 2]) - np.float64(denoised[index, i, j + 2]))
                )
                total += error * error
        scores[index] = 3 * total / (height * width)


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


# The authors' code uses 170 on the scale of 0 to 255, their paper 0.0026.
C = 170 / 255**2


@compiled(f"void({STACK}, int64, float64[:, ::1])")
def _halve(stack: NDArray[np.float32], index: int, half: NDArray[np.float64]) -> None:
    """Average 2 x 2 blocks into the interior of `half`, which has a border of zeros; odd sides are padded with 0."""
    _, height, width = stack.shape
    for i in range(half.shape[0] - 2):
        for j in range(half.shape[1] - 2):
            total = np.float64(stack[index, 2 * i, 2 * j])
            below, right = 2 * i + 1 < height, 2 * j + 1 < width
            if below:
                total += stack[index, 2 * i + 1, 2 * j]
            if right:
                total += stack[index, 2 * i, 2 * j + 1]
            if below and right:
                total += stack[index, 2 * i + 1, 2 * j + 1]
            half[i + 1, j + 1] = 0.25 * total


@compiled("float64(float64[:, ::1], int64, int64)")
def _gradient_energy(half: NDArray[np.float64], i: int, j: int) -> float:
    """Squared magnitude of the Prewitt gradient, with filters scaled by 1/3."""
    across = half[i, j] + half[i + 1, j] + half[i + 2, j] - half[i, j + 2] - half[i + 1, j + 2] - half[i + 2, j + 2]
    down = half[i, j] + half[i, j + 1] + half[i, j + 2] - half[i + 2, j] - half[i + 2, j + 1] - half[i + 2, j + 2]
    energy: float = (across * across + down * down) / 9
    return energy


@compiled(f"void({STACK}, {STACK}, float64[::1])")
def gmsd(clean: NDArray[np.float32], denoised: NDArray[np.float32], scores: NDArray[np.float64]) -> None:
    """Fill `scores`, shape (N,), with the GMSD of each image; halved images must have more than two pixels."""
    count, height, width = clean.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    half_clean = np.zeros((rows + 2, columns + 2))
    half_denoised = np.zeros((rows + 2, columns + 2))
    similarity = np.empty((rows, columns))
    for index in range(count):
        _halve(clean, index, half_clean)
        _halve(denoised, index, half_denoised)
        total = 0.0
        for i in range(rows):
            for j in range(columns):
                clean_energy = _gradient_energy(half_clean, i, j)
                denoised_energy = _gradient_energy(half_denoised, i, j)
                similarity[i, j] = (2 * math.sqrt(clean_energy * denoised_energy) + C) / (
                    clean_energy + denoised_energy + C
                )
                total += similarity[i, j]
        mean = total / (rows * columns)
        squares = 0.0
        for i in range(rows):
            for j in range(columns):
                squares += (similarity[i, j] - mean) ** 2
        scores[index] = math.sqrt(squares / (rows * columns - 1))


@compiled(f"void({STACK}, float64[:,::1], float64[:,::1])")
def texture(stack: NDArray[np.float32], energies: NDArray[np.float64], brightness: NDArray[np.float64]) -> None:
    """Fill `energies`, shape (N, patches), with the squared gradients of each patch, summed; infinity to leave it out.

    Patches overlap: one begins at each pixel. Gradients are central differences between pixels of the patch. A patch is
    left out if all its gradients are 0, and, in an image that has no values outside [0, 1] and may be clipped, if a
    pixel is exactly 0 or 1, because clipping hides a part of the noise there. `brightness` gets the sum of each patch.
    """
    count, height, width = stack.shape
    columns = width - PATCH + 1
    for index in range(count):
        image = stack[index]
        outside = 0
        for y in range(height):
            for x in range(width):
                outside += 1 if image[y, x] < 0.0 or image[y, x] > 1.0 else 0
        for y in range(height - PATCH + 1):
            for x in range(columns):
                clipped = 0
                energy, total = 0.0, 0.0
                for i in range(PATCH):
                    for j in range(PATCH):
                        value = image[y + i, x + j]
                        clipped += 1 if value == 0.0 or value == 1.0 else 0
                        total += value
                for i in range(PATCH):
                    for j in range(1, PATCH - 1):
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
    rows, columns = height - PATCH + 1, width - PATCH + 1
    places = np.empty(rows * columns, dtype=np.int64)
    pixels = np.empty((PATCH * PATCH, _TOGETHER))
    total = np.empty(PATCH * PATCH)
    for index in range(count):
        image, limit, patches = stack[index].ravel(), limits[index], 0
        for y in range(rows):
            for x in range(columns):
                energy = energies[index, y * columns + x]
                places[patches] = y * width + x  # overwritten by the next one unless it counts
                patches += 1 if energy <= limit and energy < np.inf else 0
        covariance = result[index]
        covariance[:] = 0.0
        total[:] = 0.0
        for start in range(0, patches, _TOGETHER):
            size = min(_TOGETHER, patches - start)
            for a in range(PATCH * PATCH):
                first, offset = pixels[a], a // PATCH * width + a % PATCH
                for k in range(size):
                    first[k] = image[places[start + k] + offset]
            # Pairs of pixels outside, patches inside: the inner loop runs along rows, so it uses the vector units.
            for a in range(PATCH * PATCH):
                first, added = pixels[a], 0.0
                for k in range(size):
                    added += first[k]
                total[a] += added
                for b in range(a + 1):
                    second, products = pixels[b], 0.0
                    for k in range(size):
                        products += first[k] * second[k]
                    covariance[a, b] += products
        scale = 1.0 / max(patches, 1)
        for a in range(PATCH * PATCH):
            for b in range(a + 1):
                covariance[a, b] = scale * (covariance[a, b] - scale * total[a] * total[b])
                covariance[b, a] = covariance[a, b]


@compiled("void(float32[:, ::1], float32[:, ::1], int64)")
def smooth(first: NDArray[np.float32], second: NDArray[np.float32], rounds: int) -> None:
    """Apply a binomial 3x3 filter from `first` to `second` and back, `rounds` times; both have shape (H, W)."""
    height, width = first.shape
    for number in range(2 * rounds):
        source, target = (first, second) if number % 2 == 0 else (second, first)
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                above = source[i - 1, j - 1] + 2 * source[i - 1, j] + source[i - 1, j + 1]
                middle = source[i, j - 1] + 2 * source[i, j] + source[i, j + 1]
                below = source[i + 1, j - 1] + 2 * source[i + 1, j] + source[i + 1, j + 1]
                target[i, j] = (above + 2 * middle + below) / 16
