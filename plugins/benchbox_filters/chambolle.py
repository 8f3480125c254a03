"""Compiled kernels of Chambolle's total variation projection for whole stacks."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def chambolle(
    noisy: NDArray[np.float32], weight: NDArray[np.float32], eps: float, iterations: int
) -> NDArray[np.float32]:
    """Minimise ``|u - noisy|^2 / 2 + weight * TV(u)`` for every image by projection of the dual field.

    `weight`, shape (N,), is greater than 0. An image stops by itself when its energy changes by less than `eps` times
    its first energy, or after `iterations` steps, as in `skimage.restoration.denoise_tv_chambolle`. The energy is
    summed column by column in float32 and then in float64, so the order does not depend on other images.
    """
    count, height, width = noisy.shape
    result = noisy.copy()
    across = np.empty((height, width), np.float32)
    down = np.empty((height, width), np.float32)
    fidelity = np.empty(width, np.float32)
    variation = np.empty(width, np.float32)
    tau = np.float32(0.25)
    one = np.float32(1.0)
    for index in range(count):
        image = noisy[index]
        out = result[index]
        across[:] = 0
        down[:] = 0
        scale = tau / weight[index]
        first = 0.0
        previous = 0.0
        for step in range(iterations):
            fidelity[:] = 0
            variation[:] = 0
            if step > 0:
                for y in range(height):
                    for x in range(width):
                        divergence = -(across[y, x] + down[y, x])
                        if y > 0:
                            divergence += down[y - 1, x]
                        if x > 0:
                            divergence += across[y, x - 1]
                        fidelity[x] += divergence * divergence
                        out[y, x] = image[y, x] + divergence
            for y in range(height):
                below = min(y + 1, height - 1)
                for x in range(width - 1):
                    to_below = out[below, x] - out[y, x]
                    to_right = out[y, x + 1] - out[y, x]
                    norm = np.sqrt(to_below * to_below + to_right * to_right)
                    variation[x] += norm
                    shrink = one / (one + scale * norm)
                    down[y, x] = (down[y, x] - tau * to_below) * shrink
                    across[y, x] = (across[y, x] - tau * to_right) * shrink
                last = width - 1
                to_below = out[below, last] - out[y, last]
                norm = abs(to_below)
                variation[last] += norm
                down[y, last] = (down[y, last] - tau * to_below) / (one + scale * norm)
            energy = 0.0
            for x in range(width):
                energy += float(fidelity[x]) + float(weight[index]) * float(variation[x])
            if step == 0:
                first = energy
            elif math.fabs(previous - energy) < eps * first:
                break
            previous = energy
    return result


@numba.njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def chambolle_colour(
    noisy: NDArray[np.float32], weight: NDArray[np.float32], eps: float, iterations: int
) -> NDArray[np.float32]:
    """Minimise ``|u - noisy|^2 / 2 + weight * TV(u)`` for images of shape (N, C, H, W), as `chambolle`.

    TV is vectorial: the norm of the gradient is taken over all channels, so that they share their edges (X. Bresson and
    T. F. Chan, Inverse Problems and Imaging 2(4), 2008, doi:10.3934/ipi.2008.2.455).
    """
    count, channels, height, width = noisy.shape
    result = noisy.copy()
    across = np.empty((channels, height, width), np.float32)
    down = np.empty((channels, height, width), np.float32)
    to_below = np.empty((channels, width), np.float32)
    to_right = np.empty((channels, width), np.float32)
    norm = np.empty(width, np.float32)
    fidelity = np.empty(width, np.float32)
    variation = np.empty(width, np.float32)
    tau = np.float32(0.25)
    one = np.float32(1.0)
    for index in range(count):
        across[:] = 0
        down[:] = 0
        to_right[:] = 0
        scale = tau / weight[index]
        first = 0.0
        previous = 0.0
        for step in range(iterations):
            fidelity[:] = 0
            variation[:] = 0
            for channel in range(channels if step > 0 else 0):
                image, out = noisy[index, channel], result[index, channel]
                for y in range(height):
                    for x in range(width):
                        divergence = -(across[channel, y, x] + down[channel, y, x])
                        if y > 0:
                            divergence += down[channel, y - 1, x]
                        if x > 0:
                            divergence += across[channel, y, x - 1]
                        fidelity[x] += divergence * divergence
                        out[y, x] = image[y, x] + divergence
            for y in range(height):
                below = min(y + 1, height - 1)
                norm[:] = 0
                for channel in range(channels):
                    out = result[index, channel]
                    for x in range(width):
                        to_below[channel, x] = out[below, x] - out[y, x]
                    for x in range(width - 1):
                        to_right[channel, x] = out[y, x + 1] - out[y, x]
                    for x in range(width):
                        norm[x] += to_below[channel, x] ** 2 + to_right[channel, x] ** 2
                for x in range(width):
                    norm[x] = np.sqrt(norm[x])
                    variation[x] += norm[x]
                    norm[x] = one / (one + scale * norm[x])
                for channel in range(channels):
                    for x in range(width):
                        down[channel, y, x] = (down[channel, y, x] - tau * to_below[channel, x]) * norm[x]
                        across[channel, y, x] = (across[channel, y, x] - tau * to_right[channel, x]) * norm[x]
            energy = 0.0
            for x in range(width):
                energy += float(fidelity[x]) + float(weight[index]) * float(variation[x])
            if step == 0:
                first = energy
            elif math.fabs(previous - energy) < eps * first:
                break
            previous = energy
    return result
