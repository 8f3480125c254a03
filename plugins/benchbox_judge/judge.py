"""Predicts the emotion of faces with LiteRT, without TensorFlow."""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchbox_unet.runtimes import native_messages_hidden
from numpy.typing import NDArray

from benchbox import BenchboxError, Images, threads

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Meaning of each class, in the order of FER2013's labels."""
SIZE = 48
_FOLDER = Path(__file__).parent / "weights"
WEIGHTS = {"default": _FOLDER / "emotion_judge.tflite", "robust": _FOLDER / "emotion_judge_robust.tflite"}
"""Weights of the bundled judges, by the recipe that trained them."""
_CHUNK = 32
"""Faces per call; larger batches exceed the cache."""
_REMEMBERED = 256
"""Stacks whose answers are kept."""
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)

LogProbabilities = NDArray[np.float64]


class Memory:
    """Answers of a classifier to its last stacks, so that all metrics of a shard and all noises ask it only once."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, NDArray[Any]] = OrderedDict()

    def answer(self, images: Images, ask: Callable[[Images], NDArray[Any]]) -> NDArray[Any]:
        """The remembered answer to a stack of this content, else what `ask` returns."""
        key = hashlib.blake2b(images.tobytes(), digest_size=16, person=str(images.shape).encode()[:16]).digest()
        if key not in self._known:
            self._known[key] = ask(images)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return self._known[key]


class Judge:
    """A classifier of faces in a ``.tflite`` file, (N, 48, 48, 1) in [0, 1] to seven logits.

    Raises `BenchboxError` if the file is missing, damaged or has another shape.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory = Memory()
        try:
            from ai_edge_litert.interpreter import Interpreter

            with native_messages_hidden():
                self._interpreter: Any = Interpreter(model_content=path.read_bytes(), num_threads=threads())
            (entry,), (answer,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
            shapes = tuple(entry["shape"][1:]), tuple(answer["shape"][1:])
        except (OSError, ValueError, RuntimeError) as error:
            raise BenchboxError(f"judge {path}: {error}", hint="train it again, or reinstall benchbox") from error
        if shapes != ((SIZE, SIZE, 1), (len(EMOTIONS),)):
            raise BenchboxError(
                f"judge {path}: it maps {shapes[0]} to {shapes[1]}, not ({SIZE}, {SIZE}, 1) to ({len(EMOTIONS)},)",
                hint="use weights that 'benchbox train emotion_judge' wrote",
            )
        self._entry, self._answer = entry["index"], answer["index"]
        self._count = 0

    def log_probabilities(self, faces: Images) -> LogProbabilities:
        """Natural logarithm of the probability of each emotion, shape (N, 7); finite for every image."""
        grey = faces if faces.ndim == 3 else np.asarray(faces @ _LUMINANCE, np.float32)
        return self._memory.answer(np.ascontiguousarray(grey, dtype=np.float32), self._ask)

    def _ask(self, faces: Images) -> LogProbabilities:
        chunks = [self._logits(faces[start : start + _CHUNK]) for start in range(0, len(faces), _CHUNK)]
        logits = np.concatenate(chunks).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        answers: LogProbabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return answers

    def _logits(self, faces: Images) -> NDArray[np.float32]:
        if len(faces) != self._count:
            self._interpreter.resize_tensor_input(self._entry, (len(faces), SIZE, SIZE, 1))
            self._interpreter.allocate_tensors()
            self._count = len(faces)
        self._interpreter.set_tensor(self._entry, faces[..., np.newaxis])
        self._interpreter.invoke()
        logits: NDArray[np.float32] = self._interpreter.get_tensor(self._answer)
        if not np.isfinite(logits).all():
            raise BenchboxError(f"judge {self._path}: its answer is not finite", hint="use other weights")
        return logits


@functools.cache
def judge(recipe: str = "default") -> Judge:
    """Load a judge of the package, once per process."""
    return Judge(WEIGHTS[recipe])
