"""Draws noises from a mixture of models and levels, makes batches ahead of time in a thread, and validates on some."""

from __future__ import annotations

import functools
import math
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images, Sigma
from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.api.noise import NoiseModel
from benchbox.api.trainable import Recipe
from benchbox.builtin.metrics import Accuracy, Psnr
from benchbox.builtin.noise import Composed, add_noise, apply_protocol
from benchbox.records.specs import Configured, Spec, options_of, parse_composition
from benchbox.registry import Registry
from benchbox.stats.summaries import mean_of

RANGE = ".."
FEW = 3
"""Largest number of noise models for which a card lists every level."""
_SERIES = tuple(mantissa * 10.0**power for power in range(-4, 4) for mantissa in (1, 2, 5))
AHEAD = 4
"""Number of batches made ahead of use."""
LARGEST = 64
"""Height and width in pixels of the pieces cut from larger images."""
SHOWN = 8
"""Number of faces in a picture."""
_STACK = 50
_NEVER = 2**31
_STREAMS = {"order": 0, "flip": 1, "noise": 2, "cut": 3}

Denoise = Callable[[Images, Sigma | None], Images]
Importance = Callable[[Sigma], NDArray[np.float32]]


@dataclass(frozen=True)
class _Part:
    """One noise model and the ranges of its options."""

    fixed: Configured[NoiseModel]
    ranges: dict[str, tuple[float, float]]
    whole: frozenset[str]

    def draw(self, rng: np.random.Generator) -> NoiseModel:
        """Draw a value from each range, uniformly."""
        values = dict(self.fixed.values)
        for key, (low, high) in self.ranges.items():
            if key in self.whole:
                values[key] = int(rng.integers(int(low), int(high) + 1))
            else:
                values[key] = float(rng.uniform(low, high))
        return self.fixed.cls(**values)


class Mixture:
    """Noises such as ``gaussian:0..0.3`` and ``poisson:10..60+gaussian:0.02``; each image draws one."""

    def __init__(self, texts: tuple[str, ...], registry: Registry) -> None:
        self.texts = tuple(text.strip() for text in texts)
        self._noises = [tuple(_part(spec, text, registry) for spec in parse_composition(text)) for text in self.texts]

    def require_sigma(self, denoiser: str) -> None:
        """Refuse a noise without a level, which the denoiser requires."""
        grey = np.full((8, 8), 0.5, np.float32)
        for text, parts in zip(self.texts, self._noises, strict=True):
            if any(part.fixed.make().sigma_of(grey) is None for part in parts):
                raise BenchboxError(
                    f"{denoiser} requires the noise level, but '{text}' has none",
                    hint="choose a --noise with a level, such as gaussian:0..0.3",
                )

    def draw(self, rng: np.random.Generator) -> NoiseModel:
        """Draw one of the noises, then its levels."""
        parts = self._noises[int(rng.integers(len(self._noises)))]
        models = tuple(part.draw(rng) for part in parts)
        return models[0] if len(models) == 1 else Composed(models)

    def add(self, images: Images, rng: np.random.Generator) -> Images:
        """Add a noise of its own to each image of a stack."""
        return np.stack([self.draw(rng).apply(image, rng) for image in images])

    def levels(self) -> dict[str, NoiseModel]:
        """Single noises that represent the mixture in a card, by canonical name.

        A range is represented by the steps 1, 2, 5, 10, ... from a thirtieth of its upper end, and by that end.
        Compositions, noises with several ranges and mixtures of many models are shown at the models' default levels.
        """
        levels: dict[str, NoiseModel] = {}
        many = len({part.fixed.name for parts in self._noises for part in parts}) > FEW
        for parts in self._noises:
            if many or len(parts) > 1 or len(parts[0].ranges) != 1:
                models = tuple(part.fixed.make() for part in parts)
                levels["+".join(part.fixed.spec for part in parts)] = (
                    models[0] if len(models) == 1 else Composed(models)
                )
                continue
            part, (key, (low, high)) = parts[0], next(iter(parts[0].ranges.items()))
            least = max(low, self._highest(part.fixed.name, key) / 30)
            for step in sorted({step for step in _SERIES if least <= step * (1 + 1e-9) and step <= high} | {high}):
                level = step if step.is_integer() else float(f"{step:.4g}")
                if key in part.whole and not level.is_integer():
                    continue
                at_level = part.fixed.at({key: int(level) if key in part.whole else level})
                levels[at_level.spec] = at_level.make()
        return dict(sorted(levels.items()))

    def _highest(self, name: str, key: str) -> float:
        """Highest upper end of the ranges of one option."""
        return max(
            part.ranges[key][1]
            for parts in self._noises
            for part in parts
            if part.fixed.name == name and key in part.ranges
        )


