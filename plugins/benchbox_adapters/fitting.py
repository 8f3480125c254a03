"""Finds out how a model is to be called, by denoising a drawn picture at two noise levels in every way that fits it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox import BenchboxError, Images, Sigma
from benchbox_adapters.conventions import MULTIPLES, Convention, Form, Input, Opened, Pad, Side, SigmaInput, Sizing

LEVELS = np.array([15 / 255, 40 / 255], np.float32)
"""Noise levels of the two test images, within what most published networks were trained for."""
_RANGES = (0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)
_SIDE = 64
# With one of these sides, each power of two up to 64 is told from its double, and squares from other sizes.
_ODD = (33, 65), (129, 33)
WORTH_DB = 0.1
"""How much better than the noisy images, and than a simpler convention or reading, one must be."""
_WRONG_DB = 1.0
"""How much worse than the best convention one with given options may be."""
_BORDER = 2
"""Pixels that do not count for a convention: which range suits the zeros beyond them says little about the others."""
_SHOWN = 4


@dataclass(frozen=True)
class Given:
    """Options that the user has set; None for those to find out."""

    sigma: SigmaInput | None = None
    sigma_scale: float | None = None
    range: tuple[float, float] | None = None
    residual: bool | None = None
    channels: int | None = None
    bgr: bool | None = None
    layout: str | None = None
    multiple: int | None = None
    pad: Pad = "reflect"
    tile: int | None = None
    overlap: int = 32
    square: bool | None = None


def forms_of(inputs: Sequence[Input], layout: str, given: Given, needed: int = 0) -> list[Form]:
    """Ways to hand images and noise levels to a model, as far as the shapes of its inputs tell; simple ones first."""
    found: list[Form] = []
    for place, image in enumerate(inputs):
        for single in _image_forms(image, layout, given):
            if place == 0 and (len(inputs) == 1 or needed == 1):
                found += _alone(single, image)
            if len(inputs) == 2 and _length(image, single) in (None, single.channels):
                found += [replace(form, image=place) for form in _with_level(single, inputs[1 - place])]
    if given.sigma is not None:
        found = [form for form in found if form.sigma == given.sigma]
    return list(dict.fromkeys(found))


def _image_forms(image: Input, layout: str, given: Given) -> Iterator[Form]:
    """Forms of the image alone."""
    shape = image.shape
    if shape is not None and len(shape) == 3:
        yield Form(None, 0, "none")
        return
    if shape is not None and len(shape) != 4:
        return
    if shape is not None and shape[2] == 1 and 1 in (shape[1], shape[3]):
        return  # one number for each image
    axes = {"nhwc": 3, "nchw": 1}
    lengths = dict.fromkeys(axes, None) if shape is None else {name: shape[axis] for name, axis in axes.items()}
    possible = [name for name, length in lengths.items() if length in (None, 1, 2, 3, 4)]
    fixed = [name for name in possible if lengths[name] is not None]
    # If the shape allows both layouts, use the one that is common for this file format.
    chosen = given.layout or (fixed[0] if len(fixed) == 1 else layout)
    if chosen in possible:
        for channels in (1, 3) if given.channels is None else (given.channels,):
            yield Form(channels, axes[chosen], "none")


def _alone(form: Form, image: Input) -> Iterator[Form]:
    """Forms of a model with one input."""
    length = _length(image, form)
    if length in (None, form.channels):
        yield form
    if form.channels is not None and length in (None, form.channels + 1):
        yield replace(form, sigma="channel")


def _length(image: Input, form: Form) -> Side:
    """Length of the channel axis; None if any is accepted, or there is none."""
    return None if form.channels is None or image.shape is None else image.shape[form.axis]


def _with_level(form: Form, level: Input) -> Iterator[Form]:
    """Forms of a model whose second input is the noise level."""
    shape = level.shape
    if shape is None:
        yield from (replace(form, sigma="vector", rank=rank) for rank in (4, 1, 2))
        yield replace(form, sigma="input")
        yield replace(form, sigma="scalar", rank=0)
    elif len(shape) == 4 and (shape[2] == 1 if form.axis == 1 else shape[1] == 1):
        yield replace(form, sigma="vector", rank=4)
    elif len(shape) >= 3:
        if len(shape) == 3 or shape[form.axis] in (None, 1):  # a map has one channel
            yield replace(form, sigma="input")
    elif shape in ((), (1,)):
        yield replace(form, sigma="scalar", rank=len(shape))
    else:
        yield replace(form, sigma="vector", rank=len(shape))


def fit(opened: Opened, path: str, given: Given, user: Given | None = None) -> Convention:
    """Find out everything about a model that is not given.

    `user` holds what the user has given, where `given` holds more that is known.
    Raises `BenchboxError` if the model takes no images, or if nothing improves two noisy test images; the message lists
    what was tried.
    """
    expects = f"{path} takes {' and '.join(map(str, opened.inputs))}"
    forms = forms_of(opened.inputs, opened.layout, given, opened.needed)
    if not forms:
        raise BenchboxError(
            f"{expects}: not images of one or three channels" + (f" with sigma={given.sigma}" if given.sigma else ""),
            hint="use a model for shape (N, H, W), (N, H, W, C) or (N, C, H, W), with or without a noise level",
        )
    reasons: list[str] = []
    sized = [(form, sizing) for form in forms if (sizing := _find_sizing(opened, form, given, reasons)) is not None]
    if not sized:
        raise BenchboxError(
            f"{path} rejects an image of {_ODD[0][0]}x{_ODD[0][1]} pixels, even extended to multiples of "
            f"{MULTIPLES[-1]}: {reasons[0]}",
            hint="save the model with the size of your images",
        )
    said = user or given
    tried = _tried(opened, list(_candidates(opened, sized, given)))
    chosen = _best(opened, tried, given.bgr)
    told = any(candidate.form.sigma != "none" for candidate in tried)
    if None not in (said.range, said.residual) and not (told and said.sigma_scale is None):
        return chosen  # the user insists; the gain still counts among several readings of a file
    _require_use(opened, path, chosen, tried)
    free = replace(
        given,
        range=given.range if said.range is None else None,
        residual=given.residual if said.residual is None else None,
        sigma_scale=given.sigma_scale if said.sigma_scale is None else None,
        bgr=given.bgr if said.bgr is None else None,
    )
    if free != given:
        better = _best(opened, _tried(opened, list(_candidates(opened, sized, free))), free.bgr)
        if better.gain > chosen.gain + _WRONG_DB:
            raise BenchboxError(
                f"{path}: with the given options it denoises {better.gain - chosen.gain:.1f} dB worse than otherwise: "
                f"{_listed([chosen])}; {_listed([better])}",
                hint="omit the wrong option; to insist, set range, residual and, if it takes the noise level, "
                "sigma_scale",
            )
    return chosen


def _candidates(opened: Opened, sized: Sequence[tuple[Form, Sizing]], given: Given) -> Iterator[Convention]:
    """Conventions to try, simple ones first."""
    for form, sizing in sized:
        ranges: Sequence[tuple[float, float]] = _RANGES if given.range is None else (given.range,)
        if opened.inputs[form.image].is_whole:
            ranges = ((0.0, 255.0),)
        for (low, high), residual in itertools.product(
            ranges, (False, True) if given.residual is None else (given.residual,)
        ):
            scales: Sequence[float] = (1.0,) if form.sigma == "none" else tuple(dict.fromkeys((1.0, 255.0, high - low)))
            if given.sigma_scale is not None:
                scales = (given.sigma_scale,)
            for scale in scales:
                yield Convention(form, sizing, low, high, scale, residual, bool(given.bgr))


def _tried(opened: Opened, candidates: Sequence[Convention]) -> list[Convention]:
    """The candidates with their gains."""
    return [_measured(opened, candidate) for candidate in candidates]


def _best(opened: Opened, tried: Sequence[Convention], bgr: bool | None) -> Convention:
    """The convention that denoises best, the simplest of those that are as good; with blue first if that is better."""
    best = max(candidate.gain for candidate in tried)
    chosen = next(candidate for candidate in tried if candidate.gain >= best - WORTH_DB)
    if chosen.form.channels != 3 or bgr is not None:
        return chosen
    turned = _measured(opened, replace(chosen, bgr=True))
    return turned if turned.gain > chosen.gain + WORTH_DB else chosen


def _require_use(opened: Opened, path: str, chosen: Convention, tried: Sequence[Convention]) -> None:
    """Raise `BenchboxError` if a convention does not denoise, or if its result does not follow the noise level."""
    if not chosen.gain > WORTH_DB:
        raise BenchboxError(
            f"{path}: nothing that was tried improves noisy test images ({_listed(tried)})",
            hint="check how the model was trained; if it is for another noise, set what you know, as in "
            "range=255,residual=true",
        )
    if chosen.form.sigma == "none":
        return
    swapped, right = gains_of(opened, chosen, LEVELS[::-1].copy()), gains_of(opened, chosen, LEVELS)
    if not (swapped < right).all():
        raise BenchboxError(
            f"{path}: its result does not follow the noise level: given the level of another image, it is no worse "
            f"({_listed(tried)})",
            hint="set how it takes the level, as in sigma=channel,sigma_scale=255,range=1,residual=false",
        )


def _listed(tried: Sequence[Convention]) -> str:
    """What was tried and what came of it, the best first."""
    words = [
        f"{candidate.form.label}, range {range_label(candidate.low, candidate.high)}, "
        f"residual {str(candidate.residual).lower()}"
        + (f", sigma times {candidate.sigma_scale:g}" if candidate.form.sigma != "none" else "")
        + (", blue first" if candidate.bgr else "")
        + f": {candidate.gain:+.1f} dB"
        for candidate in sorted(tried, key=lambda candidate: -candidate.gain)[:_SHOWN]
    ]
    return "; ".join(words) + (f"; and {len(tried) - _SHOWN} more" if len(tried) > _SHOWN else "")


def range_label(low: float, high: float) -> str:
    """``'255'``, or ``'-1..1'``."""
    return f"{high:g}" if low == 0 else f"{low:g}..{high:g}"


def _measured(opened: Opened, candidate: Convention) -> Convention:
    """A convention with its gain: a blind model may be for one of the levels, one that is told must suit both."""
    gains = gains_of(opened, candidate, LEVELS)
    return replace(candidate, gain=float(gains.mean() if candidate.form.sigma == "none" else gains.min()))


def gains_of(opened: Opened, candidate: Convention, told: Sigma, border: int = _BORDER) -> NDArray[np.float64]:
    """PSNR of each test image inside a border minus that of its noisy input, in dB; -inf if it is not finite."""
    height, width = (fixed or _SIDE for fixed in candidate.sizing.size)
    clean, noisy = _test_images(height, width, candidate.form.channels or 1)
    gains = _psnr(clean, candidate.denoise(opened, noisy.copy(), told), border) - _psnr(clean, noisy, border)
    result: NDArray[np.float64] = np.where(np.isfinite(gains), gains, -np.inf)
    return result


def _psnr(clean: Images, images: Images, border: int) -> NDArray[np.float64]:
    """PSNR of each image without its border; small images have none."""
    top, left = (min(border, side // 8) for side in clean.shape[1:3])
    errors = np.square(images.clip(0, 1) - clean)[:, top : clean.shape[1] - top, left : clean.shape[2] - left]
    result: NDArray[np.float64] = -10 * np.log10(errors.reshape(len(errors), -1).mean(axis=1) + 1e-12)
    return result


@functools.lru_cache(maxsize=4)
def _test_images(height: int, width: int, channels: int) -> tuple[Images, Images]:
    """A drawn picture twice, clean and with noise of each of `LEVELS`; grey, or in colour for three channels."""
    drawn = picture(height, width)
    if channels == 3:
        # Colours as in photographs, where the blue of the sky and the red of skin are not exchangeable.
        drawn = np.stack([drawn, 0.1 + 0.8 * drawn[:, ::-1] * drawn, 0.7 * (1 - drawn)], axis=2).astype(np.float32)
    clean = np.stack([drawn] * len(LEVELS))
    noise = np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)
    return clean, clean + LEVELS.reshape(-1, *[1] * (clean.ndim - 1)) * noise


def picture(height: int, width: int) -> Images:
    """Draw a test image: discs that cover each other, values from 0 to 1.

    Its edges, flat areas and details of every size are as frequent as in photographs (the dead leaves model of Lee,
    Mumford and Huang 2001, doi:10.1023/A:1011109015675), so that too much smoothing is as bad as too little.
    """
    random = np.random.default_rng(1)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    image = np.full((height, width), 0.5, np.float32)
    # The density of radii falls with their cube, between 5 pixels and 40.
    radii = 1 / np.sqrt(random.uniform(1 / 40**2, 1 / 5**2, size=height * width // 40))
    for radius in radii:
        top, left, grey, slope = random.random(4)
        inside = (y - top * height) ** 2 + (x - left * width) ** 2 < radius**2
        image[inside] = 0.15 + 0.7 * grey + 0.1 * slope * np.sin(x[inside] / 5)
    result: Images = image.clip(0, 1)
    return result


def _find_sizing(opened: Opened, form: Form, given: Given, reasons: list[str]) -> Sizing | None:
    """Which sizes a model takes in a form; None, and a reason, if it takes none."""
    shape = opened.inputs[form.image].shape
    batch: Side = None
    size: tuple[Side, Side] = (None, None)
    if shape is not None:
        sides = shape[1:3] if form.channels is None or form.axis == 3 else shape[2:4]
        batch, size = shape[0], (sides[0], sides[1])
    sizing = Sizing(batch, size, given.multiple or 1, False, given.pad, given.tile, _overlap(size, given))
    channels = form.channels or 1
    sizes = [tuple(fixed or odd for fixed, odd in zip(size, sides, strict=True)) for sides in _ODD]
    multiples = MULTIPLES if given.multiple is None and None in size else (sizing.multiple,)
    squares = (given.square,) if given.square is not None else (False, True) if None in size else (False,)
    # An export may have the batch of its example built in, whatever it declares.
    batches = (batch,) if batch is not None else (None, 1)
    for multiple, count, square in itertools.product(multiples, batches, squares):
        candidate = Convention(form, replace(sizing, batch=count, multiple=multiple, square=square))
        try:
            for height, width in sizes:
                for levels in (LEVELS, LEVELS[:1]):
                    images = np.full((len(levels), height, width, channels), 0.5, np.float32)
                    answer = candidate.answer(opened, images, levels)
                    if answer.shape[3] != channels:
                        raise BenchboxError(f"it returns {answer.shape[3]} channels")
        except Exception as error:
            lines: Any = str(error).strip().splitlines()
            reasons.append(lines[0] if lines else type(error).__name__)
        else:
            return candidate.sizing
    return None


def _overlap(size: tuple[Side, Side], given: Given) -> int:
    """Overlap of tiles: at most a quarter of a fixed side."""
    return min([given.overlap, *(side // 4 for side in size if side is not None)])
