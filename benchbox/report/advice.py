"""Checks a run for suspicious results: what was seen, why it may be, and what to do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.records.run import RunRecord, Timing
from benchbox.report.board import Advice
from benchbox.report.ranked import Unranked
from benchbox.report.rows import differ_in_one, kind_of
from benchbox.stats.summaries import latency_of

Scores = Mapping[str, NDArray[Any]]

FEWEST_IMAGES = 10
NOISE_TOLERANCE = 0.02
RISE_DB = 0.05
SPREAD = 2.0
DRIFT = 0.2
FEWEST_SAMPLES = 30
BUSY_SHARE = 0.5
CLIPPED_SHARE = 0.05


def advise(record: RunRecord, blocks: Sequence[Unranked], timings: Mapping[str, Timing]) -> tuple[Advice, ...]:
    """Check a run.

    Parameters
    ----------
    record : RunRecord
    blocks : sequence of Unranked
    timings : mapping of str to Timing
        By canonical denoiser.

    Returns
    -------
    tuple of Advice
        Empty where nothing is suspicious.
    """
    floors = {denoiser.label for denoiser in record.denoisers if denoiser.is_floor}
    others = {record.denoiser_label(spec): one for spec, one in timings.items()}
    return (
        *_load(record),
        *_noise(record, blocks),
        *_inputs(blocks, floors),
        *_clipped(blocks, floors),
        *_rises(record, blocks),
        *_timings({label: one for label, one in others.items() if label not in floors}),
    )


def _load(record: RunRecord) -> Iterator[Advice]:
    load, cores = record.environment.get("load"), record.environment.get("cores")
    if record.options.timing and isinstance(load, int | float) and isinstance(cores, int) and load > BUSY_SHARE * cores:
        yield Advice(
            f"{load:g} processes were running on {cores} cores before the run began",
            "other programs share the processor, so latencies are too long and vary",
            "time again on an idle machine; scores are not touched",
        )


def _noise(record: RunRecord, blocks: Sequence[Unranked]) -> Iterator[Advice]:
    """Hold the noise that was drawn to the level that its model states, where nothing changed it on the way."""
    if record.protocol.clip or record.protocol.quantize:
        return
    for block in blocks:
        columns = _any_scores(block)
        if columns is None or not {"noisy_mse", "sigma_true"} <= columns.keys():
            continue
        stated = columns["sigma_true"].astype(np.float64)
        known = stated > 0
        if known.sum() < FEWEST_IMAGES:
            continue
        ratio = columns["noisy_mse"][known] / stated[known] ** 2
        error = float(ratio.std(ddof=1)) / math.sqrt(len(ratio))
        if abs(float(ratio.mean()) - 1) > max(NOISE_TOLERANCE, 5 * error):
            measured = math.sqrt(float(columns["noisy_mse"][known].mean()))
            expected = math.sqrt(float((stated[known] ** 2).mean()))
            yield Advice(
                f"{block.noise}: the noise measured is {measured:.4f}, its model states {expected:.4f}",
                "apply and sigma_of of the noise model disagree, so denoisers are told a wrong level",
                "correct the noise model and run again",
            )


def _inputs(blocks: Sequence[Unranked], floors: Collection[str]) -> Iterator[Advice]:
    """Find denoisers whose every score is that of the floor."""
    for block in blocks:
        floor = next((scores for name, scores in block.scores.items() if name in floors and scores), None)
        if floor is None:
            continue
        idle = [
            name
            for name, scores in block.scores.items()
            if scores
            and name not in floors
            and all(np.array_equal(scores[one], floor[one]) for one in _metrics(scores))
        ]
        if idle:
            yield Advice(
                f"{block.noise}: returned its input: {', '.join(idle)}",
                "the noise level it was told is zero, an option switches it off, or it gave up quietly",
                "look at its options and at its log in the folder of the run",
            )


def _clipped(blocks: Sequence[Unranked], floors: Collection[str]) -> Iterator[Advice]:
    """Find denoisers whose results lose many pixels to the clipping; the floor passes the noise on, and is left out."""
    for block in blocks:
        shares = {
            name: float(scores["clipped"].mean())
            for name, scores in block.scores.items()
            if "clipped" in scores and name not in floors
        }
        high = [f"{name} ({100 * share:.0f} %)" for name, share in shares.items() if share > CLIPPED_SHARE]
        if high:
            yield Advice(
                f"{block.noise}: values clipped in more than {100 * CLIPPED_SHARE:.0f} % of pixels: {', '.join(high)}",
                "it leaves noise in black and white areas, overshoots at edges, or works on another scale than [0, 1]",
                "look at its pictures; a result on the scale of 0 to 255 is to be divided by 255",
            )


def _rises(record: RunRecord, blocks: Sequence[Unranked]) -> Iterator[Advice]:
    """Find denoisers that do better where the same kind of noise is stronger."""
    metric = next((one for one in record.metrics if one.unit == "dB"), None)
    if metric is None:
        return
    measured = [(block, _any_scores(block)) for block in blocks]
    strength = {
        block.noise: float(columns["noisy_mse"].mean())
        for block, columns in measured
        if columns is not None and "noisy_mse" in columns
    }
    kinds: dict[str, list[Unranked]] = {}
    for block in blocks:
        if block.noise in strength:
            kinds.setdefault(kind_of(block.spec), []).append(block)
    for kind in kinds.values():
        kind.sort(key=lambda block: strength[block.noise])
        for weak, strong in itertools.pairwise(kind):
            if not differ_in_one(weak.spec, strong.spec):
                continue
            rising = [
                name
                for name in weak.scores
                if _rises_between(metric.spec, weak.scores[name], strong.scores.get(name, {}))
            ]
            if rising and strength[strong.noise] > strength[weak.noise]:
                yield Advice(
                    f"{metric.title} rises from {weak.noise} to the stronger {strong.noise}: {', '.join(rising)}",
                    "it was tuned for the stronger noise, or is told a wrong level at the weaker",
                    "look at what it was told (column sigma) and at its options",
                )


def _rises_between(metric: str, weak: Scores, strong: Scores) -> bool:
    if metric not in weak or metric not in strong:
        return False
    both = np.isfinite(weak[metric]) & np.isfinite(strong[metric])
    if both.sum() < FEWEST_IMAGES:
        return False
    rise = strong[metric][both] - weak[metric][both]
    return float(rise.mean()) > max(RISE_DB, 3 * float(rise.std(ddof=1)) / math.sqrt(len(rise)))


def _timings(timings: Mapping[str, Timing]) -> Iterator[Advice]:
    samples = {
        name: timing.samples_ms[1]
        for name, timing in timings.items()
        if len(timing.samples_ms.get(1, ())) >= FEWEST_SAMPLES
    }
    spread = [name for name, one in samples.items() if (latency := latency_of(one)).p90 > SPREAD * latency.p50]
    if spread:
        yield Advice(
            f"p90 of the latency is over twice its p50: {', '.join(spread)}",
            "another program ran at times, or the denoiser pauses to clean up or to compile",
            "compare p50 and not the mean; time again on an idle machine",
        )
    drifting = [name for name, one in samples.items() if _drift(one) > DRIFT]
    if drifting:
        yield Advice(
            f"latency drifts by more than {100 * DRIFT:.0f} % while it is taken: {', '.join(drifting)}",
            "the processor slows down as it warms, or the denoiser grows slower or compiles as it goes on",
            "time again after a pause; look for state that grows from call to call",
        )


def _drift(samples_ms: Sequence[float]) -> float:
    """Relative difference of the median of the last third to that of the first."""
    third = len(samples_ms) // 3
    first, last = float(np.median(samples_ms[:third])), float(np.median(samples_ms[-third:]))
    return abs(last / first - 1) if first > 0 else 0.0


def _any_scores(block: Unranked) -> Scores | None:
    """Scores of some row: what they say of the noisy images is the same in every one."""
    return next((scores for scores in block.scores.values() if scores), None)


def _metrics(scores: Scores) -> set[str]:
    return set(scores) - {"image", "noisy_mse", "clipped", "sigma_true", "sigma_told"}