def _part(spec: Spec, text: str, registry: Registry) -> _Part:
    """Separate the ranges of a specification from its fixed values."""
    model = registry.noise_model(spec.name)
    options = list(spec.options)
    if spec.value is not None:
        names = [option.name for option in options_of(model.cls)]
        options.insert(0, (names[0] if names else "", spec.value))
    fixed: list[tuple[str, str]] = []
    ranges: dict[str, tuple[float, float]] = {}
    for key, value in options:
        low, dots, high = value.partition(RANGE)
        if not dots:
            fixed.append((key, value))
            continue
        try:
            ranges[key] = float(Fraction(low)), float(Fraction(high))
        except (ValueError, ZeroDivisionError) as error:
            raise BenchboxError(
                f"'{text}': '{value}' is not a range of numbers",
                hint="write the lowest and highest value, as in 0..0.3",
            ) from error
        if ranges[key][0] >= ranges[key][1]:
            raise BenchboxError(f"'{text}': the range {value} is empty", hint="write the lower number first")
    plain = model.configured(Spec(spec.name, None, tuple(fixed)))
    whole = frozenset(option.name for option in options_of(model.cls) if option.type is int)
    for end in (0, 1):  # the model must accept both ends of a range
        values = [(key, repr(int(ends[end]) if key in whole else ends[end])) for key, ends in ranges.items()]
        model.configured(Spec(spec.name, None, (*fixed, *values))).make()
    return _Part(plain, ranges, whole)


@dataclass(frozen=True)
class Batch:
    """Images of one training step; `sigma` is NaN for an image whose noise has no level."""

    noisy: Images
    clean: Images
    sigma: Sigma


class Batches:
    """The batches of any epoch, always the same.

    Order, mirroring, cropping and noise depend only on the seed, the epoch and the image, so resumed training continues
    with exactly the images that it would have had.
    """

    def __init__(self, images: ImageSet, mixture: Mixture, recipe: Recipe, seed: int) -> None:
        self._images = images
        self._mixture = mixture
        self._recipe = recipe
        self._seed = seed
        least = int(images.shapes.min())
        same = bool((images.shapes == images.shapes[0]).all())
        small = same and int(images.shapes.max()) <= LARGEST
        self._size = None if small else (min(least, LARGEST),) * 2

    @property
    def steps(self) -> int:
        """Steps per epoch; images that do not fill a batch are left out, different ones in every epoch."""
        return len(self._images) // self._recipe.batch_size

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, made ahead in a thread."""
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(AHEAD)
        stop = threading.Event()

        def put(item: Batch | BaseException | None) -> None:
            while not stop.is_set():
                try:
                    return ready.put(item, timeout=0.2)
                except queue.Full:
                    continue

        def fill() -> None:
            try:
                for indices in self._order(epoch):
                    put(self.make(indices, epoch))
                    if stop.is_set():
                        return
                put(None)
            except BaseException as error:  # raised in the thread that waits for the batch
                put(error)

        worker = threading.Thread(target=fill, name="batches", daemon=True)
        worker.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            worker.join()

    def make(self, indices: NDArray[np.intp], epoch: int) -> Batch:
        """Make one batch of the images at `indices`."""
        clean = self._crop(indices, epoch)
        noisy = np.empty_like(clean)
        sigma = np.empty(len(clean), np.float32)
        noise_epoch = epoch if self._recipe.fresh_noise else 0
        if self._recipe.flips:
            flipped = self._flipped(epoch)[indices]
            clean[flipped] = clean[flipped][:, :, ::-1]
        for position, index in enumerate(indices):
            rng = _generator(self._seed, "noise", noise_epoch, int(index))
            model = self._mixture.draw(rng)
            noisy[position] = model.apply(clean[position], rng)
            level = model.sigma_of(clean[position])
            sigma[position] = np.nan if level is None else level
        if self._recipe.clip:
            np.clip(noisy, 0, 1, out=noisy)
        return Batch(noisy, clean, sigma)

    def _order(self, epoch: int) -> NDArray[np.intp]:
        """Indices of each batch, shape (steps, batch size)."""
        size = self._recipe.batch_size
        order = _generator(self._seed, "order", epoch, 0).permutation(len(self._images))
        return order[: self.steps * size].reshape(self.steps, size)

    @functools.lru_cache(maxsize=2)  # noqa: B019 - the object lives as long as the training
    def _flipped(self, epoch: int) -> NDArray[np.bool_]:
        """Which images are mirrored in an epoch, shape (N,)."""
        return _generator(self._seed, "flip", epoch, 0).random(len(self._images)) < 0.5

    def _crop(self, indices: NDArray[np.intp], epoch: int) -> Images:
        """Clean images of one size: whole, or a piece of each at a random position."""
        if self._size is None:
            return self._images.stack(indices).copy()
        height, width = self._size
        pieces = np.empty((len(indices), height, width), np.float32)
        for position, index in enumerate(indices):
            image = self._images.stack(np.array([index]))[0]
            rng = _generator(self._seed, "cut", epoch, int(index))
            top, left = (int(rng.integers(room + 1)) for room in (image.shape[0] - height, image.shape[1] - width))
            pieces[position] = image[top : top + height, left : left + width]
        return pieces


def _generator(seed: int, stream: str, epoch: int, index: int) -> np.random.Generator:
    """Random generator for one purpose, epoch and image."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, _STREAMS[stream], epoch, index))))


