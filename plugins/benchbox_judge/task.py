"""`task_agreement`: any classifier in a file as the judge, of faces or of anything."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from benchbox import AgreementMetric, BenchboxError, Images
from benchbox_judge.judge import Memory

_CHUNK = 32
_SUFFIXES = {".keras": "keras", ".h5": "keras", ".onnx": "onnx", ".tflite": "litert"}


@dataclass(frozen=True)
class TaskAgreement(AgreementMetric):
    """Whether a classifier of your own sees the same class in the denoised image as in the clean one: 1 or 0.

    The file is a Keras (``.keras``, ``.h5``), ONNX (``.onnx``) or LiteRT (``.tflite``) model that returns one number
    for each class; `format` says so where the name of the file does not.

    `size` is the side in pixels to which images are resized, 0 for that of the model, or of the images if it takes any.
    `range` is what black and white are to the model, such as ``0..1``, ``-1..1`` or ``0..255``. `classes` is the number
    that its answer must have; 0 for any.
    """

    name: ClassVar[str] = "task_agreement"
    title: ClassVar[str] = "task kept"
    summary: ClassVar[str] = "share of images that a classifier from a file, path=..., reads as the clean image"
    digits: ClassVar[int | None] = 4
    channels: ClassVar[Literal["grey", "rgb", "any"]] = "any"

    path: Path | None = None
    format: Literal["auto", "keras", "onnx", "litert"] = "auto"
    size: int = 0
    range: str = "0..1"
    classes: int = 0

    def __post_init__(self) -> None:
        if self.path is not None and not self.path.is_file():
            raise ValueError(f"path={self.path}: there is no such file")
        if self.path is not None and self.format == "auto" and self.path.suffix not in _SUFFIXES:
            raise ValueError(f"path={self.path}: the name of a model file ends in {', '.join(_SUFFIXES)}")
        if not 0 <= self.size <= 1024:
            raise ValueError(f"size={self.size} is outside 0 to 1024 pixels")
        self._limits()

    def files(self) -> list[Path]:
        """The model, and the layers beside it that an ``.h5`` file with weights only needs."""
        from benchbox_adapters import runtimes

        if self.path is None:
            raise BenchboxError(f"{self.name} needs a model", hint="write --judge onnx:path=judge.onnx")
        return [self.path, *(runtimes.layers_beside(self.path) if self._format == "keras" else [])]

    @property
    def _format(self) -> str:
        return _SUFFIXES.get(self.path.suffix, "") if self.path and self.format == "auto" else self.format

    def seen(self, images: Images) -> NDArray[np.intp]:
        """Class of each image, see `AgreementMetric.seen`; raises `BenchboxError` if the model is no classifier."""
        classes: NDArray[np.intp] = _memory(self).answer(images, self.answers).argmax(axis=1)
        return classes

    def answers(self, images: Images) -> NDArray[np.float32]:
        """What the model returns, shape (N, classes)."""
        opened = _opened(self.files()[0], self._format)
        parts = [self._answer(opened, images[start : start + _CHUNK]) for start in range(0, len(images), _CHUNK)]
        return np.concatenate(parts)

    def _answer(self, opened: Any, images: Images) -> NDArray[np.float32]:
        if len(opened.inputs) != 1:
            raise BenchboxError(
                f"judge {self.path}: it has {len(opened.inputs)} inputs, not 1", hint="use a classifier"
            )
        shape = opened.inputs[0].shape or (None,) * 4
        if len(shape) != 4:
            raise BenchboxError(f"judge {self.path}: it takes {opened.inputs[0]}, no images", hint="use a classifier")
        # A file format says where channels usually are; a fixed side of 1 or 3 says where they are here.
        first = shape[1] in (1, 3) if shape[3] not in (1, 3) else opened.layout == "nchw" and shape[1] in (1, 3, None)
        channels, sides = (shape[1], shape[2:]) if first else (shape[3], shape[1:3])
        fixed = {side for side in sides if side}
        if self.size and fixed - {self.size}:
            raise BenchboxError(
                f"judge {self.path}: it takes images of {' x '.join(map(str, sides))} pixels, not size={self.size}",
                hint="omit size=",
            )
        low, high = self._limits()
        stack = _resized(_with_channels(images, channels or 1), self.size or sides[0], self.size or sides[1])
        stack = (low + (high - low) * stack).astype(np.float32)
        arranged = np.ascontiguousarray(stack.transpose(0, 3, 1, 2) if first else stack)
        count = int(shape[0] or len(arranged))
        whole = np.concatenate((arranged, arranged[-1:].repeat(-len(arranged) % count, axis=0)))
        try:
            parts = [opened.run(part) for part in np.split(whole, len(whole) // count)]
            answer = np.concatenate(parts)[: len(arranged)]
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            reason = lines[-1] if lines[0] == "in user code:" else " ".join(lines)  # after places in Keras
            raise BenchboxError(
                f"judge {self.path} fails on {arranged.shape}: {reason[:200]}",
                hint="give its size=, such as size=64",
            ) from error
        wrong = answer.ndim != 2 or len(answer) != len(images) or answer.shape[1] < 2
        if wrong or self.classes not in (0, answer.shape[1]):
            wanted = self.classes or "two or more classes"
            raise BenchboxError(
                f"judge {self.path}: it answers with shape {answer.shape}, not {len(images)} images by {wanted}",
                hint="use a classifier, and give its number of classes as classes=",
            )
        if not np.isfinite(answer).all():
            raise BenchboxError(f"judge {self.path}: its answer is not finite", hint="check its range=")
        return np.asarray(answer, np.float32)

    def _limits(self) -> tuple[float, float]:
        low, dots, high = self.range.partition("..")
        try:
            limits = (float(low), float(high)) if dots else (0.0, float(low))
        except ValueError as error:
            raise ValueError(f"range={self.range} is not two numbers, such as 0..1, -1..1 or 0..255") from error
        if not limits[0] < limits[1]:
            raise ValueError(f"range={self.range}: black must be below white")
        return limits


@functools.cache
def _memory(judge: TaskAgreement) -> Memory:
    """What this judge answered."""
    return Memory()


@functools.cache
def _opened(path: Path, form: str) -> Any:
    from benchbox_adapters import runtimes

    open_file = {"keras": runtimes.open_keras, "onnx": runtimes.open_onnx, "litert": runtimes.open_litert}
    try:
        return open_file[form](path)
    except BenchboxError as error:
        raise BenchboxError(
            f"judge {error.message}", hint=f"use another file; this one was opened as {form}"
        ) from error
    except ImportError as error:
        raise BenchboxError(f"judge {path}: {error}", hint="install the package that runs it") from error


def _with_channels(images: Images, channels: int) -> Images:
    """Images as (N, H, W, C): grey ones repeated, colour ones as their luminance if the model takes one channel."""
    if images.ndim == 3:
        return np.repeat(images[..., np.newaxis], channels, axis=3)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return images if channels == 3 else (images @ weights)[..., np.newaxis]


def _resized(images: Images, height: int | None, width: int | None) -> Images:
    import cv2

    height, width = height or images.shape[1], width or images.shape[2]
    if images.shape[1:3] == (height, width):
        return images
    smaller = height < images.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    sized = [cv2.resize(image, (width, height), interpolation=how) for image in images]
    return np.stack(sized).reshape(len(images), height, width, images.shape[3]).astype(np.float32)
