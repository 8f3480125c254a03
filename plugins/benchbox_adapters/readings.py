"""Chooses among the readings of a model file, and settles what a state dict does not show, by what denoises best."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from benchbox import BenchboxError
from benchbox_adapters.conventions import Convention, Input, Opened
from benchbox_adapters.fitting import LEVELS, WORTH_DB, Given, fit, gains_of
from benchbox_adapters.recogniser import Recognised

_MOST_ROUNDS = 3


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
