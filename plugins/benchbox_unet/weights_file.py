"""The weights file: named arrays in an ``.npz``, never pickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from benchbox import BenchboxError

Tensor = NDArray[np.float32]
MAX_BYTES = 1 << 30
"""Most bytes that a file may unpack to, because a small archive can contain arrays that exhaust memory."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the arrays of an ``.npz`` file, named ``layer.kernel`` and ``layer.bias``; nothing is unpickled.

    Raises `BenchboxError` if the file is missing or contains anything else.
    """
    hint = "give the weights.npz that 'benchbox train' wrote, or the name of built-in weights"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            unpacked = sum(member.file_size for member in stored.zip.infolist())
            if unpacked > MAX_BYTES:
                raise ValueError(f"the file unpacks to {unpacked:,} bytes; the limit is {MAX_BYTES:,}")
            weights = {name: np.asarray(stored[name]) for name in stored.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, BadZipFile, MemoryError) as error:
        raise BenchboxError(f"weights {path}: {error}", hint=hint) from error
    if not all(np.issubdtype(value.dtype, np.floating) and np.isfinite(value).all() for value in weights.values()):
        raise BenchboxError(f"weights {path}: an array contains values that are not finite numbers", hint=hint)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def read_converted(path: Path, weights: Path) -> bytes:
    """Read a ``.tflite`` file and check that it contains the kernels of the ``.npz`` file `weights`.

    Raises `BenchboxError` if it was converted from other weights or a file is damaged.
    """
    model = path.read_bytes()
    for name, value in read_weights(weights).items():
        # LiteRT stores a kernel's output axis first, Keras last. Biases close to zero are not stored exactly.
        if value.ndim > 1 and np.moveaxis(value, -1, 0).astype(np.float16).tobytes() not in model:
            raise BenchboxError(
                f"weights {path}: '{name}' differs from {weights.name} in the same folder",
                hint=f"copy both files again, or delete {path.name}: every run then converts {weights.name}",
            )
    return model


def set_weights(model: Any, weights: Mapping[str, Tensor], source: str) -> None:
    """Set the weights of a Keras model by name; raises `BenchboxError` if names or shapes do not match."""
    hint = f"use weights that 'benchbox train {model.name}' wrote; these belong to another network"
    variables = {weight_name(variable): variable for variable in model.weights}
    if variables.keys() != weights.keys():
        wrong = sorted(variables.keys() ^ weights.keys())[0]
        raise BenchboxError(f"weights {source}: '{wrong}' is missing or unknown", hint=hint)
    for name, variable in variables.items():
        if tuple(variable.shape) != weights[name].shape:
            raise BenchboxError(
                f"weights {source}: '{name}' has shape {weights[name].shape}, the network's is {tuple(variable.shape)}",
                hint=hint,
            )
        variable.assign(weights[name])


def weight_name(variable: Any) -> str:
    """Name of a Keras variable in a weights file: ``encoder1_conv1.kernel``."""
    return str(variable.path).replace("/", ".")
