"""Trained PyTorch checkpoints in the forms that people publish, from the weights that are bundled for Keras."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from benchbox_unet.ffdnet import FFDNet
from benchbox_unet.weights_file import read_weights


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.marker}'",)


def equal(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    import torch

    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def ffdnet_state(form: str = "ipol", channels: int = 1) -> dict[str, Any]:
    """The bundled FFDNet as the state dict of a port (noise map first, returns noise), or of KAIR (map last, image).

    For colour, the grey network works on each channel by itself.
    """
    import torch

    weights = read_weights(FFDNet.path("gaussian"))
    names = [f"conv{layer}" for layer in range(1, 12)] + ["output"]
    state = {}
    for place, name in enumerate(names):
        kernel = np.moveaxis(weights[f"{name}.kernel"], (3, 2), (0, 1))
        bias = weights[f"{name}.bias"]
        if form == "kair":
            kernel, bias = _carrying_the_image(kernel, bias, place, len(names))
        if channels == 3:
            kernel, bias = _three_times(kernel, place == 0), np.tile(bias, 3)
        if form == "ipol" and place == 0:
            kernel = kernel[:, [-1, *range(kernel.shape[1] - 1)]]
        layer = {"ipol": f"intermediate_dncnn.itermediate_dncnn.{2 * place}", "kair": f"model.{2 * place}"}[form]
        state[f"{layer}.weight"] = torch.tensor(np.ascontiguousarray(kernel))
        state[f"{layer}.bias"] = torch.tensor(np.ascontiguousarray(bias))
    return state


def _carrying_the_image(kernel: Any, bias: Any, place: int, layers: int) -> tuple[Any, Any]:
    """Eight more channels that hand the four sub-images on, positive and negative, so that the image comes out."""
    outputs, inputs = kernel.shape[:2]
    first, last = place == 0, place == layers - 1
    whole = np.zeros((outputs + (0 if last else 8), inputs + (0 if first else 8), 3, 3), np.float32)
    whole[:outputs, :inputs] = -kernel if last else kernel
    for image in range(4):
        for half, sign in enumerate((1, -1)):
            row, column = outputs + 4 * half + image, inputs + 4 * half + image
            if first:
                whole[row, image, 1, 1] = sign
            elif last:
                whole[image, column, 1, 1] = sign
            else:
                whole[row, column, 1, 1] = 1
    return whole, np.concatenate([-bias if last else bias, np.zeros(0 if last else 8, np.float32)])


def dncnn_state(style: str = "model") -> dict[str, Any]:
    """A DnCNN of three layers that returns the image minus its mean over 3x3 pixels, on any scale."""
    import torch

    first, last = torch.zeros(2, 1, 3, 3), torch.zeros(1, 2, 3, 3)
    first[0, 0, 1, 1], first[1, 0, 1, 1] = 1, -1  # both signs pass the ReLU
    middle = torch.zeros(2, 2, 3, 3)
    middle[0, 0, 1, 1] = middle[1, 1, 1, 1] = 1
    last[0, 0], last[0, 1] = -1 / 9, 1 / 9
    last[0, 0, 1, 1] += 1
    last[0, 1, 1, 1] -= 1
    return {f"{style}.{2 * place}.weight": kernel for place, kernel in enumerate((first, middle, last))}


def deep_dncnn_state() -> dict[str, Any]:
    """A DnCNN of seven layers that returns the image minus its mean over 3x3 pixels.

    The fourth layer takes the mean: read as an IRCNN, which has the same names and shapes, it would skip three pixels.
    """
    import torch

    state = {}
    for place in range(7):
        kernel = torch.zeros(1 if place == 6 else 4, 1 if place == 0 else 4, 3, 3)
        for channel, sign in enumerate((1.0, -1.0, 1.0, -1.0)):  # both signs pass the ReLU; two of them for the mean
            if place == 3 and channel > 1:
                kernel[channel, channel] = 1 / 9
            elif place == 0:
                kernel[channel, 0, 1, 1] = sign
            elif place == 6:
                kernel[0, channel, 1, 1] = sign if channel < 2 else -sign
            else:
                kernel[channel, channel, 1, 1] = 1.0
        state[f"model.{2 * place}.weight"] = kernel
    return state


def _three_times(kernel: Any, is_first: bool) -> Any:
    """A kernel for three independent images, whose last input, the noise map of the first layer, is shared."""
    outputs, inputs = kernel.shape[:2]
    own = inputs - is_first
    whole = np.zeros((3 * outputs, 3 * own + is_first, 3, 3), np.float32)
    for channel in range(3):
        rows = slice(channel * outputs, (channel + 1) * outputs)
        whole[rows, channel * own : (channel + 1) * own] = kernel[:, :own]
        whole[rows, 3 * own :] = kernel[:, own:]
    return whole
