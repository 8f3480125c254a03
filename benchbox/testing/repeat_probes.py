"""Probes of consistency: second calls, stack size, order, and per-image noise levels."""

from __future__ import annotations

import numpy as np

from benchbox.api.arrays import Images
from benchbox.testing.subject import Bench, Failed, Probe, Skipped, gaussian

SAME = 1e-5
"""Largest difference that a different order of rounding explains; PSNR then agrees to 0.001 dB."""


def _repeatable(bench: Bench) -> str:
    if not bench.deterministic:
        return _seeded(bench)
    again = bench.denoise(bench.noisy, bench.sigma)
    apart = difference(bench.answer, again)
    if apart > 0:
        raise Failed(f"two calls with the same stack: results differ by up to {apart:.2g}")
    bench.denoise(1 - bench.noisy, bench.sigma)
    apart = difference(bench.answer, bench.denoise(bench.noisy, bench.sigma))
    if apart > 0:
        raise Failed(
            f"the same stack before and after another one: results differ by up to {apart:.2g}",
            "store nothing of a stack for the next call",
        )
    return "identical results every time"


def _seeded(bench: Bench) -> str:
    """A denoiser declared random must draw from its own generator, seeded for each object."""
    answers = []
    for _ in range(2):
        denoiser = bench.subject.make()
        denoiser.setup((len(bench.noisy), *bench.noisy.shape[1:]))
        answers.append(denoiser.denoise(bench.noisy.copy(), bench.sigma))
    apart = difference(*answers)
    if apart > SAME:
        raise Failed(
            f"declared random but not seeded: two new objects differ by up to {apart:.2g}",
            "draw from numpy.random.default_rng(self.seed), created in setup, with an option seed: int = 0",
        )
    return "declared random and seeded: two new objects agree"


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
    return _agree(bench.answer, alone, f"alone and in a stack of {len(alone)}")


def _order(bench: Bench) -> str:
    _needs_order(bench)
    sigma = None if bench.sigma is None else np.ascontiguousarray(bench.sigma[::-1])
    back = bench.denoise(np.ascontiguousarray(bench.noisy[::-1]), sigma)[::-1]
    return _agree(bench.answer, back, "in order and reversed")


def _sigma_array(bench: Bench) -> str:
    if bench.use == "unused":
        _ignores_sigma(bench)
        raise Skipped("the denoiser uses no noise level")
    _needs_order(bench)
    levels = np.linspace(0.02, 0.3, len(bench.clean)).astype(np.float32)
    noisy, sigma = gaussian(bench.clean, levels)
    together = bench.denoise(noisy, sigma)
    alone = np.concatenate([bench.denoise(noisy[i : i + 1], sigma[i : i + 1]) for i in range(len(noisy))])
    return _agree(together, alone, f"levels {levels[0]:.2f} to {levels[-1]:.2f} in one stack and each alone")


def _ignores_sigma(bench: Bench) -> None:
    """Find out whether a denoiser that declares no use of the noise level takes it nevertheless."""
    try:
        answers = [bench.denoise(bench.noisy, np.full(len(bench.noisy), level, np.float32)) for level in (0.02, 0.3)]
    except Exception:
        return  # it never gets a level, so what it does with one does not matter
    apart = difference(*answers)
    if apart > 0 and bench.deterministic:
        raise Failed(
            f"takes sigma but does not declare it, so it never gets one: results differ by up to {apart:.2g} with it",
            "add capabilities = Capabilities(sigma='optional') to the class, or 'required'",
        )


def _sigma_none(bench: Bench) -> str:
    if bench.use == "required":
        raise Skipped("declared sigma='required', so it always gets a noise level")
    denoised = bench.denoise(bench.noisy, None)
    if not np.isfinite(denoised).all():
        raise Failed("NaN or infinity if sigma is None")
    return f"works without a noise level, as declared (sigma='{bench.use}')"


def _needs_order(bench: Bench) -> None:
    if not bench.deterministic:
        raise Skipped("declared random, so two calls differ")


def _agree(expected: Images, denoised: Images, what: str) -> str:
    apart = difference(expected, denoised)
    if not apart <= SAME:
        image = int(np.abs(expected - denoised).reshape(len(expected), -1).max(axis=1).argmax())
        raise Failed(f"{what}: results differ by up to {apart:.2g}, most in image {image}")
    return f"{what}: " + ("identical results" if apart == 0 else f"results equal to within {apart:.1g}")


def difference(left: Images, right: Images) -> float:
    """Largest absolute difference; infinite if a pixel is finite in only one of the two."""
    if not np.array_equal(np.isfinite(left), np.isfinite(right)):
        return float("inf")
    return float(np.abs(np.nan_to_num(left) - np.nan_to_num(right)).max(initial=0))


REPEAT_PROBES = (
    Probe(
        "repeatable",
        "the same stack gives the same result, or the denoiser is declared random and seeded",
        "draw no random numbers, or declare Capabilities(deterministic=False) and seed your own generator",
        _repeatable,
    ),
    Probe(
        "alone",
        "an image gives the same result alone as in a stack",
        "compute nothing across the stack: no shared mean, range or normalisation",
        _alone,
    ),
    Probe(
        "order",
        "the order of the images in a stack does not matter",
        "carry no state from one image to the next",
        _order,
    ),
    Probe(
        "sigma_array",
        "each image is denoised with its own noise level",
        "use sigma[i] for image i, not the mean or the first value of sigma",
        _sigma_array,
    ),
    Probe(
        "sigma_none",
        "sigma may be None, unless the denoiser is declared sigma='required'",
        "use a default level if sigma is None, or declare Capabilities(sigma='required')",
        _sigma_none,
    ),
)
