"""`keras`, `onnx` and `litert`: a model file as a denoiser; how it is called is found out, or given."""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from benchbox import BenchboxError, Capabilities, Denoiser, Details, Images, Inspection, Sigma, TrainingCard
from benchbox_adapters import graphs, inspection, runtimes
from benchbox_adapters.conventions import Convention, Input, Opened, Pad, SigmaInput
from benchbox_adapters.fitting import Given, fit, forms_of, range_label
from benchbox_adapters.graphs import Cost
from benchbox_adapters.runtimes import LFS_REASON, external_data, is_architecture, is_pointer, kind_of, refusal_of

_CHUNK_PIXELS = 16 * 48 * 48


class Network(Denoiser):
    """Base class of trained networks that others wrote; `setup` detects every option that is not given.

    Parameters
    ----------
    path : Path
        The model file. A training card is read from the file with the same name and the suffix ``.json``, if there is
        one; the architecture of a Keras model there is no card.
    sigma : {'none', 'channel', 'input', 'vector', 'scalar'}, optional
        Where the noise level goes: nowhere; behind the channels of the image; into a second input, as a map of the
        image's size, as one number for each image, or as a single number.
    sigma_scale : float, optional
        Factor on the noise level on the [0, 1] scale, such as 255.
    range : str, optional
        Value of white that the model was trained with, such as 255, or of black and white, such as -1..1.
    residual : bool, optional
        Whether the model returns the noise instead of the image.
    channels : int, optional
        Channels of its images: 1, or 3. A model of 3 channels takes colour images as they are, and grey ones three
        times.
    bgr : bool, optional
        Whether blue is the first of three channels.
    multiple : int, optional
        Sides are padded to a multiple of this number.
    pad : {'reflect', 'replicate'}
        What is beyond the border of a padded image.
    tile : int, optional
        Longest side of a call; larger images are cut into tiles. Without it, only models of a fixed size get tiles.
    overlap : int
        Pixels that neighbouring tiles share.

    Notes
    -----
    What is not given is detected with a drawn picture at two noise levels (15/255 and 40/255): in every way that fits
    its inputs, the model denoises both, and the way with the highest PSNR is kept. A model that takes the noise level
    must denoise worse if the two levels are swapped. If nothing improves the picture, `BenchboxError` is raised.
    """

    capabilities = Capabilities(sigma="unused")
    default_rows: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    """Packages that run the model."""
    install: ClassVar[str]
    """The command that installs them."""

    def __init__(
        self,
        path: Path | None,
        given: Given,
    ) -> None:
        if path is not None and (refused := refusal_of(path, self.name)):
            raise ValueError(f"path={path}: {refused}")
        if path is not None and (missing := self.missing_package()):
            raise ValueError(f"the package {missing} is missing; install it: {self.install}")
        self.path = path
        self.given = given
        if path is not None:
            self.capabilities = self._capabilities_from(*self.declared(path))

    @classmethod
    def missing_package(cls) -> str:
        """The first of the packages that is not installed; empty if all are."""
        return next((package for package in cls.packages if importlib.util.find_spec(package) is None), "")

    @abstractmethod
    def open(self) -> tuple[Opened, Convention]:
        """Open the model and find out how to call it."""

    @abstractmethod
    def declared(self, path: Path) -> tuple[tuple[Input, ...], int]:
        """What the file says about its inputs, without loading it, and how many of them must be given; 0 for all."""

    layout: ClassVar[str]
    """Common position of the channels in this file format, 'nhwc' or 'nchw'."""

    def _capabilities_from(self, inputs: Sequence[Input], needed: int = 0) -> Capabilities:
        """Whether it takes a noise level and colour, as far as its inputs tell."""
        forms = forms_of(inputs or (Input(None),), self.layout, self.given, needed)
        levels = {form.sigma != "none" for form in forms}
        colour = bool(forms) and all(form.channels == 3 for form in forms)
        return Capabilities(
            sigma="optional" if len(levels) > 1 else "required" if True in levels else "unused",
            channels="any" if colour else "grey",
        )

    def setup(self, shape: tuple[int, ...]) -> None:
        """Open the model, detect the options that are not given, and run it once."""
        self._opened, self.convention = self.open()
        told = self.convention.form.sigma != "none"
        if self.capabilities.sigma == "optional":
            self.capabilities = replace(self.capabilities, sigma="required" if told else "unused")
        self.denoise(np.zeros((1, *shape[1:]), np.float32), np.full(1, 0.1, np.float32) if told else None)

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack; raises `BenchboxError` if the model fails on its size or does not return images."""
        count = max(1, _CHUNK_PIXELS // (noisy.shape[1] * noisy.shape[2]))
        parts = [
            self.convention.denoise(
                self._opened, noisy[at : at + count], None if sigma is None else sigma[at : at + count]
            )
            for at in range(0, len(noisy), count)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def details(self) -> Details:
        """What was detected, and what the network costs."""
        cost = self._cost
        return Details(self._found(), cost.parameters, cost.macs_per_pixel, cost.activations_per_pixel)

    @property
    @abstractmethod
    def _cost(self) -> Cost:
        """Cost of the network, which is set up."""

    def _found(self) -> dict[str, str]:
        convention, given = self.convention, self.given
        form, sizing = convention.form, convention.sizing
        found = {
            "sigma": form.sigma if given.sigma is None else "",
            "sigma_scale": f"{convention.sigma_scale:g}" if given.sigma_scale is None and form.sigma != "none" else "",
            "range": range_label(convention.low, convention.high) if given.range is None else "",
            "residual": str(convention.residual).lower() if given.residual is None else "",
            "channels": str(form.channels) if given.channels is None and form.channels else "",
            "bgr": "true" if convention.bgr and given.bgr is None else "",
            "size": sizing.label,
        }
        return {name: value for name, value in found.items() if value}

    def files(self) -> list[Path]:
        """The model file."""
        return [self.path] if self.path else []

    def card(self) -> TrainingCard:
        """Training card next to the model; without one, a card for unknown training."""
        file = self.path.with_suffix(".json") if self.path else None
        notes = "There is no training card."
        if file is not None and file.is_file():
            if not is_architecture(file):
                return TrainingCard.load(file)
            notes = f"There is no training card: {file.name} describes the architecture."
        return TrainingCard("unknown", "", "", 0, "unknown", 0, 0.0, "", notes=notes)


def given_of(
    sigma: SigmaInput | None,
    sigma_scale: float | None,
    range: str | None,
    residual: bool | None,
    channels: int | None,
    bgr: bool | None,
    multiple: int | None,
    pad: Pad,
    tile: int | None,
    overlap: int,
    layout: str | None = None,
) -> Given:
    """Check the options of a network; raises `ValueError` for one that cannot be right."""
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    if sigma_scale is not None and not sigma_scale > 0:
        raise ValueError(f"sigma_scale must be greater than 0, got {sigma_scale}")
    if multiple is not None and multiple < 1:
        raise ValueError(f"multiple must be at least 1, got {multiple}")
    if overlap < 0:
        raise ValueError(f"overlap must be at least 0, got {overlap}")
    if tile is not None and 2 * overlap > tile:
        raise ValueError(f"overlap must be at most half of tile={tile}, got {overlap}")
    if tile is not None and multiple is not None and tile % multiple:
        raise ValueError(f"tile must be a multiple of {multiple}, got {tile}")
    span = None if range is None else _parse_range(range)
    return Given(sigma, sigma_scale, span, residual, channels, bgr, layout, multiple, pad, tile, overlap)


def _parse_range(text: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    try:
        values = (float(low), float(high)) if dots else (0.0, float(text))
    except ValueError:
        values = (0.0, 0.0)
    if not -1e6 < values[0] < values[1] < 1e6:
        raise ValueError(f"range={text}: write the value of white, such as 255, or of black and white, such as -1..1")
    return values


class ModelFile(Network):
    """Base class of the file formats whose layout may be either."""

    def __init__(
        self,
        *,
        path: Path | None = None,
        sigma: Literal["none", "channel", "input", "vector", "scalar"] | None = None,
        sigma_scale: float | None = None,
        range: str | None = None,
        residual: bool | None = None,
        channels: int | None = None,
        bgr: bool | None = None,
        layout: Literal["nhwc", "nchw"] | None = None,
        multiple: int | None = None,
        pad: Literal["reflect", "replicate"] = "reflect",
        tile: int | None = None,
        overlap: int = 32,
    ) -> None:
        given = given_of(sigma, sigma_scale, range, residual, channels, bgr, multiple, pad, tile, overlap, layout)
        super().__init__(path, given)

    @staticmethod
    @abstractmethod
    def open_file(path: Path) -> Opened:
        """Open the file."""

    @staticmethod
    @abstractmethod
    def inputs(path: Path) -> tuple[Input, ...]:
        """What the file says about its inputs, without loading it; empty if it does not say."""

    @staticmethod
    @abstractmethod
    def cost(path: Path) -> Cost:
        """Cost of the network in a file."""

    def declared(self, path: Path) -> tuple[tuple[Input, ...], int]:
        """Its inputs, all of which must be given."""
        return self.inputs(path), 0

    @cached_property
    def _cost(self) -> Cost:
        assert self.path is not None
        return self.cost(self.path)

    def open(self) -> tuple[Opened, Convention]:
        """Open the file and find out how to call it."""
        if self.path is None:
            raise BenchboxError(
                f"{self.name} needs a model file", hint=f"give one, for example {self.name}:path={self.example}"
            )
        opened = self.open_file(self.path)
        return opened, fit(opened, str(self.path), self.given)

    @classmethod
    def inspect(cls, path: Path) -> Inspection | None:
        """Read what a model file is, without running it; None if it is for another denoiser."""
        if kind_of(path) != cls.name:
            return None
        if missing := cls.missing_package():
            return Inspection(cls.name, refused=f"the package {missing} is missing", hint=f"install it: {cls.install}")
        return inspection.of_model(cls.name, path, cls.inputs(path), cls.layout, cls.cost)


class Keras(ModelFile):
    """A ``.keras`` or ``.h5`` file, loaded in safe mode, which runs no code from the file."""

    name = "keras"
    summary = "a trained Keras model in a .keras or .h5 file"
    reference = "https://keras.io"
    example = "model.keras"
    packages = ("keras",)
    install = "pip install keras tensorflow"
    layout = "nhwc"
    open_file = staticmethod(runtimes.open_keras)

    @classmethod
    def inspect(cls, path: Path) -> Inspection | None:
        """Read what a model file is, without running it; it may be a SavedModel, or no model yet."""
        is_saved_model = (path / "saved_model.pb").is_file()
        refused = refusal_of(path, cls.name)
        if is_saved_model or refused == LFS_REASON:
            reason, _, hint = refused.partition("; ")
            return Inspection("SavedModel" if is_saved_model else "Git LFS pointer", refused=reason, hint=hint)
        return super().inspect(path)

    inputs = staticmethod(runtimes.keras_inputs)
    cost = staticmethod(graphs.keras_cost)

    def files(self) -> list[Path]:
        """The model file and, if it holds only weights, the file of its layers."""
        return [self.path, *runtimes.layers_beside(self.path)] if self.path else []


class Onnx(ModelFile):
    """An ``.onnx`` file, run by ONNX Runtime on the processor."""

    name = "onnx"
    summary = "a trained model in an .onnx file"
    reference = "https://onnxruntime.ai"
    example = "model.onnx"
    packages = "onnxruntime", "onnx"
    install = 'pip install "benchbox-denoise[onnx]"'
    layout = "nchw"
    open_file = staticmethod(runtimes.open_onnx)
    inputs = staticmethod(runtimes.onnx_inputs)
    cost = staticmethod(graphs.onnx_cost)

    def declared(self, path: Path) -> tuple[tuple[Input, ...], int]:
        """Its inputs; raises `ValueError` if its weights are not there."""
        for file in external_data(path):
            if is_pointer(file):
                raise ValueError(f"its weights {file} are {LFS_REASON}")
        return super().declared(path)

    def files(self) -> list[Path]:
        """The model file, and the files beside it that hold its weights."""
        return [self.path, *external_data(self.path)] if self.path else []


class LiteRT(ModelFile):
    """A ``.tflite`` file, run by LiteRT."""

    name = "litert"
    summary = "a trained model in a .tflite file"
    reference = "https://ai.google.dev/edge/litert"
    example = "model.tflite"
    packages = ("ai_edge_litert",)
    install = "pip install ai-edge-litert"
    layout = "nhwc"
    open_file = staticmethod(runtimes.open_litert)
    inputs = staticmethod(runtimes.litert_inputs)
    cost = staticmethod(graphs.litert_cost)
