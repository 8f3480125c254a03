"""`keras`, `onnx` and `litert`: a model file as a denoiser, with its layout and scale detected or given."""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from benchbox import BenchboxError, Capabilities, Denoiser, Images, Sigma, TrainingCard
from benchbox_adapters import runtimes
from benchbox_adapters.fitting import Fit, fit
from benchbox_adapters.model_files import external_data, is_architecture, refusal_of
from benchbox_adapters.runtimes import Opened

_CHUNK_PIXELS = 16 * 48 * 48


class ModelFile(Denoiser):
    """Base class of the file formats; `setup` detects every option that is not given.

    Parameters
    ----------
    path : Path
        The model file, which maps one grey or colour image to one of the same size. A training card is read from the
        file with the same name and the suffix ``.json``, if there is one; the architecture of a Keras model there is
        no card.
    residual : bool, optional
        Whether the model returns the noise instead of the image.
    range : float, optional
        Value of white that the model was trained with, such as 255.
    layout : {'nhwc', 'nchw'}, optional
        Position of the channel axis; by default, the axis with length 1 or 3.

    Notes
    -----
    To detect `residual` and `range`, a test image with Gaussian noise of 0.1 is denoised with every combination, and
    the combination with the highest PSNR is kept. If all are worse than doing nothing, `BenchboxError` is raised.
    """

    capabilities = Capabilities(sigma="unused")
    default_rows: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str]
    package: ClassVar[tuple[str, str]]
    """Package that runs the model, and the command that installs it."""

    def __init__(
        self,
        *,
        path: Path | None = None,
        residual: bool | None = None,
        range: float | None = None,
        layout: Literal["nhwc", "nchw"] | None = None,
    ) -> None:
        if path is not None and (refused := refusal_of(path, self.name)):
            raise ValueError(f"path={path}: {refused}")
        if path is not None and importlib.util.find_spec(self.package[0]) is None:
            raise ValueError(f"the package {self.package[0]} is missing; install it: {self.package[1]}")
        if range is not None and not range > 0:
            raise ValueError(f"range must be greater than 0, got {range}")
        self.path = path
        self.residual = residual
        self.range = range
        self.layout = layout

    @staticmethod
    @abstractmethod
    def open(path: Path) -> Opened:
        """Open the file."""

    def setup(self, shape: tuple[int, ...]) -> None:
        """Open the model, detect the options that are not given, and run it once."""
        if self.path is None:
            raise BenchboxError(
                f"{self.name} needs a model file", hint=f"give one, for example {self.name}:path={self.example}"
            )
        self._opened = self.open(self.path)
        self.fit: Fit = fit(self._opened, self.path, self.residual, self.range, self.layout)
        self.denoise(np.zeros(shape, np.float32)[:1], None)

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack; raises `BenchboxError` if the model cannot process its size or does not return images."""
        count = max(1, _CHUNK_PIXELS // (noisy.shape[1] * noisy.shape[2]))
        starts = range(0, len(noisy), count)
        return np.concatenate([self.fit.apply(self._opened, noisy[at : at + count]) for at in starts])

    def files(self) -> list[Path]:
        """The model file and, of an ONNX model, the files beside it that hold its weights."""
        return [self.path, *external_data(self.path)] if self.path else []

    def card(self) -> TrainingCard | None:
        """Training card next to the model, if there is one."""
        file = self.path.with_suffix(".json") if self.path else None
        if file is None or not file.is_file():
            return None
        if is_architecture(file):
            notes = f"There is no training card: {file.name} describes the architecture."
            return TrainingCard("unknown", "", "", 0, "unknown", 0, 0.0, "", notes=notes)
        return TrainingCard.load(file)


class Keras(ModelFile):
    """A ``.keras`` or ``.h5`` file, loaded in safe mode, which runs no code from the file."""

    name = "keras"
    summary = "a trained Keras model in a .keras or .h5 file"
    reference = "https://keras.io"
    example = "model.keras"
    package = "keras", "pip install keras tensorflow"
    open = staticmethod(runtimes.open_keras)


class Onnx(ModelFile):
    """An ``.onnx`` file, run by ONNX Runtime on the processor."""

    name = "onnx"
    summary = "a trained model in an .onnx file"
    reference = "https://onnxruntime.ai"
    example = "model.onnx"
    package = "onnxruntime", 'pip install "benchbox-denoise[onnx]"'
    open = staticmethod(runtimes.open_onnx)


class LiteRT(ModelFile):
    """A ``.tflite`` file, run by LiteRT."""

    name = "litert"
    summary = "a trained model in a .tflite file"
    reference = "https://ai.google.dev/edge/litert"
    example = "model.tflite"
    package = "ai_edge_litert", "pip install ai-edge-litert"
    open = staticmethod(runtimes.open_litert)
