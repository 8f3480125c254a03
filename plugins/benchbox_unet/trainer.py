"""Trains the networks with Keras, on any Keras backend."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox import BenchboxError, Images, Sigma, TrainableDenoiser, Trainer
from benchbox_unet.network import Network, Tensor, reflect
from benchbox_unet.runtimes import start_keras, to_litert
from benchbox_unet.weights_file import read_weights, set_weights, weight_name


class TrainableNetwork(Network, TrainableDenoiser):
    """A network that can be trained; subclasses define the target of the model."""

    @classmethod
    def prepare(cls, model: Any) -> None:
        """Change random weights in place before training."""

    @classmethod
    @abstractmethod
    def target(cls, noisy: Images, clean: Images) -> Tensor:
        """Return the desired output of the model."""

    @classmethod
    def importance(cls, levels: Sigma) -> Tensor:
        """Weight (N,) of each image in the loss."""
        return np.ones(len(levels), np.float32)

    def trainer(self, recipe: str, *, seed: int, start: str = "") -> Trainer:
        """Start a training run; see `TrainableDenoiser.trainer`."""
        return KerasTrainer(type(self), recipe, seed=seed, start=start)


class KerasTrainer(Trainer):
    """Adam on the mean squared error, with images weighted by `TrainableNetwork.importance`.

    The recipe 'original' starts from Keras' initial weights, as published; the others call `prepare` on them. `start`
    names weights to start from, or is empty.
    """

    def __init__(self, network: type[TrainableNetwork], recipe: str, *, seed: int, start: str) -> None:
        keras = start_keras()
        keras.utils.set_random_seed(seed)
        self._network = network
        self.precision = fastest_precision()
        self._model = network.build(self.precision)
        if start:
            path = network.path(start)
            set_weights(self._model, read_weights(path), str(path))
        elif recipe != "original":
            network.prepare(self._model)
        self._optimizer = keras.optimizers.Adam(1e-3)
        self._model.compile(self._optimizer, loss=_squared_error, metrics=[self._accurate])
        self._optimizer.build(self._model.trainable_variables)
        # Predictions always use float32, as they will with the saved weights.
        self._exact = network.build()
        self._forward = _compiled(self._exact)
        self._stale = True

    def step(self, noisy: Images, clean: Images, sigma: Sigma, learning_rate: float) -> tuple[float, float]:
        """Take one step; see `Trainer.step`."""
        self._optimizer.learning_rate.assign(learning_rate)
        self._model.reset_metrics()
        self._stale = True
        # Extended as in `denoise`; pixels beyond the images have no target, and the loss is the mean over the others.
        padded = reflect(noisy, self._network.stride)
        extra = [(0, larger - size) for larger, size in zip(padded.shape, clean.shape, strict=True)]
        target = self._network.target(padded, np.pad(clean, extra, constant_values=np.nan))
        share = np.float32(padded.size / clean.size)
        weights = share * self.importance(sigma)[:, np.newaxis, np.newaxis]
        arranged = self._network.arrange(padded, sigma)
        loss, accuracy = self._model.train_on_batch(arranged, target, sample_weight=weights)
        return float(loss), float(share * accuracy)

    def importance(self, sigma: Sigma) -> NDArray[np.float32]:
        """Weight of each image in the loss; see `Trainer.importance`."""
        return self._network.importance(sigma)

    def _accurate(self, target: Any, answer: Any) -> Any:
        from keras import ops

        # Keras passes NumPy arrays or tensors, depending on its backend.
        return ops.cast(ops.abs(ops.convert_to_tensor(target) - answer) <= self.tolerance, "float32")

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise with the current weights; see `Trainer.denoise`."""
        if self._stale:
            self._exact.set_weights(self._model.get_weights())
            self._stale = False
        return self._network.apply(self._forward, noisy, sigma)

    def state(self) -> Mapping[str, NDArray[np.generic]]:
        """Weights and the optimiser's variables."""
        state = {f"weights.{weight_name(variable)}": _array(variable) for variable in self._model.weights}
        for index, variable in enumerate(self._optimizer.variables):
            state[f"optimizer.{index}"] = _array(variable)
        return state

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore a state; raises `BenchboxError` if it belongs to another network."""
        variables = {f"weights.{weight_name(variable)}": variable for variable in self._model.weights}
        variables |= {f"optimizer.{index}": variable for index, variable in enumerate(self._optimizer.variables)}
        for name, variable in variables.items():
            if name not in state or state[name].shape != tuple(variable.shape):
                raise BenchboxError(
                    f"training state: '{name}' is missing or has another shape",
                    hint="resume with the same options as the original command",
                )
            variable.assign(state[name])
        self._stale = True

    def save(self, folder: Path) -> Path:
        """Write ``weights.npz`` in float16 and the converted ``weights.tflite``; see `Trainer.save`."""
        path = folder / "weights.npz"
        rounded: dict[str, Any] = {
            weight_name(variable): _array(variable).astype(np.float16) for variable in self._model.weights
        }
        with path.open("wb") as out:
            np.savez(out, **rounded)
        exported = self._network.build()
        set_weights(exported, read_weights(path), str(path))
        import keras

        if keras.backend.backend() == "tensorflow":
            path.with_suffix(".tflite").write_bytes(to_litert(exported))
        return path

    def describe(self) -> str:
        """Library, optimiser and precision."""
        import keras

        return f"Keras {keras.__version__} on {keras.backend.backend()}, Adam, {self.precision}."


def _squared_error(target: Any, answer: Any) -> Any:
    """Mean over the last axis; 0 where the target is NaN."""
    from keras import ops

    target = ops.convert_to_tensor(target)
    return ops.mean(ops.square(ops.where(ops.isnan(target), 0.0, target - answer)), axis=-1)


def fastest_precision() -> str:
    """Keras dtype policy for training: bfloat16 products if the processor supports them, otherwise float32."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return "mixed_bfloat16"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def _array(variable: Any) -> NDArray[np.float32]:
    import keras

    return np.array(keras.ops.convert_to_numpy(variable))


def _compiled(model: Any) -> Any:
    import keras

    if keras.backend.backend() != "tensorflow":
        return lambda x: keras.ops.convert_to_numpy(model(x, training=False))
    import tensorflow as tf

    forward = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    return lambda x: forward(x).numpy()
