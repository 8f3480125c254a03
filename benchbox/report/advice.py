"""Checks a run for suspicious results, and says what may cause them and what to do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.audit.contamination import training_overlap
from benchbox.records.run import Outcome, RunRecord, Timing
from benchbox.records.specs import parse_composition
from benchbox.report.board import Advice
from benchbox.report.ranked import Unranked
from benchbox.report.words import noise_family
from benchbox.stats.ranking import separate
from benchbox.stats.summaries import by_scene, latency_of

Scores = Mapping[str, NDArray[Any]]

# Thresholds are wide on purpose: a check that fires on sound runs is soon ignored.
FEWEST_IMAGES = 10
NOISE_TOLERANCE = 0.02  # of the variance
RISE_DB = 0.05
SPREAD = 2.0  # p90 in units of p50
DRIFT = 0.2  # of the median
FEWEST_SAMPLES = 30
BUSY_SHARE = 1.0  # processes per core
CLIPPED_SHARE = 0.05  # of the pixels
_MOST_PAIRS = 3


def advise(record: RunRecord, blocks: Sequence[Unranked], timings: Mapping[str, Timing]) -> tuple[Advice, ...]:
    """Check a run for suspicious results; `timings` is keyed by canonical denoiser."""
    floors = {denoiser.label for denoiser in record.denoisers if denoiser.is_floor}
    by_label = {record.denoiser_label(spec): timing for spec, timing in timings.items()}
    return (
        *_load(record, timings),
        *_machines(timings),
        *_noise(record, blocks),
        *_inputs(blocks, floors),
        *_clipped(blocks, floors),
        *_rises(record, blocks),
        *_contradictions(record, blocks),
        *_timings({label: timing for label, timing in by_label.items() if label not in floors}),
    )


def advise_on_contamination(record: RunRecord, outcomes: Mapping[str, Outcome]) -> Iterator[Advice]:
    """Explain why rows are unranked because of training overlap, and how to rank them."""
    contaminated = dict.fromkeys(
        record.denoiser_label(cell.denoiser)
        for cell in record.cells
        if cell.key in outcomes
        and outcomes[cell.key].status == "ok"
        and training_overlap(record.data, outcomes[cell.key])
    )
    if contaminated:
        yield Advice(
            f"not ranked, because they may have seen the scored images in training: {', '.join(contaminated)}",
            "Scores on images seen in training are too high",
            "Score images that they were not trained on (try another --split), or rank them anyway with "
            "--keep-duplicates",
        )


def _load(record: RunRecord, timings: Mapping[str, Timing]) -> Iterator[Advice]:
    load, cores = record.environment.load, record.environment.cores
    if any(not timing.machine for timing in timings.values()) and isinstance(cores, int) and load > BUSY_SHARE * cores:
        yield Advice(
            f"{round(load, 1):g} processes were running on {cores} cores before the run",
            "Other programs shared the processor, so latencies are longer and less stable",
            "Time again on an idle machine; scores are unaffected",
        )


def _machines(timings: Mapping[str, Timing]) -> Iterator[Advice]:
    machines = {timing.machine for timing in timings.values() if timing.status == "ok"}
    if len(machines) > 1:
        yield Advice(
            f"rows were timed on {len(machines)} machines",
            "Their latencies are not comparable, so no row is marked as the fastest",
            "Compare p50 normalised, or start the run again and time all rows in one place",
        )


def _noise(record: RunRecord, blocks: Sequence[Unranked]) -> Iterator[Advice]:
    """Compare the measured noise with the level that its model states, unless clipping or rounding changed it.

    Compositions are left out: no single model is to blame, and photon noise after another noise has no simple level.
    """
    if record.protocol.changes_noise:
        return
    for block in blocks:
        columns = _any_scores(block)
        if "+" in block.spec or columns is None or not {"noisy_mse", "sigma_true"} <= columns.keys():
            continue
        stated = columns["sigma_true"].astype(np.float64)
        known = stated > 0
        if known.sum() < FEWEST_IMAGES:
            continue
        ratio = columns["noisy_mse"][known] / stated[known] ** 2
        error = float(ratio.std(ddof=1)) / math.sqrt(len(ratio))
        # Five standard errors: with few images chance alone exceeds the tolerance.
        if abs(float(ratio.mean()) - 1) > max(NOISE_TOLERANCE, 5 * error):
            measured = math.sqrt(float(columns["noisy_mse"][known].mean()))
            expected = math.sqrt(float((stated[known] ** 2).mean()))
            yield Advice(
                f"{block.noise}: the measured noise level is {measured:.4f}, but its model states {expected:.4f}",
                "`apply` and `sigma_of` of the noise model disagree, so denoisers get a wrong level",
                "Fix the noise model and run again",
            )


def _inputs(blocks: Sequence[Unranked], floors: Collection[str]) -> Iterator[Advice]:
    """Find denoisers that score exactly like the unchanged noisy image."""
    for block in blocks:
        floor = next((scores for name, scores in block.scores.items() if name in floors and scores), None)
        if floor is None:
            continue
        idle = [
            name
            for name, scores in block.scores.items()
            if scores
            and name not in floors
            and all(np.array_equal(scores[metric], floor[metric]) for metric in _metrics(scores))
        ]
        if idle:
            yield Advice(
                f"{block.noise}: the input was returned unchanged by {', '.join(idle)}",
                "The given noise level may be zero, an option may switch the denoiser off, or it may fail silently",
                "Check its options and its log in the run folder",
            )


def _clipped(blocks: Sequence[Unranked], floors: Collection[str]) -> Iterator[Advice]:
    """Find denoisers with many clipped pixels, except the one that returns the noise itself."""
    for block in blocks:
        shares = {
            name: float(scores["clipped"].mean())
            for name, scores in block.scores.items()
            if "clipped" in scores and name not in floors
        }
        high = [f"{name} ({100 * share:.0f} %)" for name, share in shares.items() if share > CLIPPED_SHARE]
        if high:
            yield Advice(
                f"{block.noise}: over {100 * CLIPPED_SHARE:.0f} % of output pixels were clipped: {', '.join(high)}",
                "The denoiser may leave noise in dark and light areas, overshoot at edges, or not use the scale [0, 1]",
                "Look at its images; divide outputs on the scale [0, 255] by 255",
            )


def _rises(record: RunRecord, blocks: Sequence[Unranked]) -> Iterator[Advice]:
    """Find denoisers that score better when the same kind of noise is stronger."""
    metric = next((metric for metric in record.metrics if metric.unit == "dB"), None)
    if metric is None:
        return
    measured = [(block, _any_scores(block)) for block in blocks]
    strength = {
        block.noise: float(columns["noisy_mse"].mean())
        for block, columns in measured
        if columns is not None and "noisy_mse" in columns
    }
    families: dict[str, list[Unranked]] = {}
    for block in blocks:
        if block.noise in strength:
            families.setdefault(noise_family(block.spec), []).append(block)
    for family in families.values():
        family.sort(key=lambda block: strength[block.noise])
        for weak, strong in itertools.pairwise(family):
            if not _differ_in_one_part(weak.spec, strong.spec):
                continue
            rising = [
                name
                for name in weak.scores
                if _rises_between(metric.spec, weak.scores[name], strong.scores.get(name, {}))
            ]
            if rising and strength[strong.noise] > strength[weak.noise]:
                yield Advice(
                    f"{metric.title} rises from {weak.noise} to the stronger {strong.noise}: {', '.join(rising)}",
                    "The denoiser may be tuned for the stronger noise, or get a wrong level for the weaker one",
                    "Check its sigma column and its options",
                )


def _differ_in_one_part(first: str, second: str) -> bool:
    """Whether two noises of a family differ in exactly one part, so that one is the stronger."""
    pairs = zip(parse_composition(first), parse_composition(second), strict=True)
    return sum(left != right for left, right in pairs) == 1


def _rises_between(metric: str, weak: Scores, strong: Scores) -> bool:
    if metric not in weak or metric not in strong:
        return False
    both = np.isfinite(weak[metric]) & np.isfinite(strong[metric])
    if both.sum() < FEWEST_IMAGES:
        return False
    rise = strong[metric][both] - weak[metric][both]
    return float(rise.mean()) > max(RISE_DB, 3 * float(rise.std(ddof=1)) / math.sqrt(len(rise)))


def _contradictions(record: RunRecord, blocks: Sequence[Unranked]) -> Iterator[Advice]:
    """Find pairs of rows that PSNR and a proportion, such as kept emotions, order differently, both significantly."""
    quality = next((metric for metric in record.metrics if metric.unit == "dB"), None)
    tasks = [metric for metric in record.metrics if metric.proportion]
    for block, task in itertools.product(blocks, tasks if quality else ()):
        names = [name for name, scores in block.scores.items() if scores]
        if quality is None or len(names) < 2:
            continue
        tables = [
            sign * np.column_stack([block.scores[name][metric.spec] for name in names])
            for metric, sign in ((quality, quality.sign), (task, 1))
        ]
        valued = np.isfinite(tables[0]).all(axis=1) & np.isfinite(tables[1]).all(axis=1)
        scenes = None if block.scenes is None else block.scenes[valued]
        first, second = np.triu_indices(len(names), 1)
        # Both differences must be significant, each among all pairs, or noise would look like a contradiction.
        up, down = (separate(by_scene(table[valued], scenes), first, second) for table in tables)
        opposed = np.flatnonzero(up.apart & down.apart & (up.difference * down.difference < 0))
        pairs = sorted(opposed.tolist(), key=lambda pair: -abs(float(down.difference[pair])))
        if not pairs:
            continue
        words = []
        for pair in pairs[:_MOST_PAIRS]:
            better, worse = (first, second) if up.difference[pair] > 0 else (second, first)
            words.append(
                f"{names[better[pair]]} over {names[worse[pair]]} (+{abs(up.difference[pair]):.2f} {quality.unit}, "
                f"-{100 * abs(down.difference[pair]):.1f} points)"
            )
        more = f" and {len(pairs) - _MOST_PAIRS} more pairs" if len(pairs) > _MOST_PAIRS else ""
        yield Advice(
            f"{block.noise}: {quality.title} up, '{task.title}' down: {', '.join(words)}{more}",
            "A denoiser may remove or invent what the task needs and still be closer to the clean image on average",
            f"Rank with --sort {task.spec}, and look at the pictures",
        )


def _timings(timings: Mapping[str, Timing]) -> Iterator[Advice]:
    samples = {
        name: timing.samples_ms[1]
        for name, timing in timings.items()
        if len(timing.samples_ms.get(1, ())) >= FEWEST_SAMPLES
    }
    spread = [
        name for name, samples_ms in samples.items() if (latency := latency_of(samples_ms)).p90 > SPREAD * latency.p50
    ]
    if spread:
        yield Advice(
            f"p90 latency is more than twice p50: {', '.join(spread)}",
            "Another program may have run, or the denoiser may pause for garbage collection or compilation",
            "Compare p50 instead of the mean, or time again on an idle machine",
        )
    drifting = [name for name, samples_ms in samples.items() if _drift(samples_ms) > DRIFT]
    if drifting:
        yield Advice(
            f"latency drifted by more than {100 * DRIFT:.0f} % during timing: {', '.join(drifting)}",
            "The processor may slow down as it warms up, or the denoiser may slow down or compile as it runs",
            "Time again after a pause, and look for state that grows with each call",
        )


def _drift(samples_ms: Sequence[float]) -> float:
    """Relative difference of the median of the last third to that of the first."""
    third = len(samples_ms) // 3
    first, last = float(np.median(samples_ms[:third])), float(np.median(samples_ms[-third:]))
    return abs(last / first - 1) if first > 0 else 0.0


def _any_scores(block: Unranked) -> Scores | None:
    """Scores of any row, because what they say about the noisy images is the same in all."""
    return next((scores for scores in block.scores.values() if scores), None)


def _metrics(scores: Scores) -> set[str]:
    return set(scores) - {"image", "noisy_mse", "clipped", "sigma_true", "sigma_given"}
