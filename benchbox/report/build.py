"""Builds a leaderboard from the records, scores and samples of a run: its rows, and the facts about all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.denoiser import UNKNOWN
from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.audit.contamination import is_trained_beside, shares_split, training_overlap
from benchbox.records.machines import MachinesRecord
from benchbox.records.run import Cell, DataRecord, DenoiserRecord, Environment, Outcome, RunRecord, Timing
from benchbox.report.advice import advise, advise_on_contamination
from benchbox.report.board import Header, Leaderboard, Row, Speed
from benchbox.report.ranked import Unranked, mismatch_curves, rank_blocks, summarise
from benchbox.report.recognition import recognitions
from benchbox.stats.summaries import Mean, Scenes, average_repeats, counted, latency_of, mean_of, numbered
from benchbox.store import IMAGE, RunStore, class_columns
from benchbox.system.files import damaged_file


def build_leaderboard(
    store: RunStore, *, sort: str = "", within_ms: float | None = None, columns: Sequence[str] = ()
) -> Leaderboard:
    """Rank the rows of a run.

    `sort` is the metric that ranks (canonical or by name; empty means PSNR, else the first metric). `within_ms`
    limits the p50 latency of ranked rows, `columns` are the keys of those to show. A run that keeps duplicates also
    ranks rows that overlap their training data. Raises `BenchboxError` for an unknown metric, a latency limit without
    timing, or a damaged run.
    """
    record = store.record
    keep = record.options.keep_duplicates
    metrics = {metric.spec: metric for metric in record.metrics}
    sort = sort_metric(sort, record)
    outcomes, timings = store.outcomes(), store.timings()
    all_timings = timings or store.timings(include_unlike_machines=True)
    if within_ms is not None and not timings:
        raise BenchboxError(
            f"run {record.run_id} has no timing, so it cannot be limited to {within_ms:g} ms",
            hint="run again without --no-timing",
        )
    denoisers = {denoiser.spec: denoiser for denoiser in record.denoisers}
    speeds = {spec: speed for spec, timing in all_timings.items() if (speed := speed_of(timing, record.environment))}
    scenes = scenes_of(store)
    blocks, curves = [], []
    for noise in record.noises:
        cells = record.cells_on(noise.spec).values()
        scores = {denoisers[cell.denoiser].label: _checked_scores(store, cell, outcomes) for cell in cells}
        rows = [
            replace(
                make_row(
                    record,
                    denoisers[cell.denoiser],
                    cell,
                    outcomes.get(cell.key),
                    scores[denoisers[cell.denoiser].label],
                    timings.get(cell.denoiser),
                    speeds.get(cell.denoiser),
                    scenes,
                ),
                latency_normalised=normalised_latency(all_timings.get(cell.denoiser), speeds.get(cell.denoiser)),
            )
            for cell in cells
        ]
        # Cells with a wrong noise level are a test of robustness; they never enter the ranking.
        wrong = [cell for cell in record.cells if cell.noise == noise.spec and cell.sigma_factor != 1]
        wrong_scores = [
            (denoisers[cell.denoiser].label, cell.sigma_factor, _checked_scores(store, cell, outcomes))
            for cell in wrong
        ]
        curves.append(mismatch_curves(scores, wrong_scores, metrics[sort]))
        blocks.append(Unranked(noise.label, noise.spec, _noisy_psnr(scores), tuple(rows), scores, scenes))
    # Labels are read only if a classifier was asked.
    asked = {class_columns(metric)[1] for metric in metrics}
    judged = any(asked & columns.keys() for block in blocks for columns in block.scores.values())
    images = store.images() if judged else {}
    ranked = tuple(
        replace(
            block,
            mismatch=mismatch,
            oracle_wiener=_oracle_wiener(store, block.spec, sort),
            level_title=noise.level_title,
            gaussian=noise.gaussian,
            recognition=recognitions(record, scored.scores, images, scenes) if judged else (),
        )
        for block, scored, mismatch, noise in zip(
            rank_blocks(blocks, metrics, sort, within_ms, keep), blocks, curves, record.noises, strict=True
        )
    )
    return Leaderboard(
        header=make_header(record, timings, speeds, store.machines()),
        metrics=tuple(metrics.values()),
        sort=sort,
        timing=record.options.timing and bool(timings),
        blocks=ranked,
        summary=summarise(ranked, {block.noise: block.scores for block in blocks}, metrics[sort], scenes),
        within_ms=within_ms,
        advice=(
            *(() if keep else advise_on_contamination(record, outcomes)),
            *advise(record, blocks, timings),
        ),
        columns=tuple(columns),
    )


def with_timing(board: Leaderboard, spec: str, timing: Timing, environment: Environment) -> Leaderboard:
    """A leaderboard with the latencies of one more denoiser; marks of columns and the notes stay as they were."""
    speed = speed_of(timing, environment)

    def timed(row: Row) -> Row:
        if row.spec != spec:
            return row
        return replace(row, speed=speed, speed_status=timing.status, speed_reason=timing.reason)

    blocks = tuple(replace(block, rows=tuple(map(timed, block.rows))) for block in board.blocks)
    return replace(board, timing=True, blocks=blocks)


def sort_metric(sort: str, record: RunRecord) -> str:
    """Canonical specification of the metric to rank by; raises `BenchboxError` if the run does not compute it."""
    if not sort:
        return record.main_metric.spec
    exact = [metric.spec for metric in record.metrics if sort in (metric.spec, metric.label)]
    named = exact or [metric.spec for metric in record.metrics if metric.spec.partition(":")[0] == sort]
    if len(named) == 1:
        return named[0]
    known = [metric.label for metric in record.metrics]
    raise BenchboxError(f"--sort {sort}: the run does not compute metric '{sort}'", hint=did_you_mean(sort, known))


def _checked_scores(store: RunStore, cell: Cell, outcomes: Mapping[str, Outcome]) -> dict[str, NDArray[Any]]:
    """Scores of a cell, one per image; empty unless it is complete."""
    outcome = outcomes.get(cell.key)
    if outcome is None or outcome.status != "ok":
        return {}
    scores = store.scores(cell.key)
    images = np.repeat(np.arange(store.record.data.images), store.record.protocol.repeats)
    complete = scores and np.array_equal(scores[IMAGE], images)
    if not complete or any(metric.spec not in scores for metric in store.record.metrics):
        return {}
    return _by_image(store.record, scores)


def _oracle_wiener(store: RunStore, noise: str, sort: str) -> float | None:
    """Mean of the oracle Wiener filter over all images; None if it is undefined or was not computed."""
    columns = store.ceiling(noise)
    repeats = store.record.protocol.repeats
    if len(columns.get(sort, ())) != store.record.data.images * repeats:
        return None
    unit = next(metric.unit for metric in store.record.metrics if metric.spec == sort)
    scores = counted(columns[sort], unit)
    return mean_of(average_repeats({sort: scores}, repeats)[sort]).mean


def _noisy_psnr(scores: Mapping[str, Mapping[str, NDArray[Any]]]) -> Mean | None:
    """PSNR of the noisy images, from any row, because all rows share them."""
    for columns in scores.values():
        if "noisy_mse" in columns:
            with np.errstate(divide="ignore"):
                noisy = mean_of(-10 * np.log10(columns["noisy_mse"].astype(np.float64)), "dB")
            return None if np.isnan(noisy.mean) else noisy
    return None


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


def image_scores(store: RunStore, cell: Cell) -> dict[str, NDArray[Any]]:
    """Scores of a cell, one per image (the mean over its repeats), with metrics as `counted`.

    What a classifier saw has no mean: these columns have shape (N, repeats).
    """
    return _by_image(store.record, store.scores(cell.key))


def _by_image(record: RunRecord, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
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
    timing: Timing | None,
    speed: Speed | None,
    scenes: Scenes | None,
) -> Row:
    """Make the row of a cell; `scores` is empty if it was not completed, `scenes` are those of the images."""
    speed = speed if timing else None
    status: str
    if outcome is None and cell.skipped:
        status, reason = "skipped", cell.skipped
    elif outcome is None:
        status, reason = "unfinished", "the run ended before this row was finished"
    elif outcome.status == "ok" and not scores:
        status, reason = "incomplete", f"fewer than {record.data.images:,} scored images are stored"
    else:
        status, reason = outcome.status, outcome.reason
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


def speed_of(timing: Timing, environment: Environment) -> Speed | None:
    """Summarise a timing of a run; None if it failed, or lacks single-image or batch samples."""
    if timing.status != "ok":
        return None
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
        machine=timing.machine or environment.machine_label,
    )


def normalised_latency(timing: Timing | None, speed: Speed | None) -> float | None:
    """p50 of one image divided by the time of the calibration kernel; None unless both were timed."""
    if timing is None or speed is None or timing.calibration is None:
        return None
    return speed.latency_p50_ms / timing.calibration.time_ms


def make_header(
    record: RunRecord, timings: Mapping[str, Timing], speeds: Mapping[str, Speed], machines: MachinesRecord
) -> Header:
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
        timing=_timing_words(record, {spec: timing for spec, timing in timings.items() if spec in speeds}, speeds),
    )


def _timing_words(record: RunRecord, timed: Mapping[str, Timing], speeds: Mapping[str, Speed]) -> str:
    within = {name: speeds[name].latency_p50_within for name in timed}
    few = [record.denoiser_label(name) for name, width in within.items() if math.isnan(width)]
    known = {name: width for name, width in within.items() if not math.isnan(width)}
    precise = ""
    if known:
        widest = max(known, key=known.__getitem__)
        # Two digits, without an exponent: few calls can leave p50 uncertain by several times itself.
        percent = float(f"{100 * known[widest]:.2g}")
        which = f" ({record.denoiser_label(widest)})" if len(known) > 1 else ""
        precise = f", p50 known to within {percent:g} %{which} or better"
    precise += f" (fewer than 6 calls: {', '.join(few)})" if few else ""
    for timing in timed.values():
        threads = f"{timing.threads} thread{'s' if timing.threads != 1 else ''}"
        size = f"{timing.shape[0]}x{timing.shape[1]}"
        noise = record.noise_label(timing.noise)
        batches = sorted({timing.batch for timing in timed.values()})
        batch = f"batch {batches[0]}" if len(batches) == 1 else f"batches {batches[0]} to {batches[-1]}"
        earlier = [timing.reused for timing in timed.values() if timing.reused]
        where = f"; {len(earlier)} of {len(timed)} measured in {', '.join(dict.fromkeys(earlier))}" if earlier else ""
        if len({timing.machine for timing in timed.values()}) == 1 and timing.machine:  # several: see the notes
            where += f"; on {timing.machine}"
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
        yield f"{words}; {shards}, with bit-identical results"
        return
    widest: dict[str, float] = {}
    for canary in unlike:
        for column, apart in canary.differences.items():
            widest[column] = max(widest.get(column, 0.0), apart)
    how = [f"{column} by up to {apart:.2g}" for column, apart in sorted(widest.items())]
    how += sorted({canary.failure for canary in unlike if canary.failure})
    pairs = sorted({" and ".join(found.machines[key].name for key in canary.machines) for canary in unlike})
    differ = f"{len(unlike)} differ{'s' if len(unlike) == 1 else ''}"
    yield f"{words}; of {shards}, {differ} ({'; '.join(pairs)}): {', '.join(how)}"


def _level_notes(record: RunRecord) -> Iterator[str]:
    """What the noise level that denoisers get does not mean under this protocol."""
    protocol = record.protocol
    others = [noise.label for noise in record.noises if not noise.is_estimable]
    if protocol.sigma == "estimated" and others:
        yield (
            f"{', '.join(others)}: not white noise, so its level is not estimated, except for denoisers that require "
            "one"
        )
    if protocol.sigma == "given" and protocol.changes_noise:
        yield "the given noise level is that of the noise model, before the protocol changes it"
