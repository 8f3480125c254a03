"""Probes of the result of `denoise`: shape, values, quality; and of colour, which a grey denoiser gets by channel."""

from __future__ import annotations

import gc
import itertools
import traceback
import weakref
from typing import Any

import numpy as np

from benchbox.api.arrays import Images, Sigma
from benchbox.builtin.channels import CHANNELS, as_stack, as_taken
from benchbox.engine.shard import denoise_stack
from benchbox.registry import first_line
from benchbox.testing.behaviour_probes import SAME, difference
from benchbox.testing.subject import Bench, Failed, Probe, Skipped, gaussian, pictures, psnr

_LEVELS = (0.05, 0.1, 0.2, 0.4)


def _gain(bench: Bench) -> str:
    if np.array_equal(bench.answer, bench.noisy):
        raise Skipped("returns its input unchanged, so there is no gain to measure")
    before, after = float(psnr(bench.clean, bench.noisy).mean()), float(psnr(bench.clean, bench.answer).mean())
    seen = f"{bench.noise.label}: {before:.2f} dB noisy, {after:.2f} dB denoised"
    if not after > before:
        raise Failed(seen)
    return seen


def _monotone(bench: Bench) -> str:
    scores = []
    for level in _LEVELS:
        noisy, sigma = gaussian(bench.clean, level)
        scores.append(float(psnr(bench.clean, bench.denoise(noisy, bench.given(sigma))).mean()))
    seen = ", ".join(f"{score:.2f} dB at {level:g}" for level, score in zip(_LEVELS, scores, strict=True))
    if not all(stronger < weaker for weaker, stronger in itertools.pairwise(scores)):
        raise Failed(seen)
    return seen


QUALITY_PROBES = (
    Probe(
        "gain",
        "the result has a higher PSNR than the noisy images",
        "check that sigma is used on the [0, 1] scale, not 0 to 255; select the noise it is designed for with --noise",
        _gain,
    ),
    Probe(
        "monotone",
        "PSNR decreases as Gaussian noise increases",
        "check the scale of sigma, and that the result depends on the image",
        _monotone,
    ),
)


_FAR = 0.5


def _starts(bench: Bench) -> str:
    try:
        bench.denoiser  # noqa: B018 - constructs it and sets it up
    except Exception as error:
        # Frames of the plugin only: it raised, not the probe.
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/benchbox/" not in frame.filename]
        where = "".join(f"\n{line.rstrip()}" for line in traceback.format_list(frames))
        raise Failed(f"raised {first_line(error)}{where}") from error
    return "can be constructed and set up"


STARTS = Probe(
    "starts",
    "it can be constructed and set up",
    "mend this first; the other probes need it",
    _starts,
)


def _shape(bench: Bench) -> str:
    shapes = []
    for noisy, sigma in (
        (bench.noisy, bench.sigma),
        (bench.noisy[:1], None if bench.sigma is None else bench.sigma[:1]),
    ):
        denoised: object = denoise_stack(bench.denoiser, noisy.copy(), None if sigma is None else sigma.copy())
        if not isinstance(denoised, np.ndarray):
            raise Failed(f"returned {type(denoised).__name__}, not an array")
        if denoised.shape != noisy.shape:
            raise Failed(f"returned shape {denoised.shape} for {noisy.shape}")
        shapes.append(str(denoised.shape))
    return "same shape as noisy for " + " and ".join(shapes)


def _dtype(bench: Bench) -> str:
    if bench.answer.dtype != np.float32:
        raise Failed(f"returned {bench.answer.dtype}")
    return "float32"


def _finite(bench: Bench) -> str:
    noisy, levels = gaussian(bench.clean, 0.5)
    for stack, denoised in ((bench.noisy, bench.answer), (noisy, bench.denoise(noisy, bench.given(levels)))):
        bad = int((~np.isfinite(denoised)).sum())
        if bad:
            raise Failed(
                f"NaN or infinity in {bad} of {denoised.size} pixels, input from {stack.min():.1f} to {stack.max():.1f}"
            )
    return f"finite, also for input from {noisy.min():.1f} to {noisy.max():.1f}"


