"""What the networks share: weights by name or path, the choice of a runtime, images of any size in tiles."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchbox import BenchboxError, Denoiser, Details, Images, Sigma, TrainingCard
from benchbox_unet import runtimes

Tensor = NDArray[np.float32]
WEIGHTS = Path(__file__).parent / "weights"
_WARM_UP = runtimes.CHUNK, 64, 64  # images, height and width, at most
TILE = 512
"""Side in pixels of the part of a tile that is kept; a multiple of every stride.

Half of it takes 40 % longer for the U-Net, whose wide margins are computed again in every tile, and saves 80 MiB.
"""

Forward = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""From (N, H, W) images and their (N,) levels to (N, H, W) results, for H and W that are multiples of the stride."""


class Network(Denoiser):
    """A network with weights; subclasses define how to build it and how to convert its input and output."""

    shipped: ClassVar[tuple[str, ...]]
    """Names of the weights in the package."""
    stride: ClassVar[int]
    """Height and width are extended to a multiple of this."""
    margin: ClassVar[int]
    """Largest distance in pixels at which an input affects an output; a multiple of `stride`."""

    def __init__(self, *, weights: str, runtime: str) -> None:
        self.weights = weights
        self.runtime = runtime
        self._network: Callable[[Tensor], Tensor] | None = None

    @classmethod
    @abstractmethod
    def build(cls, precision: str = "float32") -> Any:
        """Build the Keras model with random weights."""

    @classmethod
    @abstractmethod
    def arrange(cls, images: Images, levels: Sigma) -> Tensor:
        """Turn images (N, H, W) and their levels (N,) into the model's input."""

    @classmethod
    @abstractmethod
    def restore(cls, answer: Tensor, images: Images) -> Images:
        """Turn the model's output into denoised images."""

    @classmethod
    @abstractmethod
    def step(cls, layer: str) -> int:
        """Distance in pixels of the image between neighbouring values of a layer."""

    def setup(self, shape: tuple[int, ...]) -> None:
        """Load the weights into the runtime and run it once, on a small part of a large stack.

        Running it on all of a photograph would take as long as denoising one.
        """
        self._network = self._load()
        part = np.minimum(shape, _WARM_UP)
        self.denoise(np.zeros(part, np.float32), np.full(part[0], 0.1, np.float32))

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack of any size."""
        if self._network is None:
            self._network = self._load()
        return self.apply(self._network, noisy, sigma)

    @classmethod
    def apply(cls, network: Callable[[Tensor], Tensor], noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack with a loaded network."""
        if sigma is None:
            if cls.capabilities.sigma == "required":
                raise BenchboxError(f"{cls.name} needs the noise level", hint="give or estimate it")
            sigma = np.zeros(len(noisy), np.float32)

        def forward(images: Images, levels: Sigma) -> Images:
            return cls.restore(network(cls.arrange(images, levels)), images)

        return in_tiles(forward, noisy, sigma, stride=cls.stride, margin=cls.margin)

    def card(self) -> TrainingCard:
        """Training card next to the weights; without one, a card for unknown training."""
        weights = self.path(self.weights)
        path = weights.with_suffix(".json")
        if path.is_file():
            return TrainingCard.load(path)
        notes = f"There is no training card for {weights.name}: {path.name} is missing."
        return TrainingCard("unknown", "", "", 0, "unknown", 0, 0.0, "", notes=notes)

    def details(self) -> Details:
        """What the network costs."""
        from benchbox_unet.weights_file import read_weights

        weights = read_weights(self.path(self.weights))
        macs = values = 0.0
        for name, kernel in weights.items():
            layer, _, kind = name.rpartition(".")
            if kind == "kernel":
                pixels = self.step(layer) ** 2
                macs, values = macs + kernel.size / pixels, values + kernel.shape[-1] / pixels
        return Details({}, sum(array.size for array in weights.values()), macs, values)

    def files(self) -> list[Path]:
        """The weights, and their converted form if there is one."""
        weights = self.path(self.weights)
        return [file for file in (weights, weights.with_suffix(".tflite")) if file.is_file()]

    @classmethod
    def path(cls, weights: str) -> Path:
        """File of the weights with this name in `shipped`, or at this path."""
        if weights in cls.shipped:
            return WEIGHTS / f"{cls.name}-{weights}.npz"
        path = Path(weights)
        if not path.is_file():
            raise BenchboxError(
                f"{cls.name}: there are no weights '{weights}'",
                hint=f"use {' or '.join(cls.shipped)}, or the path of a weights.npz that 'benchbox train' wrote",
            )
        return path

    def model(self) -> Any:
        """Build the Keras model with the weights of this denoiser, in float32."""
        from benchbox_unet.weights_file import read_weights, set_weights

        runtimes.start_keras()
        path = self.path(self.weights)
        model = self.build()
        set_weights(model, read_weights(path), str(path))
        return model

    def _load(self) -> Callable[[Tensor], Tensor]:
        from benchbox_unet.weights_file import read_converted

        if self.runtime == "keras":
            return runtimes.Keras(self.model())
        path = self.path(self.weights)
        converted = path.with_suffix(".tflite")
        if converted.is_file():
            # The files in the package match, and checking them would double the time to the first image.
            model = converted.read_bytes() if self.weights in self.shipped else read_converted(converted, path)
            return runtimes.LiteRT(model, str(converted))
        network = self.model()
        import keras

        if keras.backend.backend() != "tensorflow":
            return runtimes.Keras(network)  # only TensorFlow can convert
        return runtimes.LiteRT(runtimes.to_litert(network), str(path))


def in_tiles(network: Forward, images: Images, levels: NDArray[np.float32], *, stride: int, margin: int) -> Images:
    """Run a network on a stack of any size.

    Sides are extended to a multiple of `stride` by reflection at the right and the bottom. `margin`, a multiple of
    `stride`, is the number of pixels around a tile that its result depends on; if it is at least the network's reach,
    the tiled result equals that of the whole image.
    """
    count, height, width = images.shape
    padded = reflect(images, stride)
    if padded.shape[1] <= TILE + 2 * margin and padded.shape[2] <= TILE + 2 * margin:
        return np.ascontiguousarray(network(padded, levels)[:, :height, :width])
    result = np.empty_like(padded)
    for index in range(count):
        for rows, outer_rows in _spans(padded.shape[1], margin):
            for columns, outer_columns in _spans(padded.shape[2], margin):
                tile = np.ascontiguousarray(padded[index : index + 1, outer_rows, outer_columns])
                inner = (
                    slice(rows.start - outer_rows.start, rows.stop - outer_rows.start),
                    slice(columns.start - outer_columns.start, columns.stop - outer_columns.start),
                )
                result[index, rows, columns] = network(tile, levels[index : index + 1])[0][inner]
    return np.ascontiguousarray(result[:, :height, :width])


def reflect(images: Images, stride: int) -> Images:
    """Extend images at the right and the bottom to multiples of `stride`.

    The edge itself is repeated (half-sample symmetric), so that even an image of a single pixel has a reflection.
    """
    extra = [-size % stride for size in images.shape[1:]]
    if not any(extra):
        return images
    return np.pad(images, ((0, 0), (0, extra[0]), (0, extra[1])), mode="symmetric")


def _spans(size: int, margin: int) -> Iterator[tuple[slice, slice]]:
    """The part that each tile keeps, and the part that it reads, along one axis."""
    for start in range(0, size, TILE):
        stop = min(start + TILE, size)
        yield slice(start, stop), slice(max(0, start - margin), min(size, stop + margin))
