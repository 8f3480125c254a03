"""Searches the options of a denoiser by successive halving: each round is a run, and the best options are kept."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError
from benchbox.api.version import DISTRIBUTION
from benchbox.engine.construction import construct
from benchbox.engine.data import find_dataset, open_data
from benchbox.engine.events import Event, ShardDone
from benchbox.engine.run import execute
from benchbox.records.options import RunOptions
from benchbox.records.specs import Spec, parse_spec, write_value
from benchbox.records.tuned import TunedOptions, apply_tuned
from benchbox.registry import TRIAL_S, Entry, Registry, load_registry
from benchbox.stats.summaries import mean_of
from benchbox.store import RunStore

HALVING = 3
"""Each round takes this fraction of the remaining time and keeps this fraction of the candidates: one third."""
PROBED = 3
"""Candidates timed before a search with a budget: the first, the last and one in between."""


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


@dataclass(frozen=True)
class TuneConfig:
    """Configuration of a search."""

    denoiser: str  # specification; the options it sets stay fixed
    # options with the values to try; every combination is a candidate
    space: tuple[tuple[str, tuple[str, ...]], ...]
    # of every round, which is a run, with one metric, the one to improve; no split means the one for fitting
    options: RunOptions
    budget_s: float | None = None  # approximate limit; None scores the whole grid on all images
    command: str = ""  # as typed, for the record


@dataclass(frozen=True)
class TuneResult:
    """Result of a search."""

    best: TunedOptions
    trials: tuple[Trial, ...]  # all candidates, those scored on most images first, then the best first
    start: str  # label of the baseline: the denoiser as it was named
    unit: str  # of the metric
    runs: tuple[Path, ...]  # folders of the runs, one a round
    notes: tuple[str, ...] = ()  # remarks on the images, such as how many were left out


def parse_space(text: str) -> tuple[str, tuple[str, ...]]:
    """Parse ``size=3,5,7``; raises `BenchboxError` unless it lists different values."""
    key, _, rest = text.partition("=")
    values = tuple(value.strip() for value in rest.split(","))
    if not key.strip() or not all(values) or len(set(values)) < len(values):
        raise BenchboxError(
            f"--space {text}: not an option with different values", hint="write for example --space size=3,5,7"
        )
    return key.strip(), values


def tune(config: TuneConfig, on_event: Callable[[Event], None]) -> TuneResult:
    """Search the options of a denoiser.

    Every combination is scored as in a run, with the same noise; one that fails is listed with its reason. The denoiser
    as it was named is one of the candidates, so the result is never worse than it on the images used.
    """
    begun = time.monotonic()
    given = config.options
    registry = load_registry(
        [Path(file) for file in given.plugins],
        [Path(folder) for folder in given.plugin_folders],
        timeout_s=given.timeout_s,
        on_event=on_event,
    )
    candidates = make_candidates(config.denoiser, config.space, registry, given.timeout_s)
    datasets = {name: entry.cls() for name, entry in registry.datasets.items()}
    # Nothing is reused: a budget is planned by how long each candidate takes.
    split = given.split or find_dataset(given, datasets).fitted
    rounds = replace(given, split=split, timing=False, previews=0, fresh=True)
    total = len(open_data(rounds, datasets))
    stores: list[RunStore] = []

    def score(labels: Sequence[str], images: int) -> list[Trial]:
        round_options = replace(rounds, denoisers=tuple(labels), limit=images)
        stores.append(execute(round_options, on_event, config.command))
        return _trials(stores[-1])

    def probe(labels: Sequence[str]) -> Pace:
        return measure_pace(replace(rounds, denoisers=tuple(labels), limit=1), on_event)

    budget = None
    if config.budget_s is not None:
        budget = Budget(begun + config.budget_s, time.monotonic, rounds.workers, probe)
    higher = registry.metric(given.metrics[0]).cls.higher_is_better
    trials = search(list(candidates), total, score, higher, budget)
    best = trials[0]
    if best.reason:
        raise BenchboxError(
            f"no setting of {config.denoiser} could be scored: {best.reason}", hint="try it with benchbox run"
        )
    start = next(iter(candidates))
    record = stores[-1].record
    provider = record.denoisers[0].plugin.provider
    tuned = TunedOptions(
        denoiser=parse_spec(config.denoiser).name,
        options=candidates[best.label],
        dataset=record.data.dataset,
        split=record.data.split,
        images=record.data.images,
        fingerprint=record.data.fingerprint,
        noises=tuple(noise.spec for noise in record.noises),
        protocol=record.protocol,
        metric=record.metrics[0].spec,
        score=_finite(best.score),
        start_score=_finite(next(trial.score for trial in trials if trial.label == start)),
        candidates=len(candidates),
        run=record.run_id,
        command=config.command,
        versions={DISTRIBUTION: record.environment.versions[DISTRIBUTION]}
        | ({provider.distribution: provider.version} if provider.distribution else {}),
    )
    notes = record.data.notes
    if record.data.images < total:
        notes = (*notes, f"the budget allowed {record.data.images} of {total} images in the last round")
    return TuneResult(
        tuned, tuple(trials), start, record.metrics[0].unit, tuple(store.folder for store in stores), notes
    )


def measure_pace(run: RunOptions, on_event: Callable[[Event], None]) -> Pace:
    """Measure the mean pace of a few candidates of a round; nothing is stored.

    The images are drawn twice, so that the second draw is denoised by a warm worker. Workers run one at a time, so that
    the time between two shards is the work of one candidate. If all candidates fail, an image is assumed to take as
    long as a whole candidate did.
    """
    some = tuple(dict.fromkeys(run.denoisers[i * (len(run.denoisers) - 1) // (PROBED - 1)] for i in range(PROBED)))
    draws = run.repeats
    done: dict[str, list[float]] = {label: [] for label in some}

    def note(event: Event) -> None:
        if isinstance(event, ShardDone):
            done[event.cell.denoiser].append(time.monotonic())
        on_event(event)

    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        execute(replace(run, denoisers=some, repeats=2 * draws, jobs=1, results=folder), note)
    each = (time.monotonic() - begun) / len(some)
    shards = max(1, len(run.noise)) * draws
    gaps = [(times[-1] - times[0]) / (len(times) - 1) for times in done.values() if len(times) > 1]
    image_s = float(np.mean(gaps)) * shards if gaps else each
    return Pace(max(0.0, each - 2 * image_s), image_s)


def make_candidates(
    denoiser: str, space: Sequence[tuple[str, tuple[str, ...]]], registry: Registry, timeout_s: float = TRIAL_S
) -> dict[str, dict[str, str]]:
    """Options of every combination by canonical specification; the denoiser as it was named comes first."""
    named, _ = apply_tuned(parse_spec(denoiser))
    keys = [key for key, _ in space]
    candidates: dict[str, Entry[Denoiser]] = {}
    for values in [(), *itertools.product(*(values for _, values in space))]:
        spec = Spec(named.name, named.value, (*named.options, *zip(keys, values, strict=bool(values))))
        candidate = registry.denoiser(spec)
        candidates.setdefault(candidate.spec, candidate)
    for made in construct(candidates.values(), timeout_s):
        if made.refused:
            raise made.refused
    return {
        spec: {key: write_value(value) for key, value in candidate.values.items()}
        for spec, candidate in candidates.items()
    }


def _trials(store: RunStore) -> list[Trial]:
    outcomes = store.outcomes()
    metric = store.record.metrics[0]
    trials = []
    for denoiser in store.record.denoisers:
        cells = [cell for cell in store.record.cells if cell.denoiser == denoiser.spec]
        reason = next((outcomes[cell.key].reason for cell in cells if outcomes[cell.key].status != "ok"), "")
        score = math.nan
        if not reason:
            score = float(np.mean([mean_of(store.scores(cell.key)[metric.spec], metric.unit).mean for cell in cells]))
            if math.isnan(score):
                reason = f"it has no image with a finite {metric.label}"
        trials.append(Trial(denoiser.spec, score, store.record.data.images, reason))
    return trials


def _finite(score: float) -> float | None:
    """The score, or None for infinity and NaN, which JSON does not know."""
    return score if math.isfinite(score) else None