class Validation:
    """Validation images with the training noise, the same in every epoch."""

    def __init__(self, images: ImageSet, mixture: Mixture, recipe: Recipe, seed: int) -> None:
        self._images = images
        self._recipe = recipe
        batches = Batches(images, mixture, recipe, seed)
        # The random streams of an epoch that never comes, so that validation noise differs from training noise.
        self._stacks = [
            batches.make(np.arange(start, min(start + _STACK, len(images))), _NEVER)
            for start in range(0, len(images), _STACK)
        ]

    @property
    def shown(self) -> Batch:
        """The first images, for pictures."""
        first = self._stacks[0]
        return Batch(first.noisy[:SHOWN], first.clean[:SHOWN], first.sigma[:SHOWN])

    def score(self, denoise: Denoise, importance: Importance) -> tuple[float, float, float]:
        """Denoise all images and return loss, PSNR and accuracy, each a mean over the images.

        The loss is the squared error of the unclipped result, weighted by `importance`. PSNR (dB, averaged as in a
        leaderboard) and accuracy (share of pixels within the metric's tolerance) are computed after clipping to [0, 1].
        """
        loss, psnr, accuracy = [], [], []
        for stack in self._stacks:
            denoised = np.ascontiguousarray(denoise(stack.noisy.copy(), stack.sigma))
            error = np.square(denoised - stack.clean).mean(axis=(1, 2), dtype=np.float64)
            loss.append(error * importance(stack.sigma))
            clipped = denoised.clip(0, 1)
            psnr.append(Psnr()(stack.clean, clipped))
            accuracy.append(Accuracy()(stack.clean, clipped))
        return (
            float(np.concatenate(loss).mean()),
            mean_of(np.concatenate(psnr), "dB").mean,
            float(np.concatenate(accuracy).mean()),
        )

    def expected_s(self, denoise: Denoise) -> float:
        """Seconds that denoising all images takes, as the second call with the first of them says."""
        first, took = self._stacks[0], 0.0
        for _ in range(2):
            begun = time.perf_counter()
            denoise(first.noisy.copy(), first.sigma)
            took = time.perf_counter() - begun
        return took * len(self._stacks)

    def levels(self, noises: dict[str, NoiseModel], denoise: Denoise, left_s: float) -> tuple[dict[str, float], int]:
        """Mean PSNR in dB for each noise, made as a run with seed 0 makes it, and the number of images.

        After `left_s` seconds no further stack of images is begun.
        """
        begun = time.perf_counter()
        scores: dict[str, list[NDArray[np.float64]]] = {name: [] for name in noises}
        parts = list(self._spread_stacks())
        done = 0
        for place, part in enumerate(parts, 1):
            clean = self._images.stack(part)
            ids = [self._images.ids[index] for index in part]
            for name, model in noises.items():
                noisy, sigma = add_noise(model, name, clean, ids, 0, 0)
                noisy = apply_protocol(noisy, clip=self._recipe.clip, quantize=False)
                scores[name].append(Psnr()(clean, np.ascontiguousarray(denoise(noisy.copy(), sigma).clip(0, 1))))
            done += len(part)
            if (time.perf_counter() - begun) * (place + 1) / place > left_s:
                break
        return {name: round(mean_of(np.concatenate(parts), "dB").mean, 3) for name, parts in scores.items()}, done

    def _spread_stacks(self) -> Iterator[NDArray[np.intp]]:
        """Positions of images of one size, each stack spread over all of them."""
        shapes = self._images.shapes
        for shape in np.unique(shapes, axis=0):
            indices = np.flatnonzero((shapes == shape).all(axis=1))
            stacks = math.ceil(len(indices) / _STACK)
            yield from (indices[start::stacks] for start in range(stacks))
