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
"""What a file may unpack to; a small archive can hold arrays that fill the memory."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a network; arrays only, nothing is unpickled.

    Parameters
    ----------
    path : Path
        An ``.npz`` file of float16 or float32 arrays, named ``layer.kernel`` and ``layer.bias``.

    Returns
    -------
    dict of str to ndarray of float32

    Raises
    ------
    BenchboxError
        The file is missing or holds something else.
    """
    hint = "give the weights.npz that 'benchbox train' wrote, or the name of weights that are built in"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            unpacked = sum(member.file_size for member in stored.zip.infolist())
            if unpacked > MAX_BYTES:
                raise ValueError(f"it unpacks to {unpacked:,} bytes; at most {MAX_BYTES:,} are read")
            weights = {name: np.asarray(stored[name]) for name in stored.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, BadZipFile, MemoryError) as error:
        raise BenchboxError(f"weights {path}: {error}", hint=hint) from error
    if not all(np.issubdtype(value.dtype, np.floating) and np.isfinite(value).all() for value in weights.values()):
        raise BenchboxError(f"weights {path}: an array is not of finite numbers", hint=hint)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def read_converted(path: Path, weights: Path) -> bytes:
    """Read a model that was converted for LiteRT, and see that it holds the kernels of a weights file.

    Parameters
    ----------
    path : Path
        A ``.tflite`` file that `convert.to_litert` made.
    weights : Path
        The ``.npz`` file that it is to have been converted from.

    Raises
    ------
    BenchboxError
        It was converted from other weights, or a file is damaged.
    """
    model = path.read_bytes()
    for name, value in read_weights(weights).items():
        # LiteRT keeps a kernel's outputs first, Keras last. Biases next to zero are not kept as they are.
        if value.ndim > 1 and np.moveaxis(value, -1, 0).astype(np.float16).tobytes() not in model:
            raise BenchboxError(
                f"weights {path}: '{name}' is not that of {weights.name} beside it; it is of other weights, or damaged",
                hint=f"delete {path.name}, and {weights.name} is converted anew in each run; or copy both files again",
            )
    return model


def set_weights(model: Any, weights: Mapping[str, Tensor], source: str) -> None:
    """Give a Keras model its weights by name.

    Raises
    ------
    BenchboxError
        Names or shapes are not those of the model.
    """
    hint = f"give weights that 'benchbox train {model.name}' wrote; these are of another network"
    own = {weight_name(variable): variable for variable in model.weights}
    if own.keys() != weights.keys():
        wrong = sorted(own.keys() ^ weights.keys())[0]
        raise BenchboxError(f"weights {source}: '{wrong}' is missing or unknown", hint=hint)
    for name, variable in own.items():
        if tuple(variable.shape) != weights[name].shape:
            raise BenchboxError(
                f"weights {source}: '{name}' has shape {weights[name].shape}, the network's is {tuple(variable.shape)}",
                hint=hint,
            )
        variable.assign(weights[name])


def weight_name(variable: Any) -> str:
    """Name of a Keras variable in a weights file: ``encoder1_conv1.kernel``."""
    return str(variable.path).replace("/", ".")
