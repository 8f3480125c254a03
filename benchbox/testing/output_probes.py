"""Probes of the result of `denoise`: shape, values, quality."""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any

import numpy as np

from benchbox.api.arrays import Images
from benchbox.testing.card import Failed, Probe, Skipped
from benchbox.testing.subject import Bench, gaussian, pictures, psnr

_LEVELS = (0.05, 0.1, 0.2, 0.4)


def _gain(bench: Bench) -> str:
    if np.array_equal(bench.answer, bench.noisy):
        raise Skipped(f"returns {bench.noise} as it came, as a floor does: there is no gain to measure")
    before, after = float(psnr(bench.clean, bench.noisy).mean()), float(psnr(bench.clean, bench.answer).mean())
    seen = f"{bench.noise}: {before:.2f} dB noisy, {after:.2f} dB denoised"
    if not after > before:
        raise Failed(seen)
    return seen


def _monotone(bench: Bench) -> str:
    scores = []
    for level in _LEVELS:
        noisy, sigma = gaussian(bench.clean, level)
        scores.append(float(psnr(bench.clean, bench.denoise(noisy, bench.told(sigma))).mean()))
    seen = ", ".join(f"{score:.2f} dB at {level:g}" for level, score in zip(_LEVELS, scores, strict=True))
    if not all(stronger < weaker for weaker, stronger in itertools.pairwise(scores)):
        raise Failed(seen)
    return seen


QUALITY_PROBES = (
    Probe(
        "gain",
        "better than doing nothing on the noise that it is for",
        "check the scale of sigma, which is [0, 1], not 0 to 255; name the noise that it is for with --noise",
        _gain,
    ),
    Probe(
        "monotone",
        "PSNR falls as Gaussian noise grows",
        "a score that rises with noise comes from a wrong scale of sigma or from ignoring the image",
        _monotone,
    ),
)


_FAR = 0.5


def _shape(bench: Bench) -> str:
    shapes = []
    for noisy, sigma in (
        (bench.noisy, bench.sigma),
        (bench.noisy[:1], None if bench.sigma is None else bench.sigma[:1]),
    ):
        denoised: object = bench.denoiser.denoise(noisy.copy(), None if sigma is None else sigma.copy())
        if not isinstance(denoised, np.ndarray):
            raise Failed(f"{type(denoised).__name__} came back, not an array")
        if denoised.shape != noisy.shape:
            raise Failed(f"{denoised.shape} came back for {noisy.shape}")
        shapes.append(str(denoised.shape))
    return "same shape for " + " and ".join(shapes)


def _dtype(bench: Bench) -> str:
    if bench.answer.dtype != np.float32:
        raise Failed(f"{bench.answer.dtype} came back")
    return "float32"


def _finite(bench: Bench) -> str:
    noisy, levels = gaussian(bench.clean, 0.5)
    for stack, denoised in ((bench.noisy, bench.answer), (noisy, bench.denoise(noisy, bench.told(levels)))):
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
    kinds: dict[str, Any] = {"black": 0.0, "white": 1.0, "grey": 0.5, "a white border": border}
    stack = np.stack([np.broadcast_to(np.float32(value), (side, side)) for value in kinds.values()])
    for level in (0.0, 0.1):
        denoised = bench.denoise(stack, bench.told(np.full(len(stack), level, dtype=np.float32)))
        for kind, image in zip(kinds, denoised, strict=True):
            if not np.isfinite(image).all():
                rows, columns = np.nonzero(~np.isfinite(image))
                raise Failed(
                    f"{kind}, sigma {level}: NaN or infinity in {len(rows)} pixels, first at {rows[0]}, {columns[0]}"
                )
    return "finite for black, white, grey and a white border, at sigma 0 and 0.1"


def _sizes(bench: Bench) -> str:
    # The last is the first again: nothing of another size may be left over.
    sides = [(47, 53), (1, 48), (48, 1), (31, 64), (bench.least, bench.least), (47, 53)]
    sizes = [(max(height, bench.least), max(width, bench.least)) for height, width in sides]
    for height, width in sizes:
        noisy, levels = gaussian(pictures(2, height, width), 0.1)
        for count in (2, 1):
            stack = noisy[:count]
            try:
                denoised = bench.denoise(stack, bench.told(levels[:count]))
            except Exception as error:
                raise Failed(f"{count} of {height}x{width}: {type(error).__name__}: {error}") from error
            if not np.isfinite(denoised).all():
                raise Failed(f"{count} of {height}x{width}: NaN or infinity")
    return "takes " + ", ".join(f"{height}x{width}" for height, width in dict.fromkeys(sizes)) + ", stacks of 1 and 2"


def _alias(bench: Bench) -> str:
    noisy = bench.noisy.copy()
    denoised = bench.denoiser.denoise(noisy, bench.sigma)
    if np.shares_memory(noisy, denoised):
        raise Failed("the result lies in the memory of the input")
    return "the result has its own memory"


def _keeps(bench: Bench) -> str:
    noisy = bench.noisy.copy()
    first = bench.denoiser.denoise(noisy, bench.sigma)
    kept = first.copy()
    if np.shares_memory(first, noisy):
        raise Skipped("the result is the input: see 'alias'")
    watch = weakref.ref(noisy)
    del noisy
    gc.collect()
    if watch() is not None:
        raise Failed("the input is still alive after the call and a collection of garbage")
    bench.denoiser.denoise(_other(bench), bench.sigma)
    if not np.array_equal(first, kept, equal_nan=True):
        raise Failed(
            "a result changed when the next stack was denoised", "return a new array, not a buffer that is used again"
        )
    return "input released, and a result stays as it was when the next stack is denoised"


def _other(bench: Bench) -> Images:
    """Another stack of the same size."""
    return np.ascontiguousarray(1 - bench.noisy[::-1])


RESULT_PROBES = (
    Probe("shape", "a stack comes back in the shape of noisy", "return an array of noisy's shape (N, H, W)", _shape),
    Probe("dtype", "float32 comes back", "return .astype(np.float32); numpy turns to float64 easily", _dtype),
    Probe(
        "finite",
        "no NaN or infinity, also where noise leaves [0, 1]",
        "look for 0/0, logs and roots of values below 0",
        _finite,
    ),
    Probe("range", "values stay on the [0, 1] scale", "scale back what a library took or gave as 0 to 255", _range),
    Probe("edges", "no NaN for flat images or at borders", "look for 0/0 at flat patches and past the border", _edges),
    Probe(
        "sizes",
        "odd, non-square and one-pixel-wide sizes, one after another",
        "pad inside, or raise Capabilities(min_size=...)",
        _sizes,
    ),
    Probe(
        "alias", "the result does not lie in the input's memory", "return a new array, for example noisy.copy()", _alias
    ),
    Probe(
        "keeps",
        "neither input nor result is kept for later",
        "keep no reference to noisy on self or in a cache",
        _keeps,
    ),
)
