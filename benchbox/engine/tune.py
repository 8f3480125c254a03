"""Searches the options of a denoiser: a grid, or successive halving where the time does not allow it."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchbox.api.errors import BenchboxError
from benchbox.api.options import build, canonical, resolve, write_value
from benchbox.api.records import DataRequest, Protocol
from benchbox.api.spec import Spec, parse_spec
from benchbox.api.tuned import TunedOptions, apply_tuned
from benchbox.builtin.datasets.choose import choose
from benchbox.engine.data import open_data
from benchbox.engine.events import Event
from benchbox.engine.limits import Limits
from benchbox.engine.plan import DEFAULT_NOISE, RunConfig
from benchbox.engine.runner import execute
from benchbox.registry import Registry, load_registry
from benchbox.store import RunStore

FITTED = "Training"
"""The split that options are fitted to where the data set has it and none is named."""
HALVING = 3
"""A round of successive halving keeps one candidate in so many, on so many times the images."""


@dataclass(frozen=True)
class TuneConfig:
    """A search as a user asks for it.

    Attributes
    ----------
    denoiser : str
        Specification; the options it sets stay fixed.
    space : tuple of (str, tuple of str)
        Options and the values to try, as a user writes them; every combination is a candidate.
    noises : tuple of str
        Specifications; the score of a candidate is the mean over them.
    data : DataRequest
        An empty split means Training, where the data set has one.
    protocol : Protocol
    metric : str
        Specification of the metric to improve.
    budget_s : float or None
        Seconds the search may take, about; None for the whole grid on all images.
    jobs : int
        Worker processes.
    timeout_s : float
        Seconds that one shard may take.
    results : Path
        Folder of all runs: each round of the search is a run, with all its scores.
    plugin_files, plugin_folders : tuple of Path
    command : str
        What was typed, for the record.
    """

    denoiser: str
    space: tuple[tuple[str, tuple[str, ...]], ...]
    noises: tuple[str, ...] = (DEFAULT_NOISE,)
    data: DataRequest = field(default_factory=DataRequest)
    protocol: Protocol = field(default_factory=Protocol)
    metric: str = "psnr"
    budget_s: float | None = None
    jobs: int = 1
    timeout_s: float = 600.0
    results: Path = Path("results")
    plugin_files: tuple[Path, ...] = ()
    plugin_folders: tuple[Path, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class Trial:
    """What one setting came to.

    Attributes
    ----------
    label : str
        Canonical specification.
    score : float
        Mean of the metric over images and noises in the last round that it took part in; NaN where it failed.
    images : int
        Images of that round.
    reason : str
        Why it failed; empty where it did not.
    """

    label: str
    score: float
    images: int
    reason: str = ""


@dataclass(frozen=True)
class TuneResult:
    """What a search found.

    Attributes
    ----------
    best : TunedOptions
    trials : tuple of Trial
        All candidates, those on most images first and then the best first.
    start : str
        Label of the candidate that the search started from: the denoiser as it was named.
    runs : tuple of Path
        Folders of the runs, one a round.
    notes : tuple of str
        What must be said of the images, such as how many were left out.
    """

    best: TunedOptions
    trials: tuple[Trial, ...]
    start: str
    runs: tuple[Path, ...]
    notes: tuple[str, ...] = ()


Round = Callable[[Sequence[str], int], list[Trial]]


def parse_space(text: str) -> tuple[str, tuple[str, ...]]:
    """Read ``size=3,5,7``.

    Raises
    ------
    BenchboxError
        It is no list of different values.
    """
    key, _, rest = text.partition("=")
    values = tuple(value.strip() for value in rest.split(","))
    if not key.strip() or not all(values) or len(set(values)) < len(values):
        raise BenchboxError(
            f"--space {text}: not an option with different values to try", hint="for example --space size=3,5,7"
        )
    return key.strip(), values


def tune(config: TuneConfig, on_event: Callable[[Event], None]) -> TuneResult:
    """Search the options of a denoiser.

    Every combination in the space is scored as in a run: same noise for all, parallel, a failure is a trial with its
    reason. The denoiser as it was named is one of the candidates, so the result is never worse than that on the images
    used.

    Parameters
    ----------
    config : TuneConfig
    on_event : callable
        Told of each step of each run.

    Returns
    -------
    TuneResult

    Raises
    ------
    BenchboxError
        A name, an option or a value is wrong, the data cannot be opened, or no candidate could be scored.
    """
    registry = load_registry(config.plugin_files, config.plugin_folders)
    candidates = make_candidates(config.denoiser, config.space, registry)
    request = _with_split(config.data, registry)
    total = len(open_data(request, {name: entry.cls() for name, entry in registry.datasets.items()}))
    stores: list[RunStore] = []

    def score(labels: Sequence[str], images: int) -> list[Trial]:
        run = RunConfig(
            denoisers=tuple(labels),
            noises=config.noises,
            metrics=(config.metric,),
            data=replace(request, limit=images),
            protocol=config.protocol,
            jobs=config.jobs,
            timing=False,
            limits=Limits(config.timeout_s),
            results=config.results,
            plugin_files=config.plugin_files,
            plugin_folders=config.plugin_folders,
            command=config.command,
        )
        stores.append(execute(run, on_event))
        return _trials(stores[-1])

    higher = registry.metric(parse_spec(config.metric).name).cls.higher_is_better
    trials = search(list(candidates), total, score, higher, config.budget_s, time.monotonic)
    best = trials[0]
    if best.reason:
        raise BenchboxError(f"no setting of {config.denoiser} could be scored: {best.reason}", hint="try it in a run")
    start = next(iter(candidates))
    record = stores[-1].record
    provider = record.denoisers[0].reference.provider
    tuned = TunedOptions(
        denoiser=parse_spec(config.denoiser).name,
        options=candidates[best.label],
        dataset=record.data.dataset,
        split=record.data.split,
        images=record.data.images,
        fingerprint=record.data.fingerprint,
        noises=tuple(record.noises),
        protocol=config.protocol,
        metric=next(iter(record.metrics)),
        score=best.score,
        start_score=next(trial.score for trial in trials if trial.label == start),
        candidates=len(candidates),
        run=record.run_id,
        command=config.command,
        versions={"benchbox": record.environment["versions"]["benchbox"]}
        | ({provider.distribution: provider.version} if provider.distribution else {}),
    )
    return TuneResult(tuned, tuple(trials), start, tuple(store.folder for store in stores), record.data.notes)


def make_candidates(
    denoiser: str, space: Sequence[tuple[str, tuple[str, ...]]], registry: Registry
) -> dict[str, dict[str, str]]:
    """Options of every combination by canonical specification, the denoiser as it was named first.

    Raises
    ------
    BenchboxError
        The denoiser or an option is unknown, is set twice, or a value is refused.
    """
    named, _ = apply_tuned(parse_spec(denoiser))
    cls = registry.denoiser(named.name).cls
    keys = [key for key, _ in space]
    candidates: dict[str, dict[str, str]] = {}
    for values in [(), *itertools.product(*(values for _, values in space))]:
        spec = Spec(named.name, named.value, (*named.options, *zip(keys, values, strict=bool(values))))
        build(cls, spec)
        candidates.setdefault(
            canonical(cls, spec), {key: write_value(value) for key, value in resolve(cls, spec).items()}
        )
    return candidates


def search(
    labels: Sequence[str],
    total: int,
    score: Round,
    higher_is_better: bool,
    budget_s: float | None,
    clock: Callable[[], float],
) -> list[Trial]:
    """Score candidates on all images, or on few first where the budget does not allow it.

    With a budget the first round takes a ninth of the images. As soon as the time left allows the remaining candidates
    on all images, that is the last round; until then each round keeps the best third on three times the images
    (successive halving: Jamieson and Talwalkar, AISTATS 2016). Candidates share images and noise, so few images rank
    them well. The first candidate is kept to the end, as the start of the comparison.

    Parameters
    ----------
    labels : sequence of str
        Canonical specifications.
    total : int
        Number of images.
    score : callable
        ``(labels, images) -> trials``.
    higher_is_better : bool
    budget_s : float or None
    clock : callable
        Seconds, never going back.

    Returns
    -------
    list of Trial
        Those of the last round first; within a round the best first, failures last.
    """
    begun = clock()
    images = total if budget_s is None else math.ceil(total / HALVING**2)
    left = list(labels)
    out: list[Trial] = []
    while True:
        round_begun = clock()
        trials = _ranked(score(left, images), higher_is_better)
        now = clock()
        fit = [trial.label for trial in trials if not trial.reason]
        if images == total or not fit:
            return trials + out
        assert budget_s is not None
        cost = (now - round_begun) / (len(left) * images)
        if cost * total * len(fit) <= budget_s - (now - begun):
            keep, images = len(fit), total
        else:
            keep, images = math.ceil(len(fit) / HALVING), min(total, HALVING * images)
            if now - begun >= budget_s:
                keep, images = 1, total
        kept = {*fit[:keep], left[0]} & set(fit)
        out = [trial for trial in trials if trial.label not in kept] + out
        left = [label for label in left if label in kept]


def _ranked(trials: Sequence[Trial], higher_is_better: bool) -> list[Trial]:
    sign = -1 if higher_is_better else 1
    return sorted(trials, key=lambda trial: math.inf if trial.reason else sign * trial.score)


def _trials(store: RunStore) -> list[Trial]:
    outcomes = store.outcomes()
    metric = next(iter(store.record.metrics))
    trials = []
    for denoiser in store.record.denoisers:
        cells = [cell for cell in store.record.cells if cell.denoiser == denoiser.label]
        reason = next((outcomes[cell.key].reason for cell in cells if outcomes[cell.key].status != "ok"), "")
        score = math.nan
        if not reason:
            score = float(np.mean([_mean(store.scores(cell.key)[metric]) for cell in cells]))
        trials.append(Trial(denoiser.label, score, store.record.data.images, reason))
    return trials


def _mean(scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Mean over the images of finite score, as in the leaderboard; infinite where every image is perfect."""
    finite = np.isfinite(scores)
    return float(scores[finite].mean()) if finite.any() else math.inf


def _with_split(request: DataRequest, registry: Registry) -> DataRequest:
    if request.split:
        return request
    datasets = {name: entry.cls() for name, entry in registry.datasets.items()}
    dataset = choose(Path(request.path) if request.path else None, request.dataset or None, datasets)
    return replace(request, split=FITTED) if FITTED in dataset.splits else request
