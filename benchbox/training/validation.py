"""Validation: noisy images made once, scored in the same way after every epoch, and drawn with the curves."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images, Sigma
from benchbox.api.dataset import ImageSet
from benchbox.api.noise import NoiseModel
from benchbox.api.trainable import Recipe
from benchbox.builtin.metrics import Accuracy, Psnr
from benchbox.builtin.noise import add_noise, apply_protocol
from benchbox.stats.summaries import mean_of
from benchbox.training.batches import Batch, Batches, Mixture
from benchbox.training.events import EpochDone

SHOWN = 8
"""Number of faces in a picture."""
_STACK = 50

Denoise = Callable[[Images, Sigma | None], Images]
Importance = Callable[[Sigma], NDArray[np.float32]]
_NEVER = 2**31
# From the palette of Okabe and Ito, which colour-blind readers can tell apart.
_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"


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


def curves(history: Sequence[EpochDone]) -> bytes:
    """Draw losses (logarithmic, above) and validation PSNR (below) over the epochs, as PNG; a ring marks the best."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [row.epoch for row in history]
    best = max(place for place, row in enumerate(history) if row.best)
    # Figure, not pyplot: it needs no display, and leaves no open figure in a notebook.
    figure = Figure(figsize=(9, 7.2), layout="constrained")
    losses, psnr = figure.subplots(2, 1, sharex=True)
    for axes, name, values, colour in (
        (losses, "training", [row.loss for row in history], _BLUE),
        (losses, "validation", [row.val_loss for row in history], _ORANGE),
        (psnr, "validation", [row.val_psnr for row in history], _GREEN),
    ):
        axes.plot(epochs, values, color=colour, marker="o", markersize=4, label=name)
        if name == "validation":
            axes.plot(
                epochs[best], values[best], "o", markersize=10, fillstyle="none", color=colour,
                label=f"lowest validation loss, epoch {epochs[best]}",
            )  # fmt: skip
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend(loc="best")
    losses.set(yscale="log", ylabel="mean squared error (grey values in [0, 1])")
    psnr.set(ylabel="PSNR (dB)", xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
    psnr.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=100)
    return sink.getvalue()


def faces(clean: Images, noisy: Images, denoised: Images, scale: int = 3) -> bytes:
    """Draw three rows (clean, noisy, denoised) as PNG, clipped to [0, 1] and enlarged `scale` times."""
    from PIL import Image
    from skimage.util import montage

    tiles = np.clip(np.concatenate([clean, noisy, denoised]), 0, 1)
    sheet: NDArray[np.float32] = montage(tiles, fill=1.0, grid_shape=(3, len(clean)), padding_width=2)
    grey = np.rint(sheet * 255).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(grey.repeat(scale, axis=0).repeat(scale, axis=1)).save(sink, format="PNG")
    return sink.getvalue()
