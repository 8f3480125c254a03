"""Probes of the quality: better than doing nothing, and worse the more noise there is."""

from __future__ import annotations

import itertools

import numpy as np

from benchbox.testing.probe import Failed, Probe, Skipped
from benchbox.testing.subject import Bench, gaussian, psnr

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
