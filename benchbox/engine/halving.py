"""Chooses how many images each candidate of a search is scored on: all, or what the time budget allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HALVING = 3
"""A round of successive halving takes one part in so many of the time left, and keeps one candidate in so many."""


@dataclass(frozen=True)
class Trial:
    """What one setting came to."""

    label: str  # canonical specification
    # mean of the metric over images and noises in the last round that it took part in; NaN where it failed
    score: float
    images: int  # images of that round
    reason: str = ""  # why it failed; empty where it did not


@dataclass(frozen=True)
class Pace:
    """Seconds that one worker needs for one candidate."""

    start_s: float  # whatever the number of images: the process, imports, weights, the share of the round itself
    image_s: float  # for each image


@dataclass(frozen=True)
class Budget:
    """Time that a search may take."""

    end: float  # when it is spent, by `clock`
    clock: Callable[[], float]  # seconds, never going back
    jobs: int  # candidates that are scored at once
    probe: Callable[[Sequence[str]], Pace]  # ``(labels) -> pace``: measures on as few images as can be


Round = Callable[[Sequence[str], int], list[Trial]]


def search(
    labels: Sequence[str], total: int, score: Round, higher_is_better: bool, budget: Budget | None
) -> list[Trial]:
    """Score candidates on all images, or on as many as the budget allows.

    As soon as the time left allows the remaining candidates on all images, that is the last round. Until then each
    round takes a third of the time left, and keeps the best third (successive halving: Jamieson and Talwalkar, AISTATS
    2016); three candidates and fewer take all of it, and so do many where a third would hardly start them. Candidates
    share images and noise, so that few images rank them. The first candidate is kept to the end, as the start of the
    comparison. The first round takes one image at least, which may be more than the budget allows.
    """
    if budget is None:
        return _ranked(score(labels, total), higher_is_better)
    pace = budget.probe(labels)
    left, images = list(labels), 0
    trials: list[Trial] = []
    out: list[Trial] = []
    while True:
        begun = budget.clock()
        waves = math.ceil(len(left) / budget.jobs)
        most = _affordable(pace, waves, budget.end - begun, total)
        part = _affordable(pace, waves, (budget.end - begun) / HALVING, total)
        # Nine images rank badly, and where starting takes most of a round, dropping costs more images than it gains.
        last = most == total or len(left) <= HALVING or part < HALVING**2 or HALVING**2 * part < most
        wanted = most if last else part
        if images and wanted <= images:
            return trials + out
        out = [trial for trial in trials if trial.label not in left] + out
        images = max(1, wanted)
        trials = _ranked(score(left, images), higher_is_better)
        fit = [trial.label for trial in trials if not trial.reason]
        if last or not fit:
            return trials + out
        pace = _corrected(pace, images, (budget.clock() - begun) / waves)
        kept = {*fit[: math.ceil(len(fit) / HALVING)], labels[0]} & set(fit)
        left = [label for label in left if label in kept]


def _affordable(pace: Pace, waves: int, seconds: float, total: int) -> int:
    """Images of a round that takes so long, with so many candidates one after another."""
    free = max(0.0, seconds / waves - pace.start_s)
    return int(free / pace.image_s) if free < total * pace.image_s else total if free else 0


def _corrected(pace: Pace, images: int, took: float) -> Pace:
    """What a round says of the pace. A round faster than foreseen may have started faster: its images are not free."""
    factor = took / (pace.start_s + images * pace.image_s)
    image_s = max(factor * pace.image_s, (took - pace.start_s) / images)
    return Pace(min(1.0, factor) * pace.start_s, image_s)


def _ranked(trials: Sequence[Trial], higher_is_better: bool) -> list[Trial]:
    sign = -1 if higher_is_better else 1
    return sorted(trials, key=lambda trial: math.inf if trial.reason else sign * trial.score)
