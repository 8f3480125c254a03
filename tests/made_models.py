"""Small model files that a test knows the answer of: a mean of 3x3 pixels in ONNX, Keras and LiteRT."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchbox_adapters.fitting import picture

from benchbox import Images

BOX = np.full((1, 1, 3, 3), 1 / 9, np.float32)
DELTA = np.zeros((1, 1, 3, 3), np.float32)
DELTA[0, 0, 1, 1] = 1


def noisy(count: int = 3, height: int = 48, width: int = 48) -> Images:
    clean = np.stack([picture(height, width)] * count)
    return clean + np.float32(0.1) * np.random.default_rng(1).standard_normal(clean.shape, dtype=np.float32)


def mean3(images: Images) -> Images:
    """Mean of 3x3 pixels with zeros around the image, as a convolution with 'same' padding has it."""
    height, width = images.shape[1:]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    total = sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3))
    return np.asarray(total / np.float32(9), np.float32)


def save_onnx(
    file: Path,
    *,
    kernel: Any = BOX,
    shape: Sequence[Any] = ("n", 1, "h", "w"),
    floor: float | None = None,
    dtype: str = "FLOAT",
    inputs: int = 1,
) -> Path:
    """A convolution with one 3x3 kernel; with `floor`, nothing comes out below it."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, getattr(onnx.TensorProto, dtype)
    names = [f"x{index}" for index in range(inputs)]
    if dtype == "FLOAT":
        nodes = [helper.make_node("Conv", ["x0", "kernel"], ["conv"], pads=[1, 1, 1, 1])]
        nodes.append(helper.make_node("Max", ["conv", "floor"], ["y"]))
    else:
        nodes = [helper.make_node("Identity", ["x0"], ["y"])]
    constants = {"kernel": kernel, "floor": np.float32(-1e9 if floor is None else floor)}
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
        [helper.make_tensor_value_info("y", kind, None)],
        [onnx.numpy_helper.from_array(np.asarray(value, np.float32), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(model.SerializeToString())
    return file


@functools.cache
def keras() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    return keras


def save_keras(
    file: Path, *, kernel: Any = BOX, shape: Sequence[int | None] = (None, None, 1), halves: int = 0
) -> Path:
    """A convolution; with `halves`, the image is shrunk that often and grown again, and added to itself, half each."""
    layers = keras().layers
    x = layers.Input(shape)
    y = layers.Conv2D(shape[-1], 3, padding="same", use_bias=False)(x)
    small = y
    for _ in range(halves):
        small = layers.AveragePooling2D(2)(small)
    for _ in range(halves):
        small = layers.UpSampling2D(2)(small)
    y = layers.Average()([y, small]) if halves else y
    model = keras().Model(x, y)
    channels = shape[-1] or 1
    weights = np.zeros((3, 3, channels, channels), np.float32)
    for channel in range(channels):
        weights[:, :, channel, channel] = kernel[0, 0]
    model.set_weights([weights])
    model.save(file)
    return file


def save_litert(file: Path, **options: Any) -> Path:
    import tensorflow as tf

    model = keras().models.load_model(save_keras(file.with_suffix(".keras"), **options))
    file.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return file
