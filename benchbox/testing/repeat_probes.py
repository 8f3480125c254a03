"""Probes of consistency: second calls, stack size, order, and per-image noise levels."""

from __future__ import annotations

import numpy as np

from benchbox.api.arrays import Images
from benchbox.testing.card import Failed, Probe, Skipped
from benchbox.testing.subject import Bench, gaussian

SAME = 1e-5
"""Largest difference that rounding in another order explains; scores then agree to 0.001 dB."""


def _repeatable(bench: Bench) -> str:
    if not bench.deterministic:
        return _seeded(bench)
    again = bench.denoise(bench.noisy, bench.sigma)
    apart = difference(bench.answer, again)
    if apart > 0:
        raise Failed(f"the same stack twice: results differ by up to {apart:.2g}")
    bench.denoise(1 - bench.noisy, bench.sigma)
    apart = difference(bench.answer, bench.denoise(bench.noisy, bench.sigma))
    if apart > 0:
        raise Failed(
            f"the same stack before and after another one: results differ by up to {apart:.2g}",
            "keep nothing of a stack for the next",
        )
    return "the same bits each time"


def _seeded(bench: Bench) -> str:
    """A denoiser that declares itself random must draw from a generator of its own, seeded when it is made."""
    answers = []
    for _ in range(2):
        denoiser = bench.subject.make()
        denoiser.setup((len(bench.noisy), *bench.noisy.shape[1:]))
        answers.append(denoiser.denoise(bench.noisy.copy(), bench.sigma))
    apart = difference(*answers)
    if apart > SAME:
        raise Failed(
            f"declared random and not seeded: two new objects differ by up to {apart:.2g}",
            "draw from numpy.random.default_rng(self.seed), made in setup, with an option seed: int = 0",
        )
    return "declared random, and seeded: two new objects agree"


def _alone(bench: Bench) -> str:
    _needs_order(bench)
    alone = np.concatenate(
        [
            bench.denoise(
                bench.noisy[index : index + 1], None if bench.sigma is None else bench.sigma[index : index + 1]
            )
            for index in range(len(bench.noisy))
        ]
    )
    return _agree(bench.answer, alone, "alone and in a stack of " + str(len(alone)))


def _order(bench: Bench) -> str:
    _needs_order(bench)
    sigma = None if bench.sigma is None else np.ascontiguousarray(bench.sigma[::-1])
    back = bench.denoise(np.ascontiguousarray(bench.noisy[::-1]), sigma)[::-1]
    return _agree(bench.answer, back, "in order and in reverse")


def _sigma_array(bench: Bench) -> str:
    if bench.use == "unused":
        raise Skipped("blind: it is told no noise level")
    _needs_order(bench)
    levels = np.linspace(0.02, 0.3, len(bench.clean)).astype(np.float32)
    noisy, sigma = gaussian(bench.clean, levels)
    together = bench.denoise(noisy, sigma)
    alone = np.concatenate([bench.denoise(noisy[i : i + 1], sigma[i : i + 1]) for i in range(len(noisy))])
    return _agree(together, alone, f"with levels {levels[0]:.2f} to {levels[-1]:.2f} in one stack and each alone")


def _sigma_none(bench: Bench) -> str:
    if bench.use == "required":
        raise Skipped("declared required: it is always told a noise level")
    denoised = bench.denoise(bench.noisy, None)
    if not np.isfinite(denoised).all():
        raise Failed("NaN or infinity where sigma is None")
    return f"works with None, as declared ({bench.use})"


def _needs_order(bench: Bench) -> None:
    if not bench.deterministic:
        raise Skipped("declared random: two calls differ anyway")


def _agree(one: Images, other: Images, what: str) -> str:
    apart = difference(one, other)
    if not apart <= SAME:
        image = int(np.abs(one - other).reshape(len(one), -1).max(axis=1).argmax())
        raise Failed(f"{what}: results differ by up to {apart:.2g}, first seen in image {image}")
    return f"{what}: " + ("the same bits" if apart == 0 else f"the same to {apart:.1g}")


def difference(one: Images, other: Images) -> float:
    """Largest absolute difference; infinite where one is finite and the other is not."""
    if not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return float("inf")
    return float(np.abs(np.nan_to_num(one) - np.nan_to_num(other)).max(initial=0))


REPEAT_PROBES = (
    Probe(
        "repeatable",
        "the same stack gives the same result, or is declared random and seeded",
        "draw no random numbers, or declare Capabilities(deterministic=False) and seed a generator of your own",
        _repeatable,
    ),
    Probe(
        "alone",
        "an image gives the same result alone as in a stack",
        "compute nothing over the whole stack: no common mean, range or normalisation",
        _alone,
    ),
    Probe(
        "order",
        "the order of the stack does not matter",
        "carry nothing from one image to the next",
        _order,
    ),
    Probe(
        "sigma_array",
        "each image is denoised by its own noise level",
        "sigma has a value for each image: use sigma[i], not its mean or its first",
        _sigma_array,
    ),
    Probe(
        "sigma_none",
        "sigma may be None, unless declared required",
        "take a default where sigma is None, or declare Capabilities(sigma='required')",
        _sigma_none,
    ),
)
