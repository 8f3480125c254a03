"""Trains the judge on FER2013's csv: fits Training, chooses on PublicTest, never reads PrivateTest.

``python -m benchbox_judge.training fer2013.csv my-judge`` writes ``emotion_judge.tflite`` and its card. Faces are
mirrored, moved, turned and changed in contrast, but get no noise and no blur, so that the judge favours no denoiser.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox import Images
from benchbox_judge.judge import EMOTIONS, SIZE, Judge
from benchbox_judge.network import build

Labels = NDArray[np.int64]
BATCH = 64
PEAK = 3e-3
_WARM_UP = 400
_AVERAGED = 10
"""Steps between two updates of the averaged weights, which are the ones that are kept."""
_SHIFT = 4
_TURN = 12.0
"""Largest shift in pixels and turn in degrees."""


def read_split(path: Path, usage: str) -> tuple[NDArray[np.uint8], Labels]:
    """Faces (N, 48, 48) and labels (N,) of a split of the csv of the challenge."""
    import pandas as pd

    rows = pd.read_csv(path)
    rows = rows[rows["Usage"] == usage]
    pixels = np.array([np.array(text.split(), np.uint8) for text in rows["pixels"]])
    return pixels.reshape(-1, SIZE, SIZE), rows["emotion"].to_numpy(np.int64)


def vary(faces: NDArray[np.uint8], rng: np.random.Generator) -> Images:
    """Mirror, move, turn and change the contrast of faces at random; (N, 48, 48) to float32 in [0, 1].

    Turned faces are interpolated by a cubic, which hardly blurs; the other half are moved by whole pixels.
    """
    import cv2

    varied = np.empty(faces.shape, np.float32)
    middle = (SIZE - 1) / 2
    for place, pixels in enumerate(faces):
        face = np.divide(pixels, 255, dtype=np.float32)
        if rng.random() < 0.5:
            face = np.ascontiguousarray(face[:, ::-1])
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


def _batches(
    faces: NDArray[np.uint8], labels: Labels, epoch: int, seed: int
) -> Iterator[tuple[Images, NDArray[np.float32]]]:
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(faces))
    for start in range(0, len(faces) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        yield vary(faces[chosen], rng)[..., np.newaxis], np.eye(len(EMOTIONS), dtype=np.float32)[labels[chosen]]


def fit(
    fitted: tuple[NDArray[np.uint8], Labels],
    chosen: tuple[NDArray[np.uint8], Labels],
    *,
    epochs: int,
    budget_s: float,
    seed: int,
) -> tuple[Any, list[dict[str, float]]]:
    """Train and return the Keras model with the best averaged weights, and what each epoch reached.

    The learning rate falls along half a cosine, over the epochs or the budget, whichever ends first.
    """
    import keras

    keras.utils.set_random_seed(seed)
    model, kept = build(), build()
    optimiser = keras.optimizers.AdamW(PEAK, weight_decay=1e-3)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    model.compile(optimiser, loss=loss, metrics=["accuracy"], jit_compile=False)
    faces, labels = chosen[0][..., np.newaxis].astype(np.float32) / 255, chosen[1]
    averaged: list[NDArray[np.float32]] = []
    best: list[NDArray[np.float32]] = []
    history: list[dict[str, float]] = []
    begun, step, total = time.monotonic(), 0, epochs * (len(fitted[0]) // BATCH)
    for epoch in range(epochs):
        losses = []
        for varied, targets in _batches(*fitted, epoch, seed):
            spent = (time.monotonic() - begun) / budget_s
            if spent >= 1:
                break
            rate = PEAK * min(1, (step + 1) / _WARM_UP) * (1 + np.cos(np.pi * max(step / total, spent))) / 2
            optimiser.learning_rate.assign(rate + 1e-5)
            model.reset_metrics()
            losses.append(float(model.train_on_batch(varied, targets)[0]))
            step += 1
            if step % _AVERAGED == 0:
                decay = min(0.96, step / (step + 100))
                weights = model.get_weights()
                averaged = [
                    decay * old + (1 - decay) * new for old, new in zip(averaged or weights, weights, strict=True)
                ]
        kept.set_weights(averaged or model.get_weights())
        answers = kept.predict(faces, batch_size=256, verbose=0).argmax(axis=1)
        history.append({"loss": float(np.mean(losses or [np.nan])), "accuracy": float((answers == labels).mean())})
        print(f"epoch {epoch + 1}: loss {history[-1]['loss']:.4f}, accuracy {history[-1]['accuracy']:.4f}", flush=True)
        if history[-1]["accuracy"] >= max(row["accuracy"] for row in history):
            best = kept.get_weights()
        if (time.monotonic() - begun) >= budget_s:
            break
    kept.set_weights(best)
    return kept, history


def converted(model: Any) -> bytes:
    """Convert a Keras model to a LiteRT flat buffer with weights in float32."""
    import tensorflow as tf

    return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def card_of(judge: Judge, faces: NDArray[np.uint8], labels: Labels) -> dict[str, Any]:
    """Accuracy by emotion, confusion and calibration on faces (N, 48, 48) with labels (N,)."""
    probabilities = np.exp(judge.log_probabilities(np.divide(faces, 255, dtype=np.float32)))
    answers, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = answers == labels
    confusion = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    np.add.at(confusion, (labels, answers), 1)
    bins = np.minimum((sure * 10).astype(int), 9)
    calibration = [
        {
            "faces": int((bins == place).sum()),
            "confidence": round(float(sure[bins == place].mean()), 4),
            "accuracy": round(float(right[bins == place].mean()), 4),
        }
        for place in np.unique(bins)
    ]
    error = sum(row["faces"] * abs(row["confidence"] - row["accuracy"]) for row in calibration) / max(1, len(labels))
    return {
        "faces": len(labels),
        "accuracy": round(float(right.mean()), 4),
        "accuracy_by_emotion": {
            emotion: round(float(right[labels == place].mean()), 4)
            for place, emotion in enumerate(EMOTIONS)
            if (labels == place).any()
        },
        "confusion": {"rows": "label", "columns": "answer", "emotions": list(EMOTIONS), "faces": confusion.tolist()},
        "calibration": calibration,
        "expected_calibration_error": round(float(error), 4),
    }


def without_copies(
    faces: NDArray[np.uint8], labels: Labels, seen: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], Labels]:
    """Leave out faces that are, pixel for pixel, among those seen in training."""
    known = {face.tobytes() for face in seen}
    fresh = np.array([face.tobytes() not in known for face in faces], bool)
    return faces[fresh], labels[fresh]


def main() -> None:
    """Train, convert and write the card."""
    parser = argparse.ArgumentParser(prog="python -m benchbox_judge.training", description=__doc__)
    parser.add_argument("csv", type=Path, help="fer2013.csv of the challenge")
    parser.add_argument("output", type=Path, help="folder for the model and its card")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=600.0, help="end after about this time")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    fitted = read_split(given.csv, "Training")
    chosen = without_copies(*read_split(given.csv, "PublicTest"), fitted[0])
    model, history = fit(fitted, chosen, epochs=given.epochs, budget_s=60 * given.minutes, seed=given.seed)
    write(given.output, model, fitted, chosen, {"epochs": len(history), "history": history, "seed": given.seed})


def write(
    folder: Path,
    model: Any,
    fitted: tuple[NDArray[np.uint8], Labels],
    chosen: tuple[NDArray[np.uint8], Labels],
    training: dict[str, Any],
) -> None:
    """Write the converted model and its card into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "emotion_judge.tflite"
    path.write_bytes(converted(model))
    card = {
        "judge": "emotion_judge",
        "parameters": int(model.count_params()),
        "trained_on": f"FER2013 Training, {len(fitted[0]):,} faces, without noise and blur",
        "chosen_on": "FER2013 PublicTest without exact copies of training faces; PrivateTest was never read",
        **training,
        "chosen_faces": card_of(Judge(path), *chosen),
        "not_for": "judging people. It reads 48 x 48 grey frontal faces as FER2013's annotators labelled them, "
        "errs about as often as people disagree with these labels or more, and is least reliable for rare emotions.",
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
