"""Are recorded pairs fit for comparing? Brightness, position, compression, clipping and noise of each pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchbox.api.dataset import ImageSet
from benchbox.api.threads import threads
from benchbox.builtin.channels import luminance
from benchbox.builtin.datasets.pairs import FAINT, SWAPPED
from benchbox.builtin.sigma import estimate_sigma

BIAS = 1.0
"""Mean difference in grey levels of 255 above which a pair is pointed out."""
SHIFT = 0.25
"""Shift in pixels above which a pair is pointed out."""
_WHITE = 255
_SIDE = 256
_LEAST_SIDE = 16
_VAGUE = 0.08  # standard error of a shift in pixels above which it is not known
_COARSE = 16
_FLAT = 4 / 255
_UNLIKE = 0.5
_AT_ONCE = 2**26  # values of the pictures that are examined at once, of each kind
_FINE = 20
_BLOCK = 8
LOOKED_AT = 8
"""Pairs that a run looks at."""


@dataclass(frozen=True)
class PairFacts:
    """What is known of a pair; levels are grey levels of 255."""

    id: str
    scene: str
    difference: tuple[float, ...]  # mean of noisy minus clean, by channel
    gain: tuple[float, ...]  # least squares of noisy = gain clean + offset, by channel
    offset: tuple[float, ...]
    shift: tuple[float, float]  # of the noisy picture, down and right, in pixels; NaN if noise or size forbid to tell
    # steps at borders of 8x8 blocks, relative to others, of noisy and clean
    blocking: tuple[float, float]
    clipped: float  # share of values of the noisy picture that are black or white
    noise: float  # estimated level of the noisy picture
    noise_of_clean: float
    likeness: float  # correlation of both, shrunk until no noise is left; NaN if the clean picture is flat
    ceiling_db: float  # PSNR of a perfect denoiser that keeps the brightness of the noisy picture

    @property
    def bias(self) -> float:
        """Largest mean difference of a channel."""
        return max(map(abs, self.difference))

    @property
    def distance(self) -> float:
        """Length of the shift in pixels, 0 if unknown."""
        length = math.hypot(*self.shift)
        return 0.0 if math.isnan(length) else length

    @property
    def is_swapped(self) -> bool:
        """Whether the picture called clean has clearly more noise."""
        return self.noise_of_clean > max(SWAPPED * self.noise, FAINT)

    @property
    def is_unlike(self) -> bool:
        """Whether noisy and clean seem to be different pictures."""
        return self.likeness < _UNLIKE


def examine_pairs(images: ImageSet, on_pair: Callable[[], None] = lambda: None) -> Iterator[PairFacts]:
    """Examine all pairs of an image set with recorded noise, in its order; `on_pair` is called after each."""
    largest = int(images.shapes.prod(axis=1).max()) * images.channels
    with ThreadPoolExecutor(min(threads(), max(1, _AT_ONCE // largest))) as pool:
        for facts in pool.map(lambda place: facts_of(images, place), range(len(images))):
            on_pair()
            yield facts


def facts_of(images: ImageSet, place: int) -> PairFacts:
    """Examine one pair."""
    index = np.array([place])
    clean, noisy = images.stack(index)[0], images.noisy_stack(index)[0]
    planes = [(clean, noisy)] if clean.ndim == 2 else [(clean[..., at], noisy[..., at]) for at in range(clean.shape[2])]
    fits = [_line(truth, seen) for truth, seen in planes]
    biased = [
        _mean_square((gain - 1) * truth + offset) for (truth, _), (gain, offset) in zip(planes, fits, strict=True)
    ]
    grey = [luminance(picture[np.newaxis])[0] if clean.ndim == 3 else picture for picture in (clean, noisy)]
    error = float(np.mean(biased))
    return PairFacts(
        id=images.ids[place],
        scene=images.scenes[place] if images.scenes else images.ids[place],
        difference=tuple(_WHITE * float((seen - truth).mean(dtype=np.float64)) for truth, seen in planes),
        gain=tuple(gain for gain, _ in fits),
        offset=tuple(_WHITE * offset for _, offset in fits),
        shift=_shift(*grey),
        blocking=(_blocking(grey[1]), _blocking(grey[0])),
        clipped=float(((noisy <= 0) | (noisy >= 1)).mean()),
        noise=_level(grey[1]),
        noise_of_clean=_level(grey[0]),
        likeness=_likeness(*grey),
        ceiling_db=-10 * math.log10(error) if error > 0 else math.inf,
    )


def badness(facts: PairFacts) -> float:
    """How unfit a pair is: the larger of its bias and its shift, in units of what is pointed out, after wrong pairs."""
    return _WHITE * (facts.is_unlike or facts.is_swapped) + max(facts.bias / BIAS, facts.distance / SHIFT)


def warnings_of(facts: list[PairFacts], of: int = 0) -> Iterator[str]:
    """What makes pairs unfit, in sentences with the worst of them; `of` is the number of all if these are a sample."""
    some = f"{len(facts):,} pairs" + (" looked at" if of > len(facts) else "")
    unlike = [pair for pair in facts if pair.is_unlike]
    if unlike:
        worst = min(unlike, key=lambda pair: pair.likeness)
        yield f"noisy and clean seem to be different pictures in {len(unlike):,} of {some}, such as {worst.id}"
        facts = [pair for pair in facts if not pair.is_unlike]
    swapped = [pair for pair in facts if pair.is_swapped]
    if swapped:
        worst = max(swapped, key=lambda pair: pair.noise_of_clean)
        yield (
            f"the picture called clean has more noise in {len(swapped):,} of {some}, most in {worst.id} "
            f"({worst.noise_of_clean:.1f} of 255 instead of {worst.noise:.1f}); are they swapped?"
        )
    biased = [pair for pair in facts if pair.bias > BIAS]
    if biased:
        worst = max(biased, key=lambda pair: pair.bias)
        ceiling = float(np.mean([pair.ceiling_db for pair in biased]))
        average = " on average" if len(biased) > 1 else ""
        yield (
            f"brightness differs by more than {BIAS:g} of 255 in {len(biased):,} of {some}, most in {worst.id} "
            f"({worst.bias:.1f}); there, even a perfect denoiser stays below {ceiling:.1f} dB{average}"
        )
    shifted = [pair for pair in facts if pair.distance > SHIFT]
    if shifted:
        worst = max(shifted, key=lambda pair: pair.distance)
        yield (
            f"noisy and clean are shifted by more than {SHIFT:g} pixels in {len(shifted):,} of {some}, most in "
            f"{worst.id} ({worst.distance:.2f})"
        )


def warnings_for_run(images: ImageSet) -> tuple[str, ...]:
    """What makes pairs unfit, judged by a few of them, so that a run begins at once."""
    places = np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(np.intp))
    facts = [facts_of(images, int(place)) for place in places]
    return tuple(f"{warning} (all: benchbox data audit)" for warning in warnings_of(facts, len(images)))


def _line(clean: NDArray[np.float32], noisy: NDArray[np.float32]) -> tuple[float, float]:
    """Gain and offset of noisy = gain clean + offset by least squares; gain 1 if the clean picture is flat."""
    mean, seen = float(clean.mean(dtype=np.float64)), float(noisy.mean(dtype=np.float64))
    centred = clean - np.float32(mean)
    variance = _mean_square(centred)
    gain = float((centred * noisy).mean(dtype=np.float64)) / variance if variance > 1e-8 else 1.0
    return gain, seen - gain * mean


def _mean_square(values: NDArray[np.float32]) -> float:
    return float(np.square(values).mean(dtype=np.float64))


def _level(grey: NDArray[np.float32]) -> float:
    return _WHITE * float(estimate_sigma(_middle(grey)[np.newaxis])[0])


def _middle(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """The middle of a large picture, so that every pair takes bounded time and memory."""
    top, left = (max(0, side - _SIDE) // 2 for side in grey.shape)
    return grey[top : top + _SIDE, left : left + _SIDE]


def _shift(clean: NDArray[np.float32], noisy: NDArray[np.float32]) -> tuple[float, float]:
    """Shift of the noisy picture by cross-correlation under a Hann window, to a twentieth of a pixel.

    References
    ----------
    Guizar-Sicairos, Thurman and Fienup, Optics Letters 33(2), 2008, doi:10.1364/OL.33.000156.
    """
    clean, noisy = _middle(clean), _middle(noisy)
    if min(clean.shape) < _LEAST_SIDE or clean.std() == 0:
        return math.nan, math.nan
    from skimage.filters import window
    from skimage.registration import phase_cross_correlation

    weights = window("hann", clean.shape)
    if _standard_error(clean, noisy, weights) > _VAGUE:
        return math.nan, math.nan
    first, second = ((picture - picture.mean()) * weights for picture in (clean, noisy))
    shift, _, _ = phase_cross_correlation(second, first, upsample_factor=_FINE, normalization=None)
    return float(shift[0]), float(shift[1])


def _standard_error(clean: NDArray[np.float32], noisy: NDArray[np.float32], weights: NDArray[np.float64]) -> float:
    """Standard error of a shift in its least certain direction, from noise and slopes (the Cramer-Rao bound)."""
    gain, offset = _line(clean, noisy)
    down, right = (slope * weights for slope in np.gradient(clean))
    slopes = [[float((one * other).sum()) for other in (down, right)] for one in (down, right)]
    least = float(np.linalg.eigvalsh(slopes)[0])
    rest = noisy - np.float32(gain) * clean - np.float32(offset)
    return math.sqrt(_mean_square(rest) / least) if least > 0 else math.inf


def _likeness(clean: NDArray[np.float32], noisy: NDArray[np.float32]) -> float:
    """Correlation of two pictures shrunk to a few pixels; NaN if the first is flat."""
    import cv2

    small = [cv2.resize(picture, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA) for picture in (clean, noisy)]
    if min(clean.shape) < _COARSE or small[0].std() < _FLAT:
        return math.nan
    return float(np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1]) if small[1].std() > 0 else 0.0


def _blocking(grey: NDArray[np.float32]) -> float:
    """Mean step at the borders of 8x8 blocks relative to other steps, at any position of the grid; 1 without blocks."""
    ratios = []
    for picture in (grey, grey.T):
        steps = np.abs(np.diff(picture, axis=1)).mean(axis=0, dtype=np.float64)
        if len(steps) < 2 * _BLOCK:
            return 1.0
        phases = np.array([steps[phase::_BLOCK].mean() for phase in range(_BLOCK)])
        rest = np.median(phases)
        ratios.append(float(phases.max() / rest) if rest > 0 else 1.0)
    return math.sqrt(ratios[0] * ratios[1])
