"""Builds unranked leaderboard rows, and the header, from the records of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from benchbox.api.denoiser import UNKNOWN
from benchbox.api.errors import BenchboxError
from benchbox.audit.contamination import is_trained_beside, shares_split, training_overlap
from benchbox.records.machines import MachinesRecord
from benchbox.records.run import Cell, DataRecord, DenoiserRecord, Outcome, RunRecord, Timing
from benchbox.records.specs import parse_composition
from benchbox.report.board import Advice, Header, Row, Speed
from benchbox.stats.scenes import Scenes, numbered
from benchbox.stats.summaries import average_repeats, counted, latency_of, mean_of
from benchbox.store import RunStore, class_columns
from benchbox.system.files import damaged_file


def noise_family(noise: str) -> str:
    """Family of a noise: its models in order, with all options but the first, which is the level.

    ``'correlated:0.1,width=3+salt-pepper:0.05'`` is in the family ``'correlated (width=3)+salt-pepper'``; an unreadable
    specification is a family of its own.
    """
    try:
        parts = parse_composition(noise)
    except BenchboxError:  # a run record may be edited by hand
        return noise
    options = [", ".join(f"{key}={value}" for key, value in part.options) for part in parts]
    return "+".join(part.name + (f" ({words})" if words else "") for part, words in zip(parts, options, strict=True))


def differ_in_one_part(first: str, second: str) -> bool:
    """Whether two noises of a family differ in exactly one part, so that one is the stronger."""
    pairs = zip(parse_composition(first), parse_composition(second), strict=True)
    return sum(left != right for left, right in pairs) == 1


def cautions_of(data: DataRecord, outcome: Outcome) -> tuple[str, ...]:
    """Warnings about a row's training data that do not exclude it from the ranking."""
    card, cautions = outcome.card, []
    if outcome.status == "ok" and outcome.overlap is None and is_trained_beside(data, outcome):
        cautions.append(
            f"it is unknown how many scored images have duplicates in its training data ({outcome.trained_on})"
        )
    if card and card.dataset == UNKNOWN:
        cautions.append("its training data are unknown, so it may have seen the scored images")
    if card and shares_split(data, card.dataset, card.validated_on):
        cautions.append(f"weights chosen on {card.validated_on}, which is scored here")
    return tuple(cautions)


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


def image_scores(store: RunStore, cell: Cell) -> dict[str, NDArray[Any]]:
    """Scores of a cell, one per image (the mean over its repeats), with metrics as `counted`.

    What a classifier saw has no mean: these columns have shape (N, repeats).
    """
    record, columns = store.record, store.scores(cell.key)
    names = {name for metric in record.metrics for name in class_columns(metric.spec)} & columns.keys()
    classes = {name: columns.pop(name).reshape(-1, record.protocol.repeats) for name in names}
    metrics = {
        metric.spec: counted(columns[metric.spec], metric.unit) for metric in record.metrics if metric.spec in columns
    }
    return average_repeats(columns | metrics, record.protocol.repeats) | classes


def scenes_of(store: RunStore) -> Scenes | None:
    """Number of each image's scene, shape (N,); None if every image is a scene of its own."""
    if not store.record.data.scenes:
        return None
    images = store.images()
    if "scene" not in images:
        raise damaged_file(store.folder / "images.parquet", "it has no column scene")
    return numbered(images["scene"])


def make_row(
    record: RunRecord,
    denoiser: DenoiserRecord,
    cell: Cell,
    outcome: Outcome | None,
    scores: Mapping[str, NDArray[Any]],
    timings: Mapping[str, Timing],
    scenes: Scenes | None,
) -> Row:
    """Make the row of a cell; `scores` is empty if it was not completed, `scenes` are those of the images."""
    status: str
    if outcome is None and cell.skipped:
        status, reason = "skipped", cell.skipped
    elif outcome is None:
        status, reason = "unfinished", "the run ended before this row was finished"
    elif outcome.status == "ok" and not scores:
        status, reason = "incomplete", f"fewer than {record.data.images:,} scored images are stored"
    else:
        status, reason = outcome.status, outcome.reason
    timing = timings.get(denoiser.spec)
    speed = speed_of(timing) if timing is not None and timing.status == "ok" else None
    return Row(
        rank=None,
        denoiser=denoiser.label,
        spec=denoiser.spec,
        status=status,
        reason=reason,
        scores={
            metric.spec: mean_of(scores[metric.spec], metric.unit, scenes, proportion=metric.proportion)
            for metric in record.metrics
        }
        if scores
        else {},
        speed=speed,
        speed_status=timing.status if timing else "",
        speed_reason=timing.reason if timing else "",
        noise_level=outcome.noise_level if outcome else "",
        trained_on=outcome.trained_on if outcome else "",
        tuned_on=denoiser.tuned_on,
        contamination=training_overlap(record.data, outcome) if outcome else "",
        cautions=(
            *([denoiser.notice] if denoiser.notice else ()),
            *([f"{timing.reason}, but its p50 was known by then"] if speed and timing and timing.reason else ()),
            *(cautions_of(record.data, outcome) if outcome else ()),
        ),
        is_floor=denoiser.is_floor,
        details=(timing.details if timing else None) or (outcome.details if outcome else None),
        channels=("per channel" if denoiser.channels == "grey" else "joint") if record.data.is_colour else "",
    )


