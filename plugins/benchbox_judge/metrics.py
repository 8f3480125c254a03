"""Metrics that ask the judge: agreement with the clean face, divergence from it, accuracy against the label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from benchbox import AgreementMetric, BenchboxError, Images, LabelMetric, Metric, Scores, TrainableClassifier
from benchbox_judge.judge import EMOTIONS, SIZE, WEIGHTS, LogProbabilities, judge
from benchbox_judge.training import EmotionJudge


@dataclass(frozen=True)
class _Asked(Metric):
    """What metrics that ask a bundled judge share."""

    judge: Literal["default", "robust"] = "default"

    image_size: ClassVar[tuple[int, int] | None] = (SIZE, SIZE)
    channels: ClassVar[Literal["grey", "rgb", "any"]] = "any"

    def files(self) -> list[Path]:
        """Weights of the judge."""
        return [WEIGHTS[self.judge]]

    def ask(self, faces: Images) -> LogProbabilities:
        """What the judge answers, see `Judge.log_probabilities`."""
        return judge(self.judge).log_probabilities(faces)


@dataclass(frozen=True)
class EmotionAgreement(_Asked, AgreementMetric):
    """Whether the judge sees the same emotion in the denoised face as in the clean one: 1 or 0 for each face.

    The mean is the share of faces that keep their emotion. It needs no label, but faces of 48 x 48 pixels. The judge
    'default' was trained without noise; 'robust' is another network, trained with it.
    """

    name: ClassVar[str] = "emotion_agreement"
    title: ClassVar[str] = "emotion kept"
    summary: ClassVar[str] = "share of faces whose emotion a classifier reads as on the clean face"
    digits: ClassVar[int | None] = 4
    class_names: ClassVar[tuple[str, ...]] = EMOTIONS
    trains: ClassVar[type[TrainableClassifier] | None] = EmotionJudge

    def seen(self, images: Images) -> NDArray[np.intp]:
        """Emotion of each face, see `AgreementMetric.seen`."""
        emotions: NDArray[np.intp] = self.ask(images).argmax(axis=1)
        return emotions


@dataclass(frozen=True)
class EmotionKl(_Asked):
    """Divergence of the judge's probabilities on the denoised face from those on the clean one; 0 if they are equal.

    ``sum(p * log(p / q))`` over the seven emotions, with p on the clean face and q on the denoised one, in nats. It is
    smooth where agreement is 0 or 1, so fewer faces tell two denoisers apart.
    """

    name: ClassVar[str] = "emotion_kl"
    title: ClassVar[str] = "emotion KL"
    summary: ClassVar[str] = "divergence of a classifier's probabilities of emotions from those on the clean face"
    unit: ClassVar[str] = "nat"
    higher_is_better: ClassVar[bool] = False
    shown: ClassVar[bool] = False
    digits: ClassVar[int | None] = 4
    reference: ClassVar[str] = "Kullback & Leibler 1951, doi:10.1214/aoms/1177729694"

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack, see `Metric.__call__`; in nats, at least 0."""
        before, after = self.ask(clean), self.ask(denoised)
        divergence: Scores = (np.exp(before) * (before - after)).sum(axis=1)
        return np.maximum(divergence, 0.0)  # rounding may leave -1e-17 for equal ones


@dataclass(frozen=True)
class EmotionAccuracy(_Asked, LabelMetric):
    """Whether the judge sees the labelled emotion in the denoised face: 1 or 0; NaN for a face labelled 'other'.

    The judge errs on clean faces, too, so compare with its accuracy on those, which the card of the judge states.
    """

    name: ClassVar[str] = "emotion_accuracy"
    title: ClassVar[str] = "emotion right"
    summary: ClassVar[str] = "share of faces in which a classifier sees the labelled emotion"
    digits: ClassVar[int | None] = 4
    label: ClassVar[str] = "emotion"
    proportion: ClassVar[bool] = True

    def against(self, labels: NDArray[np.generic], denoised: Images) -> Scores:
        """Score a stack, see `LabelMetric.against`; 0 or 1."""
        numbers = np.asarray(labels, np.int64)
        strange = (numbers < 0) | (numbers > len(EMOTIONS))
        if strange.any():
            raise BenchboxError(
                f"{self.name}: label {numbers[strange][0]} is outside 0 to {len(EMOTIONS) - 1}",
                hint="number the emotions as FER2013 does: " + ", ".join(EMOTIONS),
            )
        right: Scores = (self.ask(denoised).argmax(axis=1) == numbers).astype(np.float64)
        right[numbers == len(EMOTIONS)] = np.nan  # faces that are labelled 'other'
        return right
