"""Runs a network on images of any size, with reflected borders and overlapping tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from benchbox import Images

TILE = 512
"""Side in pixels of the part of a tile that is kept; a multiple of every stride.

Half of it takes 40 % longer for the U-Net, whose wide margins are computed again in every tile, and saves 80 MiB.
"""

Network = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""From (N, H, W) images and their (N,) levels to (N, H, W) results, for H and W that are multiples of the stride."""


def run(network: Network, images: Images, levels: NDArray[np.float32], *, stride: int, margin: int) -> Images:
    """Run a network on a stack of any size.

    Sides are extended to a multiple of `stride` by reflection at the right and the bottom. `margin`, a multiple of
    `stride`, is the number of pixels around a tile that its result depends on; if it is at least the network's reach,
    the tiled result equals that of the whole image.
    """
    count, height, width = images.shape
    padded = reflect(images, stride)
    if padded.shape[1] <= TILE + 2 * margin and padded.shape[2] <= TILE + 2 * margin:
        return np.ascontiguousarray(network(padded, levels)[:, :height, :width])
    result = np.empty_like(padded)
    for index in range(count):
        for rows, outer_rows in _spans(padded.shape[1], margin):
            for columns, outer_columns in _spans(padded.shape[2], margin):
                tile = np.ascontiguousarray(padded[index : index + 1, outer_rows, outer_columns])
                inner = (
                    slice(rows.start - outer_rows.start, rows.stop - outer_rows.start),
                    slice(columns.start - outer_columns.start, columns.stop - outer_columns.start),
                )
                result[index, rows, columns] = network(tile, levels[index : index + 1])[0][inner]
    return np.ascontiguousarray(result[:, :height, :width])


def reflect(images: Images, stride: int) -> Images:
    """Extend images at the right and the bottom to multiples of `stride`.

    The edge itself is repeated (half-sample symmetric), so that even an image of a single pixel has a reflection.
    """
    extra = [-size % stride for size in images.shape[1:]]
    if not any(extra):
        return images
    return np.pad(images, ((0, 0), (0, extra[0]), (0, extra[1])), mode="symmetric")


def _spans(size: int, margin: int) -> Iterator[tuple[slice, slice]]:
    """The part that each tile keeps, and the part that it reads, along one axis."""
    for start in range(0, size, TILE):
        stop = min(start + TILE, size)
        yield slice(start, stop), slice(max(0, start - margin), min(size, stop + margin))