def speed_of(timing: Timing) -> Speed | None:
    """Summarise a timing; None if it lacks single-image or batch samples."""
    single, batch = timing.samples_ms.get(1), timing.samples_ms.get(timing.batch)
    if not single or not batch:
        return None
    latency = latency_of(single)
    return Speed(
        latency_p50_ms=latency.p50,
        latency_p90_ms=latency.p90,
        latency_p99_ms=latency.p99,
        latency_p50_within=latency.within,
        samples=latency.samples,
        throughput=1000 * timing.batch / latency_of(batch).p50,
        batch=timing.batch,
        cold_start_s=timing.cold_start_s,
        peak_mb=timing.peak_mb,
        threads=timing.threads_used,
    )


def normalised_latency(timing: Timing | None) -> float | None:
    """p50 of one image divided by the time of the calibration kernel; None unless both were timed."""
    if timing is None or timing.status != "ok" or timing.calibration is None or not timing.samples_ms.get(1):
        return None
    return latency_of(timing.samples_ms[1]).p50 / timing.calibration.time_ms


def make_header(record: RunRecord, timings: Mapping[str, Timing], machines: MachinesRecord) -> Header:
    """Facts about the whole run."""
    environment = record.environment
    return Header(
        run_id=record.run_id,
        created=record.created,
        command=record.command,
        format=record.format,
        dataset=record.data.label,
        split=record.data.split,
        sizes=f"{record.data.sizes} RGB" if record.data.is_colour else record.data.sizes,
        colour=record.data.is_colour,
        has_clean=record.data.has_clean,
        scenes=record.data.scenes,
        fingerprint=record.data.fingerprint,
        images=record.data.images,
        source_images=record.data.source_images,
        left_out=record.data.left_out,
        notes=(*record.data.warnings, *record.data.notes, *_level_notes(record), *_machine_notes(machines)),
        warnings=record.data.warnings,
        protocol=record.protocol_label,
        seed=record.protocol.seed,
        machine=f"{environment.cpu}, {environment.cores} cores, {environment.memory_gb} GiB, {environment.system}",
        versions={"python": environment.python} | environment.versions,
        load=environment.load,
        timing=_timing_words(record, timings),
    )


def _timing_words(record: RunRecord, timings: Mapping[str, Timing]) -> str:
    timed = {name: timing for name, timing in timings.items() if timing.status == "ok" and timing.samples_ms.get(1)}
    within = {name: latency_of(timing.samples_ms[1]).within for name, timing in timed.items()}
    few = [record.denoiser_label(name) for name, width in within.items() if math.isnan(width)]
    widest = max((width for width in within.values() if not math.isnan(width)), default=math.nan)
    precise = "" if math.isnan(widest) else f", p50 within {100 * widest:.2g} % or better"
    precise += f" (fewer than 6 calls: {', '.join(few)})" if few else ""
    for timing in timed.values():
        threads = f"{timing.threads} thread{'s' if timing.threads != 1 else ''}"
        size = f"{timing.shape[0]}x{timing.shape[1]}"
        noise = record.noise_label(timing.noise)
        batches = sorted({timing.batch for timing in timed.values()})
        batch = f"batch {batches[0]}" if len(batches) == 1 else f"batches {batches[0]} to {batches[-1]}"
        earlier = [timing.reused for timing in timed.values() if timing.reused]
        where = f"; {len(earlier)} of {len(timed)} measured in {', '.join(dict.fromkeys(earlier))}" if earlier else ""
        return f"one fresh process per denoiser, {threads}, {size} images of {noise}, {batch}{precise}{where}"
    return ""


def _machine_notes(found: MachinesRecord) -> Iterator[str]:
    """Which machines of a cluster scored the run, and whether they compute the same."""
    if not found.machines:
        return
    names = sorted({f"{machine.name} ({machine.environment.cpu})" for machine in found.machines.values()})
    words = f"scored on {f'{len(names)} machines: ' if len(names) > 1 else ''}{', '.join(names)}"
    if not found.canaries:
        yield words
        return
    unlike = [canary for canary in found.canaries if canary.differences or canary.failure]
    shards = f"{len(found.canaries)} shard{'s' if len(found.canaries) != 1 else ''} scored twice"
    if not unlike:
        yield f"{words}; {shards}, with results equal to the bit"
        return
    widest: dict[str, float] = {}
    for canary in unlike:
        for column, apart in canary.differences.items():
            widest[column] = max(widest.get(column, 0.0), apart)
    how = [f"{column} by up to {apart:.2g}" for column, apart in sorted(widest.items())]
    how += sorted({canary.failure for canary in unlike if canary.failure})
    pairs = sorted({" and ".join(found.machines[key].name for key in canary.machines) for canary in unlike})
    yield f"{words}; of {shards}, {len(unlike)} differ ({'; '.join(pairs)}): {', '.join(how)}"


def _level_notes(record: RunRecord) -> Iterator[str]:
    """What the noise level that denoisers get does not mean under this protocol."""
    protocol = record.protocol
    others = [noise.label for noise in record.noises if not noise.is_estimable]
    if protocol.sigma == "estimated" and others:
        yield (
            f"{', '.join(others)}: not white noise, so its level is not estimated, and only denoisers that require a "
            "level get an estimate"
        )
    if protocol.sigma == "given" and protocol.changes_noise:
        yield "the given noise level is that of the noise model, before the protocol changes it"
