"""Compiled kernels of the undecimated wavelet transform and its shrinkage for whole stacks."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _wrap(line: Floats, start: int, out: Floats) -> None:
    """Fill `out` from the periodic `line`, starting at `start`."""
    position = start % line.size
    for x in range(out.size):
        out[x] = line[position]
        position += 1
        if position == line.size:
            position = 0


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _analyse(image: Floats, filters: Floats, step: int, along: Floats, low: Floats, details: Floats) -> None:
    """One scale: split the periodic `image` into `low` and three bands of `details`, first by rows, then by columns.

    `along` is a buffer of shape (2, H, W); `filters`, shape (2, taps), are the low-pass and the high-pass.
    """
    height, width = image.shape
    taps = filters.shape[1]
    row = np.empty(width + (taps - 1) * step, np.float32)
    for y in range(height):
        _wrap(image[y], 0, row)
        for kind in range(2):
            out = along[kind, y]
            out[:] = 0
            for tap in range(taps):
                factor = filters[kind, tap]
                shifted = row[tap * step :]
                for x in range(width):
                    out[x] += factor * shifted[x]
    for kind in range(4):
        target = low if kind == 0 else details[kind - 1]
        source = along[kind // 2]
        for y in range(height):
            out = target[y]
            out[:] = 0
            for tap in range(taps):
                factor = filters[kind % 2, tap]
                line = source[(y + tap * step) % height]
                for x in range(width):
                    out[x] += factor * line[x]


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _synthesise(low: Floats, details: Floats, filters: Floats, step: int, along: Floats, image: Floats) -> None:
    """Invert `_analyse` by its adjoint, which averages over the two phases of each direction."""
    height, width = image.shape
    taps = filters.shape[1]
    reach = (taps - 1) * step
    along[:] = 0
    for kind in range(4):
        source = low if kind == 0 else details[kind - 1]
        target = along[kind // 2]
        for y in range(height):
            out = target[y]
            for tap in range(taps):
                factor = np.float32(0.5) * filters[kind % 2, tap]
                line = source[(y - tap * step) % height]
                for x in range(width):
                    out[x] += factor * line[x]
    row = np.empty(width + reach, np.float32)
    for y in range(height):
        out = image[y]
        out[:] = 0
        for kind in range(2):
            _wrap(along[kind, y], -reach, row)
            for tap in range(taps):
                factor = np.float32(0.5) * filters[kind, tap]
                shifted = row[reach - tap * step :]
                for x in range(width):
                    out[x] += factor * shifted[x]


@numba.njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _shrink(band: Floats, radius: int, noise: float, strength: float, squares: Floats) -> None:
    """Soft-threshold `band` in place, each coefficient by the energy of the square window around it.

    Running sums in float64 make the cost independent of the radius. The window is cut off at the borders.
    """
    height, width = band.shape
    reach = min(radius, max(height, width))
    columns = np.zeros(width)
    # Cumulative sums, extended beyond both ends by their first and last value: no branch in the inner loop.
    sums = np.zeros(width + 2 * reach + 1)
    shares = np.empty(width)
    for x in range(width):
        shares[x] = 1.0 / (min(x + reach + 1, width) - max(x - reach, 0))
    scale = np.float32(strength * noise)
    for y in range(height):
        for x in range(width):
            squares[y, x] = band[y, x] * band[y, x]
    for y in range(min(reach, height)):
        for x in range(width):
            columns[x] += squares[y, x]
    for y in range(height):
        if y + reach < height:
            for x in range(width):
                columns[x] += squares[y + reach, x]
        if y - reach - 1 >= 0:
            for x in range(width):
                columns[x] -= squares[y - reach - 1, x]
        total = 0.0
        for x in range(width):
            total += columns[x]
            sums[x + reach + 1] = total
        sums[width + reach + 1 :] = total
        share = 1.0 / (min(y + reach + 1, height) - max(y - reach, 0))
        right = sums[2 * reach + 1 :]
        for x in range(width):
            signal = np.float32((right[x] - sums[x]) * (shares[x] * share) - noise)
            # Without any signal above the noise, the threshold exceeds every coefficient.
            threshold = scale / np.sqrt(max(signal, np.float32(1e-20)))
            value = band[y, x]
            band[y, x] = value - min(max(value, -threshold), threshold)


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _copy(source: Floats, target: Floats) -> None:
    """Copy an image; an assignment of arrays would take as long to compile, for its error message, as all the rest."""
    for y in range(source.shape[0]):
        for x in range(source.shape[1]):
            target[y, x] = source[y, x]


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def shrink_undecimated(
    noisy: Floats,
    filters: Floats,
    levels: int,
    radius: NDArray[np.int64],
    noise: NDArray[np.float64],
    strength: NDArray[np.float64],
) -> Floats:
    """Denoise a stack by thresholds in the undecimated wavelet transform; images are treated as periodic.

    `filters`, shape (2, taps), are the low-pass and the high-pass of an orthogonal wavelet, and `levels` is the number
    of scales. For each image, shape (N,): `radius` of the energy window in pixels, `noise` variance, and `strength`,
    the factor on the BayesShrink threshold.
    """
    count, height, width = noisy.shape
    result = np.empty_like(noisy)
    lows = np.empty((levels + 1, height, width), np.float32)
    details = np.empty((levels, 3, height, width), np.float32)
    along = np.empty((2, height, width), np.float32)
    for index in range(count):
        _copy(noisy[index], lows[0])
        for scale in range(levels):
            _analyse(lows[scale], filters, 2**scale, along, lows[scale + 1], details[scale])
            for band in details[scale]:
                _shrink(band, radius[index], noise[index], strength[index], along[0])
        for scale in range(levels - 1, -1, -1):
            _synthesise(lows[scale + 1], details[scale], filters, 2**scale, along, lows[scale])
        _copy(lows[0], result[index])
    return result
