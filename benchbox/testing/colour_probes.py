"""Probes on colour images, which a grey denoiser gets channel by channel."""

from __future__ import annotations

import numpy as np

from benchbox.api.arrays import Images, Sigma
from benchbox.builtin.channels import CHANNELS, as_stack, as_taken
from benchbox.testing.repeat_probes import SAME, difference
from benchbox.testing.subject import Bench, Failed, Probe, Skipped, gaussian, pictures, psnr

_NAMES = ("red", "green", "blue")
_LEVEL = 0.05
_FAR = 0.1


def _colour(bench: Bench) -> str:
    noisy, levels = _noisy(bench)
    seen = []
    for stack, sigma in ((noisy, levels), (noisy[:1], levels[:1])):
        denoised = _denoise(bench, stack, sigma)
        if denoised.dtype != np.float32 or not np.isfinite(denoised).all():
            raise Failed(f"returned {denoised.dtype}, {int((~np.isfinite(denoised)).sum())} values not finite")
        seen.append(str(denoised.shape))
    way = "as three grey images each" if bench.takes == "grey" else "as they are"
    return f"colour images {way}: " + " and ".join(seen)


def _channels(bench: Bench) -> str:
    # Flat images of six colours, so that a channel is known by its brightness.
    side = max(24, bench.least)
    orders = np.array([(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
    colours = np.array([0.2, 0.5, 0.8], dtype=np.float32)[orders]
    flat = np.broadcast_to(colours[:, None, None, :], (len(colours), side, side, CHANNELS))
    denoised = _denoise(bench, *gaussian(np.ascontiguousarray(flat), _LEVEL)).mean(axis=(1, 2))
    image, channel = np.unravel_index(int(np.abs(denoised - colours).argmax()), colours.shape)
    worst = (
        f"{_NAMES[channel]} of a flat image has mean {denoised[image, channel]:.2f}, not {colours[image, channel]:.1f}"
    )
    if not np.abs(denoised - colours).max() <= _FAR:
        raise Failed(worst)
    return "red, green and blue keep their mean in flat images of six colours"


def _apart(bench: Bench) -> str:
    if bench.takes != "grey":
        raise Skipped(f"declared channels='{bench.takes}', so its channels may help each other")
    if not bench.deterministic:
        raise Skipped("declared random, so two calls differ")
    noisy, levels = _noisy(bench)
    together = _denoise(bench, noisy, levels)
    for channel, name in enumerate(_NAMES):
        alone = bench.denoise(np.ascontiguousarray(noisy[..., channel]), bench.given(levels))
        apart = difference(together[..., channel], alone)
        if apart > SAME:
            raise Failed(f"{name}: results differ by up to {apart:.2g} with and without the other channels")
    return "each channel gives the same result with and without the others"


def _gain(bench: Bench) -> str:
    noisy, levels = _noisy(bench)
    denoised = _denoise(bench, noisy, levels)
    if np.array_equal(denoised, noisy):
        raise Skipped("returns its input unchanged, so there is no gain to measure")
    clean = _clean(bench)
    seen = []
    for channel, name in enumerate(_NAMES):
        before, after = (float(psnr(clean[..., channel], stack[..., channel]).mean()) for stack in (noisy, denoised))
        seen.append(f"{name} {before:.2f} to {after:.2f} dB")
        if not after > before:
            raise Failed(", ".join(seen))
    return ", ".join(seen)


def _clean(bench: Bench) -> Images:
    side = max(48, bench.least)
    return pictures(3, side, side, rgb=True)


def _noisy(bench: Bench) -> tuple[Images, Sigma]:
    """Colour images with noise that is independent in each channel, and its level."""
    return gaussian(_clean(bench), 2 * _LEVEL)


def _denoise(bench: Bench, noisy: Images, levels: Sigma) -> Images:
    """Denoise colour images as a run does."""
    return as_stack(bench.denoise(*as_taken(bench.takes, noisy, bench.given(levels))), noisy.shape)


COLOUR_PROBES = (
    Probe(
        "colour",
        "colour images give colour images",
        "return an array of noisy's shape, also for (N, H, W, 3), or declare Capabilities(channels='grey')",
        _colour,
    ),
    Probe(
        "channels",
        "channels are neither swapped nor mixed up",
        "the last axis is red, green, blue; OpenCV's functions may expect blue, green, red",
        _channels,
    ),
    Probe(
        "apart",
        "a grey denoiser gives the same result for a channel with and without the others",
        "compute nothing across the stack: no shared mean, range or normalisation",
        _apart,
    ),
    Probe(
        "colour_gain",
        "PSNR increases in each channel, with noise that is independent in each",
        "look for a channel that is left out, or noise levels in the wrong order",
        _gain,
    ),
)
