"""Trains the judges with Keras: ``benchbox train emotion_judge`` calls it.

Faces are mirrored, moved, turned, scaled, covered in part, mixed and changed in contrast. The recipe 'default' adds no
noise and no blur, so that the judge favours no denoiser; 'robust' adds noise, and none of its network's layers are
those of the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchbox import BenchboxError, FitProgress, Images, ImageSet, Recipe, TrainableClassifier
from benchbox_judge.judge import EMOTIONS, SIZE, Judge
from benchbox_judge.network import NETWORKS, both_sides

Arrays = list[NDArray[np.float32]]

_WARM_UP = 400
_LAST = 1e-5
"""Steps of the warm-up, and learning rate that the schedule falls to."""
_SMOOTHING = 0.05
_DECAY = 0.02
"""Weight decay of the convolutions; with the learning rate, weights halve in about ten thousand steps."""
_AVERAGED = 10
"""Steps between two updates of the averaged weights, which are the ones that are kept."""
_SHIFT = 4
_TURN = 12.0
_SCALE = 0.08
"""Largest shift in pixels, turn in degrees and change of scale."""
_COVER = 16
"""Largest side in pixels of the rectangle that covers a part of every other face."""
_MIXED = 0.2
"""Parameter of the beta distribution of mixup (Zhang et al. 2018, arXiv:1710.09412)."""
_RECIPE = Recipe(noise=(), epochs=100, batch_size=128, learning_rate=4e-3, patience=100)
_NOISY = Recipe(
    noise=("gaussian:0..0.2", "poisson:20..200", "salt-pepper:0..0.1"),
    epochs=25,
    batch_size=64,
    learning_rate=3e-3,
    patience=25,
)


class EmotionJudge(TrainableClassifier):
    """A classifier of the seven emotions: AdamW on cross-entropy, exponentially averaged weights."""

    name: ClassVar[str] = "emotion_judge"
    label: ClassVar[str] = "emotion"
    class_names: ClassVar[tuple[str, ...]] = EMOTIONS
    image_size: ClassVar[tuple[int, int]] = (SIZE, SIZE)
    recipes: ClassVar[Mapping[str, Recipe]] = MappingProxyType({"default": _RECIPE, "robust": _NOISY})

    def __init__(self) -> None:
        self._kept: Any = None
        self._best: Arrays = []
        self._words = ""

    def fit(
        self,
        name: str,
        recipe: Recipe,
        fitted: ImageSet,
        validated: ImageSet,
        noise: Any,
        *,
        seed: int,
        budget_s: float | None,
    ) -> Iterator[FitProgress]:
        """Train, see `TrainableClassifier.fit`; the learning rate falls along half a cosine.

        It follows the epochs or the budget, whichever is ahead, so that it reaches its end with the time limit.
        """
        from benchbox_unet.runtimes import start_keras
        from benchbox_unet.trainer import fastest_precision

        begun = time.monotonic()
        keras = start_keras()
        if keras.backend.backend() != "tensorflow":
            raise BenchboxError(
                f"{self.name} is converted by TensorFlow, but Keras uses {keras.backend.backend()}",
                hint="set KERAS_BACKEND=tensorflow",
            )
        keras.utils.set_random_seed(seed)
        precision = fastest_precision()
        model, self._kept = NETWORKS[name](precision), both_sides(NETWORKS[name]("float32"))
        self._words = (
            f"network '{model.name}' with {model.count_params():,} parameters, Keras {keras.__version__}, AdamW, "
            f"{precision}, batch {recipe.batch_size}, rate {recipe.learning_rate:g} (cosine), weights averaged."
        )
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=_SMOOTHING)
        optimiser = keras.optimizers.AdamW(recipe.learning_rate, weight_decay=_DECAY)
        optimiser.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        model.compile(optimiser, loss=loss, jit_compile=False)
        labels = fitted.labels[self.label].astype(np.int64)
        faces, truth = validated.stack(np.arange(len(validated))), validated.labels[self.label].astype(np.int64)
        if noise is not None:
            faces = noise(faces, np.random.default_rng(seed))
        averaged: Arrays = []
        highest, step, total = -1.0, 0, recipe.epochs * (len(fitted) // recipe.batch_size)
        for epoch in range(recipe.epochs):
            rng = np.random.default_rng((seed, epoch))
            order = rng.permutation(len(fitted))
            losses: list[float] = []
            for start in range(0, len(order) - recipe.batch_size + 1, recipe.batch_size):
                spent = (time.monotonic() - begun) / budget_s if budget_s else 0.0
                if spent >= 1:
                    break
                chosen = order[start : start + recipe.batch_size]
                targets = np.eye(len(EMOTIONS), dtype=np.float32)[labels[chosen]]
                varied, targets = mix(vary(fitted.stack(chosen), rng), targets, rng)
                varied = varied if noise is None else noise(varied, rng)
                share = max(step / total, spent)
                rate = recipe.learning_rate * min(1, (step + 1) / _WARM_UP) * (1 + np.cos(np.pi * share)) / 2
                optimiser.learning_rate.assign(rate + _LAST)
                model.reset_metrics()
                losses.append(float(model.train_on_batch(varied[..., np.newaxis], targets)))
                step += 1
                if step % _AVERAGED == 0:
                    averaged = _average(averaged, model.get_weights(), step)
                yield FitProgress(epoch + 1, len(losses) * recipe.batch_size, losses[-1])
            if not losses:
                return
            self._kept.set_weights(averaged or model.get_weights())
            answers = self._kept.predict(faces[..., np.newaxis], batch_size=256, verbose=0).argmax(axis=1)
            accuracy = float((answers == truth).mean())
            if accuracy >= highest:
                self._best = self._kept.get_weights()
            mean = float(np.mean(losses))
            yield FitProgress(epoch + 1, len(losses) * recipe.batch_size, mean, accuracy, accuracy >= highest)
            highest = max(highest, accuracy)

    def probabilities(self, weights: Path, images: Images) -> NDArray[np.float64]:
        """Probability of each emotion, see `TrainableClassifier.probabilities`."""
        sure: NDArray[np.float64] = np.exp(Judge(weights).log_probabilities(images))
        return sure

    def save(self, folder: Path) -> Path:
        """Convert the best weights to ``weights.tflite``, in float32."""
        import tensorflow as tf
        from benchbox_unet.runtimes import native_messages_hidden

        self._kept.set_weights(self._best)
        path = folder / "weights.tflite"
        # Keras prints a description of the exported model.
        with redirect_stdout(StringIO()), native_messages_hidden():
            path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(self._kept).convert())
        return path

    def describe(self) -> str:
        """Network, library, optimiser and precision."""
        return self._words


def _average(averaged: Arrays, weights: Arrays, step: int) -> Arrays:
    decay = np.float32(min(0.99, step / (step + 100)))
    return [decay * old + (1 - decay) * new for old, new in zip(averaged or weights, weights, strict=True)]


def vary(faces: Images, rng: np.random.Generator) -> Images:
    """Mirror, move, turn, scale, partly cover and change the contrast of faces (N, 48, 48) at random, within [0, 1].

    Turned and scaled faces are interpolated by a cubic, which hardly blurs; the other half are moved by whole pixels.
    """
    import cv2

    count, middle = len(faces), (SIZE - 1) / 2
    turned = rng.random(count) < 0.5
    angle = np.where(turned, rng.uniform(-_TURN, _TURN, count), 0.0)
    scale = np.where(turned, rng.uniform(1 - _SCALE, 1 + _SCALE, count), 1.0)
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    along, across = np.cos(np.deg2rad(angle)) * scale, np.sin(np.deg2rad(angle)) * scale
    change = np.empty((count, 2, 3))
    change[:, :, 0] = np.stack((along, -across), axis=1) * mirror[:, np.newaxis]
    change[:, :, 1] = np.stack((across, along), axis=1)
    moved = rng.integers(-_SHIFT, _SHIFT + 1, (count, 2))
    change[:, :, 2] = middle + moved - change[:, :, :2].sum(axis=2) * middle
    varied = np.empty_like(faces)
    for face, matrix, place in zip(faces, change, varied, strict=True):
        cv2.warpAffine(face, matrix, (SIZE, SIZE), place, cv2.INTER_CUBIC, cv2.BORDER_REPLICATE)
    mean = varied.mean(axis=(1, 2), keepdims=True)
    contrast = rng.uniform(0.7, 1.3, (count, 1, 1)).astype(np.float32)
    exposure = rng.uniform(-0.1, 0.1, (count, 1, 1)).astype(np.float32)
    result: Images = np.clip((varied - mean) * contrast + mean + exposure, 0, 1)
    _cover(result, rng)
    return result


def _cover(faces: Images, rng: np.random.Generator) -> None:
    """Replace a rectangle of every other face by the face's mean (Zhong et al. 2020, doi:10.1609/aaai.v34i07.7000)."""
    sides = rng.integers(_COVER // 2, _COVER + 1, (len(faces), 2))
    corners = rng.integers(0, SIZE - sides + 1)
    for place in np.flatnonzero(rng.random(len(faces)) < 0.5):
        (top, left), (height, width) = corners[place], sides[place]
        faces[place, top : top + height, left : left + width] = faces[place].mean()


def mix(faces: Images, targets: Images, rng: np.random.Generator) -> tuple[Images, Images]:
    """Blend each face, and what it should be taken for, with a little of another one of the batch."""
    share = rng.beta(_MIXED, _MIXED, len(faces)).astype(np.float32)
    share = np.maximum(share, 1 - share)
    other = rng.permutation(len(faces))
    blend = share[:, np.newaxis, np.newaxis]
    mixed = blend * faces + (1 - blend) * faces[other]
    return mixed, share[:, np.newaxis] * targets + (1 - share[:, np.newaxis]) * targets[other]