def _range(bench: Bench) -> str:
    low, high = float(bench.answer.min()), float(bench.answer.max())
    least, most = float(bench.noisy.min()), float(bench.noisy.max())
    mean, noisy_mean = float(bench.answer.mean()), float(bench.noisy.mean())
    seen = f"{low:.2f} to {high:.2f}, mean {mean:.2f}; noisy {least:.2f} to {most:.2f}, mean {noisy_mean:.2f}"
    if not (low > least - _FAR and high < most + _FAR and abs(mean - noisy_mean) < _FAR / 2):
        raise Failed(seen)
    return seen


def _edges(bench: Bench) -> str:
    side = max(24, bench.least)
    border = np.zeros((side, side), dtype=np.float32)
    border[0] = border[-1] = border[:, 0] = border[:, -1] = 1
    images: dict[str, Any] = {"black": 0.0, "white": 1.0, "grey": 0.5, "a white border": border}
    stack = np.stack([np.broadcast_to(np.float32(value), (side, side)) for value in images.values()])
    if bench.takes == "rgb":
        stack = np.repeat(stack[..., np.newaxis], CHANNELS, axis=3)
    for level in (0.0, 0.1):
        denoised = bench.denoise(stack, bench.given(np.full(len(stack), level, dtype=np.float32)))
        for name, image in zip(images, denoised, strict=True):
            if not np.isfinite(image).all():
                rows, columns, *_ = np.nonzero(~np.isfinite(image))
                raise Failed(
                    f"{name}, sigma {level}: NaN or infinity in {len(rows)} pixels, first at ({rows[0]}, {columns[0]})"
                )
    return "finite for black, white, grey and a white border, at sigma 0 and 0.1"


def _sizes(bench: Bench) -> str:
    # The first size comes again at the end, to reveal state kept from another size.
    sides = [(47, 53), (1, 48), (48, 1), (31, 64), (bench.least, bench.least), (47, 53)]
    sizes = [(max(height, bench.least), max(width, bench.least)) for height, width in sides]
    for height, width in sizes:
        noisy, levels = gaussian(bench.pictures(2, height, width), 0.1)
        for count in (2, 1):
            stack = noisy[:count]
            try:
                denoised = bench.denoise(stack, bench.given(levels[:count]))
            except Exception as error:
                raise Failed(f"{count} of {height}x{width}: {type(error).__name__}: {error}") from error
            if not np.isfinite(denoised).all():
                raise Failed(f"{count} of {height}x{width}: NaN or infinity")
    shown = ", ".join(f"{height}x{width}" for height, width in dict.fromkeys(sizes))
    return f"works with {shown}, one and two images each"


def _alias(bench: Bench) -> str:
    noisy = bench.noisy.copy()
    denoised = bench.denoiser.denoise(noisy, bench.sigma)
    if np.shares_memory(noisy, denoised):
        raise Failed("the result shares memory with the input")
    return "the result has its own memory"


def _keeps(bench: Bench) -> str:
    noisy = bench.noisy.copy()
    first = bench.denoiser.denoise(noisy, bench.sigma)
    kept = first.copy()
    if np.shares_memory(first, noisy):
        raise Skipped("the result shares memory with the input; see 'alias'")
    watch = weakref.ref(noisy)
    del noisy
    gc.collect()
    if watch() is not None:
        raise Failed("the input is still referenced after the call, even after garbage collection")
    bench.denoiser.denoise(_another_stack(bench), bench.sigma)
    if not np.array_equal(first, kept, equal_nan=True):
        raise Failed(
            "an earlier result changed when the next stack was denoised", "return a new array, not a reused buffer"
        )
    return "the input is released, and the result is unchanged after denoising another stack"


def _another_stack(bench: Bench) -> Images:
    """Different images of the same size."""
    return np.ascontiguousarray(1 - bench.noisy[::-1])


