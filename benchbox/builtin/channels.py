"""Colour stacks (N, H, W, 3) as stacks of grey images: their luminance, or their channels one by one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Channels, Images, Sigma

CHANNELS = 3
# ITU-R BT.601: the weights of red, green and blue in the luminance of stored (gamma-corrected) values.
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def is_colour(images: NDArray[np.float32]) -> bool:
    """Whether a stack is in colour, shape (N, H, W, 3)."""
    return images.ndim == 4


def luminance(images: NDArray[np.float32]) -> Images:
    """Luminance Y = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) of stored values; drops the last axis."""
    return images @ LUMINANCE


def as_taken(takes: Channels, noisy: Images, sigma: Sigma | None) -> tuple[Images, Sigma | None]:
    """What a denoiser that takes these channels is called with: a grey one gets the channels of colour images."""
    if takes != "grey" or not is_colour(noisy):
        return noisy, sigma
    return channels_apart(noisy), None if sigma is None else np.repeat(sigma, CHANNELS)


def shape_taken(takes: Channels, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of what `as_taken` makes of a stack."""
    return (CHANNELS * shape[0], *shape[1:3]) if takes == "grey" and len(shape) == 4 else shape


def as_stack(denoised: Images, shape: tuple[int, ...]) -> Images:
    """Undo `as_taken` for a denoised stack; `shape` is that of the noisy one."""
    return denoised if denoised.shape == shape else channels_together(denoised)


def channels_apart(images: Images) -> Images:
    """The channels of (N, H, W, 3) as 3 N grey images, those of one image next to each other."""
    count, height, width, _ = images.shape
    return np.ascontiguousarray(np.moveaxis(images, 3, 1)).reshape(CHANNELS * count, height, width)


def channels_together(planes: Images) -> Images:
    """Undo `channels_apart`."""
    count, height, width = planes.shape
    apart = planes.reshape(count // CHANNELS, CHANNELS, height, width)
    return np.ascontiguousarray(np.moveaxis(apart, 1, 3))
