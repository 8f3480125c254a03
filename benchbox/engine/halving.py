"""Successive halving: decides how many images each candidate of a search is scored on within a time budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HALVING = 3
"""Each round takes this fraction of the remaining time and keeps this fraction of the candidates: one third."""


@dataclass(frozen=True)
class Trial:
    """Result of one candidate."""

    label: str  # canonical specification
    # mean of the metric over images and noises in its last round; NaN if it failed
    score: float
    images: int  # images of that round
    reason: str = ""  # why it failed; empty if it did not


@dataclass(frozen=True)
class Pace:
    """Seconds that one worker needs for one candidate."""

    start_s: float  # start-up: the process, imports, weights, a share of the round's overhead
    image_s: float  # per image


@dataclass(frozen=True)
class Budget:
    """Time limit of a search."""

    end: float  # deadline, in the time of `clock`
    clock: Callable[[], float]  # monotonic, in seconds
    jobs: int  # candidates scored in parallel
    probe: Callable[[Sequence[str]], Pace]  # ``(labels) -> pace``: measured on as few images as possible


Round = Callable[[Sequence[str], int], list[Trial]]


def search(
    labels: Sequence[str], total: int, score: Round, higher_is_better: bool, budget: Budget | None
) -> list[Trial]:
    """Score candidates on all `total` images, or on as many as the budget allows.

    Each round takes a third of the remaining time and keeps the best third (successive halving: Jamieson and Talwalkar,
    AISTATS 2016). The last round takes all of it: once the time suffices for all images, once three candidates or fewer
    are left, or if a third would hardly cover their start-up. Candidates share images and noise, so a few images are
    enough to rank them. The first candidate is kept to the end as the baseline. The first round uses at least one
    image, even if that exceeds the budget. Returns the last round first; within a round the best first, failures last.
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
        # Fewer than nine images rank badly, and if start-up dominates a round, dropping candidates costs more images
        # than it gains.
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
    """Images per candidate for a round of `seconds` in which each worker runs `waves` candidates in turn."""
    free = max(0.0, seconds / waves - pace.start_s)
    return int(free / pace.image_s) if free < total * pace.image_s else total if free else 0


def _corrected(pace: Pace, images: int, took: float) -> Pace:
    """Pace corrected by a finished round; a fast one may be due to fast start-up, so images never become free."""
    factor = took / (pace.start_s + images * pace.image_s)
    image_s = max(factor * pace.image_s, (took - pace.start_s) / images)
    return Pace(min(1.0, factor) * pace.start_s, image_s)


def _ranked(trials: Sequence[Trial], higher_is_better: bool) -> list[Trial]:
    sign = -1 if higher_is_better else 1
    return sorted(trials, key=lambda trial: math.inf if trial.reason else sign * trial.score)