RESULT_PROBES = (
    Probe("shape", "the result has the shape of noisy", "return an array of noisy's shape (N, H, W)", _shape),
    Probe("dtype", "the result is float32", "return .astype(np.float32); NumPy promotes to float64 easily", _dtype),
    Probe(
        "finite",
        "no NaN or infinity, even for noisy values outside [0, 1]",
        "look for 0/0, and for logarithms and roots of negative values",
        _finite,
    ),
    Probe("range", "the result is on the [0, 1] scale", "divide by 255 if a library returns 0 to 255", _range),
    Probe("edges", "no NaN for flat images or at borders", "look for 0/0 in flat patches and at the border", _edges),
    Probe(
        "sizes",
        "any image size works: odd, non-square, one pixel wide, one after another",
        "pad small images, or declare a larger Capabilities(min_size=...)",
        _sizes,
    ),
    Probe(
        "alias", "the result does not share memory with the input", "return a new array, such as noisy.copy()", _alias
    ),
    Probe(
        "keeps",
        "neither input nor result is kept between calls",
        "store no reference to noisy on self or in a cache",
        _keeps,
    ),
)


_RGB = ("red", "green", "blue")
_COLOUR_LEVEL = 0.05
_FAR_COLOUR = 0.1


def _colour(bench: Bench) -> str:
    noisy, levels = _noisy_colour(bench)
    seen = []
    for stack, sigma in ((noisy, levels), (noisy[:1], levels[:1])):
        denoised = _denoise_colour(bench, stack, sigma)
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
    denoised = _denoise_colour(bench, *gaussian(np.ascontiguousarray(flat), _COLOUR_LEVEL)).mean(axis=(1, 2))
    image, channel = np.unravel_index(int(np.abs(denoised - colours).argmax()), colours.shape)
    worst = (
        f"{_RGB[channel]} of a flat image has mean {denoised[image, channel]:.2f}, not {colours[image, channel]:.1f}"
    )
    if not np.abs(denoised - colours).max() <= _FAR_COLOUR:
        raise Failed(worst)
    return "red, green and blue keep their mean in flat images of six colours"


def _apart(bench: Bench) -> str:
    if bench.takes != "grey":
        raise Skipped(f"declared channels='{bench.takes}', so its channels may help each other")
    if not bench.deterministic:
        raise Skipped("declared random, so two calls differ")
    noisy, levels = _noisy_colour(bench)
    together = _denoise_colour(bench, noisy, levels)
    for channel, name in enumerate(_RGB):
        alone = bench.denoise(np.ascontiguousarray(noisy[..., channel]), bench.given(levels))
        apart = difference(together[..., channel], alone)
        if apart > SAME:
            raise Failed(f"{name}: results differ by up to {apart:.2g} with and without the other channels")
    return "each channel gives the same result with and without the others"


def _colour_gain(bench: Bench) -> str:
    noisy, levels = _noisy_colour(bench)
    denoised = _denoise_colour(bench, noisy, levels)
    if np.array_equal(denoised, noisy):
        raise Skipped("returns its input unchanged, so there is no gain to measure")
    clean = _clean_colour(bench)
    seen = []
    for channel, name in enumerate(_RGB):
        before, after = (float(psnr(clean[..., channel], stack[..., channel]).mean()) for stack in (noisy, denoised))
        seen.append(f"{name} {before:.2f} to {after:.2f} dB")
        if not after > before:
            raise Failed(", ".join(seen))
    return ", ".join(seen)


def _clean_colour(bench: Bench) -> Images:
    side = max(48, bench.least)
    return pictures(3, side, side, rgb=True)


def _noisy_colour(bench: Bench) -> tuple[Images, Sigma]:
    """Colour images with noise that is independent in each channel, and its level."""
    return gaussian(_clean_colour(bench), 2 * _COLOUR_LEVEL)


def _denoise_colour(bench: Bench, noisy: Images, levels: Sigma) -> Images:
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
        _colour_gain,
    ),
)
