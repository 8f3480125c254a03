"""Makes batches of noisy and clean images ahead of time, in a background thread."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images, Sigma
from benchbox.api.dataset import ImageSet
from benchbox.api.trainable import Recipe
from benchbox.training.mixture import Mixture

AHEAD = 4
"""Number of batches made ahead of use."""
LARGEST = 64
"""Height and width in pixels of the pieces cut from larger images."""


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


_STREAMS = {"order": 0, "flip": 1, "noise": 2, "cut": 3}


def _generator(seed: int, stream: str, epoch: int, index: int) -> np.random.Generator:
    """Random generator for one purpose, epoch and image."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, _STREAMS[stream], epoch, index))))
