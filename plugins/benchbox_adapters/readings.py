"""What a PyTorch network takes, by its state dict or signature, and which reading of a model file denoises best."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from benchbox import BenchboxError
from benchbox_adapters.conventions import Convention, Input, Opened
from benchbox_adapters.fitting import LEVELS, WORTH_DB, Given, fit, gains_of
from benchbox_adapters.recogniser import Recognised

_MOST_ROUNDS = 3
# Of the image, by those of a first convolution: with the level among them, or on phases of half the size.
_IMAGE_CHANNELS = {1: 1, 2: 1, 3: 3, 4: 3, 5: 1, 12: 3, 13: 3, 15: 3}


@dataclass(frozen=True)
class Reading:
    """One way to understand a model file."""

    label: str
    """Name and details of the network."""
    module: Any
    opened: Opened
    given: Given
    """What is known about it."""
    recognised: Recognised | None = None
    """What it was made of; None for a module that somebody else made."""
    doubtful: bool = False
    """Whether it is of use only if no other reading denoises."""


def inputs_of(recognised: Recognised) -> tuple[Input, ...]:
    """Inputs of a network that is recognised."""
    image = Input((None, recognised.channels + (recognised.sigma == "channel"), None, None))
    return (image, Input((None,))) if recognised.sigma == "vector" else (image,)


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


def best_of(readings: Iterable[Reading], where: str, user: Given) -> tuple[Reading, Convention]:
    """The reading that denoises best, the first of those that are as good; raises the `BenchboxError` of the first."""
    best: tuple[Reading, Convention] | None = None
    refused: BenchboxError | None = None
    for reading in readings:
        if best is not None and reading.doubtful:
            break
        try:
            convention = fit(reading.opened, where, reading.given, user=user)
        except BenchboxError as error:
            refused = refused or error
            continue
        if best is None or convention.gain > best[1].gain + WORTH_DB:
            best = reading, convention
    if best is None:
        assert refused is not None
        raise refused
    return best


def settled(recognised: Recognised, open: Callable[[Recognised], Opened], convention: Convention) -> Recognised:
    """Choose what a state dict does not show, one field after another, until nothing denoises better.

    A network for a single noise level may denoise another level better with a wrong slope, so another slope must be
    better at both levels. The border counts, because ways to double the size differ most there.
    """
    best, best_gains = recognised, gains_of(open(recognised), convention, LEVELS, border=0)
    for _ in range(_MOST_ROUNDS):
        before = best
        for name, values in recognised.choices.items():
            usual, usual_gains = best, best_gains
            for value in values:
                if value == getattr(usual.unseen, name):
                    continue
                trial = replace(usual, unseen=replace(usual.unseen, **{name: value}))
                gains = gains_of(open(trial), convention, LEVELS, border=0)
                certain = name != "slope" or (gains > usual_gains + WORTH_DB).all()
                if certain and gains.mean() > best_gains.mean():
                    best, best_gains = trial, gains
        if best == before:
            break
    return best
