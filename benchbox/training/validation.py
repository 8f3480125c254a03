"""Validation: noisy images made once and scored the same way after every epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images, Sigma
from benchbox.api.dataset import ImageSet
from benchbox.api.noise import NoiseModel
from benchbox.api.trainable import Recipe
from benchbox.builtin.metrics import Accuracy, Psnr
from benchbox.builtin.seeding import add_noise, apply_protocol
from benchbox.stats.summaries import mean_of
from benchbox.training.batches import Batch, Batches
from benchbox.training.mixture import Mixture

SHOWN = 8
"""Number of faces in a picture."""
_STACK = 50

Denoise = Callable[[Images, Sigma | None], Images]
Importance = Callable[[Sigma], NDArray[np.float32]]


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

    def levels(self, noises: dict[str, NoiseModel], denoise: Denoise) -> dict[str, float]:
        """Mean PSNR in dB for each noise, made as a run with seed 0 makes it."""
        psnr = {}
        shapes = self._images.shapes
        for name, model in noises.items():
            scores = []
            for shape in np.unique(shapes, axis=0):
                indices = np.flatnonzero((shapes == shape).all(axis=1))
                for start in range(0, len(indices), _STACK):
                    part = indices[start : start + _STACK]
                    clean = self._images.stack(part)
                    noisy, sigma = add_noise(model, name, clean, [self._images.ids[index] for index in part], 0, 0)
                    noisy = apply_protocol(noisy, clip=self._recipe.clip, quantize=False)
                    denoised = denoise(noisy.copy(), sigma)
                    scores.append(Psnr()(clean, np.ascontiguousarray(denoised.clip(0, 1))))
            psnr[name] = round(mean_of(np.concatenate(scores), "dB").mean, 3)
        return psnr


_NEVER = 2**31
