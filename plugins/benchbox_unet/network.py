"""Shared by the networks: weights by name or path, a runtime, any image size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchbox import BenchboxError, Denoiser, Images, Sigma, TrainingCard
from benchbox_unet import tiling

Tensor = NDArray[np.float32]
WEIGHTS = Path(__file__).parent / "weights"


class Network(Denoiser):
    """A network with weights; a subclass says how it is built and what it is fed.

    Attributes
    ----------
    shipped : tuple of str
        Names of the weights in the package.
    stride : int
        Height and width are extended to a multiple of it.
    margin : int
        Pixels away from which an input can reach an output; a multiple of `stride`.
    """

    shipped: ClassVar[tuple[str, ...]]
    stride: ClassVar[int]
    margin: ClassVar[int]

    def __init__(self, *, weights: str, runtime: str) -> None:
        self.weights = weights
        self.runtime = runtime
        self._network: Callable[[Tensor], Tensor] | None = None

    @classmethod
    @abstractmethod
    def build(cls, precision: str = "float32") -> Any:
        """Build the Keras model with freshly drawn weights."""

    @classmethod
    @abstractmethod
    def arrange(cls, images: Images, levels: Sigma) -> Tensor:
        """Turn images (N, H, W) and their levels (N,) into what the model takes."""

    @classmethod
    @abstractmethod
    def restore(cls, answer: Tensor, images: Images) -> Images:
        """Turn what the model answered into denoised images."""

    def setup(self, shape: tuple[int, int, int]) -> None:
        """Load the weights into the runtime and run it once."""
        self._network = self._load()
        self.denoise(np.zeros(shape, np.float32), np.full(shape[0], 0.1, np.float32))

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack of any size."""
        if self._network is None:
            self._network = self._load()
        return self.apply(self._network, noisy, sigma)

    @classmethod
    def apply(cls, network: Callable[[Tensor], Tensor], noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack with a network that is at hand."""
        if sigma is None:
            if cls.capabilities.sigma == "required":
                raise BenchboxError(f"{cls.name} has to be told the noise level", hint="run it with a known sigma")
            sigma = np.zeros(len(noisy), np.float32)

        def forward(images: Images, levels: Sigma) -> Images:
            return cls.restore(network(cls.arrange(images, levels)), images)

        return tiling.run(forward, noisy, sigma, stride=cls.stride, margin=cls.margin)

    def card(self) -> TrainingCard:
        """Training card beside the weights; without one, a card that says that their training is unknown."""
        weights = self.path(self.weights)
        path = weights.with_suffix(".json")
        if path.is_file():
            return TrainingCard.load(path)
        notes = f"There is no training card beside {weights.name}: {path.name} is missing."
        return TrainingCard("unknown", "", "", 0, "unknown", 0, 0.0, "", notes=notes)

    def files(self) -> list[Path]:
        """The weights, and what they were converted to."""
        weights = self.path(self.weights)
        return [file for file in (weights, weights.with_suffix(".tflite")) if file.is_file()]

    @classmethod
    def path(cls, weights: str) -> Path:
        """File of weights, named as one of `shipped` or by its path."""
        if weights in cls.shipped:
            return WEIGHTS / f"{cls.name}-{weights}.npz"
        path = Path(weights)
        if not path.is_file():
            raise BenchboxError(
                f"{cls.name}: there are no weights '{weights}'",
                hint=f"built in: {', '.join(cls.shipped)}; or the path of a weights.npz that 'benchbox train' wrote",
            )
        return path

    def model(self) -> Any:
        """Build the Keras model with the weights of this denoiser, in float32."""
        from benchbox_unet.backend import start_keras
        from benchbox_unet.weights_file import read_weights, set_weights

        start_keras()
        path = self.path(self.weights)
        model = self.build()
        set_weights(model, read_weights(path), str(path))
        return model

    def _load(self) -> Callable[[Tensor], Tensor]:
        from benchbox_unet import runtimes
        from benchbox_unet.weights_file import read_converted

        if self.runtime == "keras":
            return runtimes.Keras(self.model())
        path = self.path(self.weights)
        converted = path.with_suffix(".tflite")
        if converted.is_file():
            # Those in the package belong together, and the check would double the time to the first image.
            model = converted.read_bytes() if self.weights in self.shipped else read_converted(converted, path)
            return runtimes.LiteRT(model, str(converted))
        network = self.model()
        import keras

        if keras.backend.backend() != "tensorflow":
            return runtimes.Keras(network)  # only TensorFlow converts
        from benchbox_unet.convert import to_litert

        return runtimes.LiteRT(to_litert(network), str(path))
