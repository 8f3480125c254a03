"""What a PyTorch module of an unknown class takes: an image of so many channels and, perhaps, a noise level."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from benchbox import BenchboxError
from benchbox_adapters.conventions import Input

# Of the image, by those of a first convolution: with the level among them, or on phases of half the size.
_IMAGE_CHANNELS = {1: 1, 2: 1, 3: 3, 4: 3, 5: 1, 12: 3, 13: 3, 15: 3}


def first_input(tensors: Any, told: bool = False) -> Input:
    """The image input of a module of an unknown class, by the channels of its first convolution.

    A module that is told the level beside the image may put it behind the image's channels itself.
    """
    first = next((int(tensor.shape[1]) for tensor in tensors.values() if len(tensor.shape) == 4), 0)
    channels = first if first <= 4 and not told else _IMAGE_CHANNELS.get(first)
    return Input((None, channels, None, None) if channels else None)


def unwrapped(module: Any) -> Any:
    """The network inside `DataParallel` or `torch.compile`, which hide what it takes."""
    torch = sys.modules["torch"]
    while True:
        if isinstance(module, torch.nn.DataParallel):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            return module


def inputs_of_module(module: Any) -> tuple[tuple[Input, ...], int]:
    """The image and, if the forward pass takes it, the noise level; and how many of the two it needs."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except ValueError:  # a TorchScript module has none
        return (first_input(module.state_dict()), Input(None)), 1
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(parameter.default is parameter.empty for parameter in positional)
    if needed > 2:
        names = ", ".join(parameter.name for parameter in positional)
        raise BenchboxError(
            f"{type(module).__name__}.forward takes {names}",
            hint="wrap it in a module that takes an image and at most a noise level",
        )
    image = first_input(module.state_dict(), told=len(positional) > 1)
    return (image, Input(None)) if len(positional) > 1 else (image,), max(1, needed)
