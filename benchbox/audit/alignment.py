"""Aligns two pictures over zoom, shift, angle and mirroring, and measures how well their details agree.

Each picture is split into three bands of detail by `duplicates.bands_of`. Zooms, mirroring and shifts are tried at half
the size; the most promising starts are then refined by Gauss-Newton steps over zoom, angle and shift (B. Lucas
and T. Kanade, "An iterative image registration technique", 1981), first in the middle band, whose steps may be large,
then in the finest, whose correlation over the overlap is the answer.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from benchbox.builtin.kernels import STACK, compiled

ZOOMS = np.exp(np.linspace(-0.26, 0.26, 7)).astype(np.float32)
REACH = 4
"""Largest shift tried at half the size, in pixels."""
OVERLAP = 900
"""Smallest overlap of two pictures, in pixels."""

_STARTS = 4
_HOPELESS, _UNLIKELY, _CERTAIN = 0.2, 0.3, 0.9
_PICTURE = "Array(float32, 2, 'C', readonly=True)"

_Picture = NDArray[np.float32]


@compiled(f"void({_PICTURE}, float32, boolean, float32[:, ::1], float32[:, ::1])")
def _zoom(picture: _Picture, zoom: float, mirrored: bool, out: _Picture, inside: _Picture) -> None:
    """Zoom a picture about its centre; `inside` is 1 where the result is defined."""
    side = len(picture)
    middle = np.float32(side - 1) / 2
    for row in range(side):
        for column in range(side):
            across, down = (column - middle) / zoom, (row - middle) / zoom
            x, y = middle - across if mirrored else middle + across, middle + down
            left, top = math.floor(x), math.floor(y)
            out[row, column] = inside[row, column] = 0
            if left >= 0 and top >= 0 and left < side - 1 and top < side - 1:
                right, below = np.float32(x - left), np.float32(y - top)
                upper = picture[top, left] * (1 - right) + picture[top, left + 1] * right
                lower = picture[top + 1, left] * (1 - right) + picture[top + 1, left + 1] * right
                out[row, column] = upper * (1 - below) + lower * below
                inside[row, column] = 1


@compiled(f"void({_PICTURE}, {_PICTURE}, float32[::1], float32[::1], float32[:, ::1])")
def _find_starts(moving: _Picture, fixed: _Picture, zooms: _Picture, scores: _Picture, starts: _Picture) -> None:
    """Fill rows of `starts` with the best (zoom, mirrored, x, y), and `scores` with their correlations."""
    side = len(moving)
    zoomed, inside = np.empty((side, side), dtype=np.float32), np.empty((side, side), dtype=np.float32)
    squares = fixed * fixed
    scores[:] = -1
    # All zooms and shifts are tried, both ways round, because `_refine` finds only what is near its start.
    for mirrored in range(2):
        for zoom in zooms:
            _zoom(moving, zoom, mirrored == 1, zoomed, inside)
            best, best_down, best_right = np.float32(-1), 0, 0
            for down in range(-REACH, REACH + 1):
                for right in range(-REACH, REACH + 1):
                    product, energy, other_energy = np.float32(0), np.float32(0), np.float32(0)
                    first, last = max(0, right), min(side, side + right)
                    for row in range(max(0, down), min(side, side + down)):
                        # Slices, because possibly negative indices would prevent vectorisation of the loop.
                        values = zoomed[row - down, first - right : last - right]
                        counted = inside[row - down, first - right : last - right]
                        others, other_squares = fixed[row, first:last], squares[row, first:last]
                        for column in range(last - first):
                            product += values[column] * others[column]
                            energy += values[column] * values[column]
                            # Outside the zoomed picture nothing counts, in either picture.
                            other_energy += counted[column] * other_squares[column]
                    scale = energy * other_energy
                    score = np.float32(product / np.sqrt(scale)) if scale > 0 else np.float32(-1)
                    if score > best:
                        best, best_down, best_right = score, down, right
            # Kept in order, best first.
            place = len(scores)
            while place > 0 and scores[place - 1] < best:
                place -= 1
            for later in range(len(scores) - 1, place, -1):
                scores[later] = scores[later - 1]
                starts[later] = starts[later - 1]
            if place < len(scores):
                scores[place] = best
                starts[place, 0], starts[place, 1] = zoom, mirrored
                # At full size a shift is twice as many pixels.
                starts[place, 2], starts[place, 3] = 2 * best_right, 2 * best_down


@compiled(f"float64({_PICTURE}, {_PICTURE}, boolean, int64, int64, float64[::1])")
def _refine(
    moving: _Picture, fixed: _Picture, mirrored: bool, steps: int, stride: int, pose: NDArray[np.float64]
) -> float:
    """Refine a pose by Gauss-Newton steps and return the final correlation; -1 if the pose diverges.

    `pose` is (cosine, sine, x, y): the pixel at (x, y) from the centre of `fixed` corresponds to that of `moving` at
    (cosine * x - sine * y + pose x, sine * x + cosine * y + pose y), with `mirrored`, x is negated.
    """
    side = len(moving)
    middle = (side - 1) / 2
    hessian, gradient = np.empty((4, 4)), np.empty(4)
    slopes, other_slopes, slope = np.empty(4), np.empty(4), np.empty(4)
    for step in range(steps + 1):
        final = step == steps
        count, total, other_total, energy, other_energy, product = 0, 0.0, 0.0, 0.0, 0.0, 0.0
        hessian[:], slopes[:], other_slopes[:] = 0, 0, 0
        # Steps may go by a sample of the pixels; the final correlation goes by all of them.
        skip = 1 if final else stride
        for row in range(1, side - 1, skip):
            down = row - middle
            for column in range(1, side - 1, skip):
                across = column - middle
                x = pose[0] * across - pose[1] * down + pose[2]
                x = middle - x if mirrored else middle + x
                y = pose[1] * across + pose[0] * down + pose[3] + middle
                if x < 1 or y < 1 or x >= side - 2 or y >= side - 2:
                    continue
                left, top = int(x), int(y)
                right, below = x - left, y - top
                upper_step = moving[top, left + 1] - moving[top, left]
                lower_step = moving[top + 1, left + 1] - moving[top + 1, left]
                upper, lower = moving[top, left] + upper_step * right, moving[top + 1, left] + lower_step * right
                value, other_value = upper + (lower - upper) * below, fixed[row, column]
                count += 1
                total += value
                other_total += other_value
                energy += value * value
                other_energy += other_value * other_value
                product += value * other_value
                if not final:
                    slope_down = lower - upper
                    slope_right = upper_step + (lower_step - upper_step) * below
                    if mirrored:
                        slope_right = -slope_right
                    # How the value changes with cosine, sine, x and y.
                    slope[0] = slope_right * across + slope_down * down
                    slope[1] = slope_down * across - slope_right * down
                    slope[2], slope[3] = slope_right, slope_down
                    for i in range(4):
                        slopes[i] += slope[i] * value
                        other_slopes[i] += slope[i] * other_value
                        for j in range(i + 1):
                            hessian[i, j] += slope[i] * slope[j]
        if count * skip * skip < OVERLAP or product <= 0 or energy <= 0:
            return -1.0
        if final:
            spread = (energy - total * total / count) * (other_energy - other_total * other_total / count)
            return (product - total * other_total / count) / math.sqrt(spread) if spread > 0 else -1.0
        # The gain compensates for contrast; the slightly raised diagonal guarantees a solution.
        gain = product / energy
        for i in range(4):
            gradient[i] = other_slopes[i] / gain - slopes[i]
            hessian[i, i] = hessian[i, i] * 1.001 + 1e-9
            for j in range(i):
                hessian[j, i] = hessian[i, j]
        change = np.linalg.solve(hessian, gradient)
        # In pixels: cosine and sine act on a pixel by its distance from the centre, of which 20 is typical.
        moved = max(20 * abs(change[0]), 20 * abs(change[1]), abs(change[2]), abs(change[3]))
        # A step of more than two pixels leaves the surroundings that the slopes describe.
        pose += change * min(1.0, 2 / moved) if moved > 0 else change
        scale = math.hypot(pose[0], pose[1])
        if not 0.65 < scale < 1.55 or abs(pose[1]) > 0.25 * scale or max(abs(pose[2]), abs(pose[3])) > 14:
            return -1.0
    return -1.0


@compiled(f"void({', '.join([STACK] * 3)}, int64[:, ::1], float32[::1], float32[::1], boolean[::1])")
def align_pairs(
    halves: NDArray[np.float32],
    middles: NDArray[np.float32],
    fines: NDArray[np.float32],
    pairs: NDArray[np.int64],
    zooms: NDArray[np.float32],
    scores: NDArray[np.float32],
    mirrored: NDArray[np.bool_],
) -> None:
    """Align M pairs of pictures, and fill `scores` and `mirrored`, both of shape (M,).

    `halves` (N, S / 2, S / 2), `middles` and `fines` (N, S, S) are three bands of the pictures; `pairs` (M, 2) has
    positions in them; `zooms` are the zooms to start from. A score is the highest correlation of the finest band, -1 if
    nothing fits.
    """
    start_scores, starts = np.empty(_STARTS, dtype=np.float32), np.empty((_STARTS, 4), dtype=np.float32)
    pose = np.empty(4)
    for index in range(len(pairs)):
        moving, fixed = pairs[index]
        scores[index], mirrored[index] = -1, False
        _find_starts(halves[moving], halves[fixed], zooms, start_scores, starts)
        for place in range(_STARTS):
            if start_scores[place] < _HOPELESS or scores[index] >= _CERTAIN:
                break
            zoom, flipped = starts[place, 0], starts[place, 1] > 0
            pose[0], pose[1] = 1 / zoom, 0
            pose[2], pose[3] = -starts[place, 2] / zoom, -starts[place, 3] / zoom
            # The coarser band first: a wrong start fails there, with a quarter of the pixels a step.
            if _refine(middles[moving], middles[fixed], flipped, 6, 2, pose) < _UNLIKELY:
                continue
            score = np.float32(_refine(fines[moving], fines[fixed], flipped, 8, 1, pose))
            if score > scores[index]:
                scores[index], mirrored[index] = score, flipped
