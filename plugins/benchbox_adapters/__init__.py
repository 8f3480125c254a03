"""Denoisers that need no code: a trained model file, or any program that reads and writes files."""

from __future__ import annotations

from benchbox import Denoiser, hookimpl


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Return the adapters."""
    from benchbox_adapters.command import Command
    from benchbox_adapters.models import Keras, LiteRT, Onnx
    from benchbox_adapters.torch_model import Torch

    return [Command, Keras, LiteRT, Onnx, Torch]
