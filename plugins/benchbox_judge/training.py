"""Trains the judges with Keras: ``benchbox train emotion_judge`` calls it.

Faces are mirrored, moved, turned and changed in contrast. The recipe 'default' adds no noise and no blur, so that the
judge favours no denoiser; 'robust' adds noise, and none of its network's layers are those of the other.
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
from benchbox_judge.network import NETWORKS

Arrays = list[NDArray[np.float32]]

_WARM_UP = 400
_LAST = 1e-5
"""Steps of the warm-up, and learning rate that the schedule falls to."""
_SMOOTHING = 0.05
_AVERAGED = 10
"""Steps between two updates of the averaged weights, which are the ones that are kept."""
_SHIFT = 4
_TURN = 12.0
"""Largest shift in pixels and turn in degrees."""
_RECIPE = Recipe(noise=(), epochs=45, batch_size=64, learning_rate=3e-3, patience=45)
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
        model, self._kept = NETWORKS[name](precision), NETWORKS[name]("float32")
        self._words = (
            f"network '{model.name}' with {model.count_params():,} parameters, Keras {keras.__version__}, AdamW, "
            f"{precision}, batch {recipe.batch_size}, rate {recipe.learning_rate:g} (cosine), weights averaged."
        )
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=_SMOOTHING)
        optimiser = keras.optimizers.AdamW(recipe.learning_rate, weight_decay=1e-3)
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
                varied = vary(fitted.stack(chosen), rng)
                varied = varied if noise is None else noise(varied, rng)
                share = max(step / total, spent)
                rate = recipe.learning_rate * min(1, (step + 1) / _WARM_UP) * (1 + np.cos(np.pi * share)) / 2
                optimiser.learning_rate.assign(rate + _LAST)
                targets = np.eye(len(EMOTIONS), dtype=np.float32)[labels[chosen]]
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
    decay = np.float32(min(0.96, step / (step + 100)))
    return [decay * old + (1 - decay) * new for old, new in zip(averaged or weights, weights, strict=True)]


def vary(faces: Images, rng: np.random.Generator) -> Images:
    """Mirror, move, turn and change the contrast of faces (N, 48, 48) at random, within [0, 1].

    Turned faces are interpolated by a cubic, which hardly blurs; the other half are moved by whole pixels.
    """
    import cv2

    varied = np.empty_like(faces)
    middle = (SIZE - 1) / 2
    for place, whole in enumerate(faces):
        face = np.ascontiguousarray(whole[:, ::-1]) if rng.random() < 0.5 else whole
        down, right = (int(step) for step in rng.integers(-_SHIFT, _SHIFT + 1, 2))
        if rng.random() < 0.5:
            turn = cv2.getRotationMatrix2D((middle, middle), rng.uniform(-_TURN, _TURN), 1.0)
            turn[:, 2] += (right, down)
            face = np.asarray(
                cv2.warpAffine(face, turn, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            )
        else:
            padded = np.pad(face, _SHIFT, mode="edge")
            top, left = _SHIFT - down, _SHIFT - right
            face = padded[top : top + SIZE, left : left + SIZE]
        mean = face.mean()
        varied[place] = np.clip((face - mean) * rng.uniform(0.7, 1.3) + mean + rng.uniform(-0.1, 0.1), 0, 1)
    return varied
