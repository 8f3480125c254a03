"""`keras`, `onnx` and `litert`: a model file as a denoiser; its layout and scale are detected or given."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from benchbox import BenchboxError, Capabilities, Denoiser, Images, Sigma, TrainingCard
from benchbox_adapters import runtimes
from benchbox_adapters.fitting import Fit, fit
from benchbox_adapters.runtimes import Opened

_CHUNK_PIXELS = 16 * 48 * 48


class ModelFile(Denoiser):
    """What the kinds of files share. What is not given is found out in `setup`.

    Parameters
    ----------
    path : Path
        The model file: one grey or colour image in, one of the same size out. A training card is read from the file
        beside it whose name ends in ``.json`` instead.
    residual : bool, optional
        Whether the model gives the noise rather than the image.
    range : float, optional
        Value of white that the model was trained with, such as 255.
    layout : {'nhwc', 'nchw'}, optional
        Where the channels are; by default where the shape has 1 or 3.

    Notes
    -----
    `residual` and `range` are found out by denoising a drawn picture with Gaussian noise of 0.1 in each way; the way
    that comes nearest to the picture is kept. None is where all are worse than doing nothing: that is an error.
    """

    capabilities = Capabilities(sigma="unused")
    default_rows: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str]

    def __init__(
        self,
        *,
        path: Path | None = None,
        residual: bool | None = None,
        range: float | None = None,
        layout: Literal["nhwc", "nchw"] | None = None,
    ) -> None:
        if path is not None and not path.is_file():
            raise ValueError(f"path={path}: there is no such file")
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

    def setup(self, shape: tuple[int, int, int]) -> None:
        """Open the model, find out what is not given, and run it once."""
        if self.path is None:
            raise BenchboxError(f"{self.name} needs a model file", hint=f"for example {self.name}:path={self.example}")
        self._opened = self.open(self.path)
        self.fit: Fit = fit(self._opened, self.path, self.residual, self.range, self.layout)
        self.denoise(np.zeros(shape, np.float32)[:1], None)

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack.

        Raises
        ------
        BenchboxError
            The model takes images of another size only, or gives something that is no image.
        """
        count = max(1, _CHUNK_PIXELS // (noisy.shape[1] * noisy.shape[2]))
        starts = range(0, len(noisy), count)
        return np.concatenate([self.fit.apply(self._opened, noisy[at : at + count]) for at in starts])

    def files(self) -> list[Path]:
        """The model file."""
        return [self.path] if self.path else []

    def card(self) -> TrainingCard | None:
        """Training card beside the model, where there is one."""
        file = self.path.with_suffix(".json") if self.path else None
        return TrainingCard.load(file) if file and file.is_file() else None


class Keras(ModelFile):
    """A ``.keras`` file, loaded in safe mode: no code that it brings is run."""

    name = "keras"
    summary = "a trained Keras model in a .keras file"
    reference = "https://keras.io"
    example = "model.keras"
    open = staticmethod(runtimes.open_keras)


class Onnx(ModelFile):
    """An ``.onnx`` file, run by ONNX Runtime on the processor."""

    name = "onnx"
    summary = "a trained model in an .onnx file"
    reference = "https://onnxruntime.ai"
    example = "model.onnx"
    open = staticmethod(runtimes.open_onnx)


class LiteRT(ModelFile):
    """A ``.tflite`` file, run by LiteRT."""

    name = "litert"
    summary = "a trained model in a .tflite file"
    reference = "https://ai.google.dev/edge/litert"
    example = "model.tflite"
    open = staticmethod(runtimes.open_litert)
