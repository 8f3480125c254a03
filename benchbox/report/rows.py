"""The rows of a leaderboard before they are ranked: what a run's records say of each denoiser on a noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from benchbox.api.leaks import leak_of
from benchbox.api.records import Cell, DenoiserRecord, Outcome, RunRecord, Timing
from benchbox.report.leaks import cautions_of
from benchbox.report.model import Header, Row, Speed
from benchbox.stats.summaries import latency_of, mean_of

FLOOR = "identity"


def is_floor(denoiser: str) -> bool:
    """Whether a row is the one that does nothing."""
    return denoiser.partition(":")[0] == FLOOR


def make_row(
    record: RunRecord,
    denoiser: DenoiserRecord,
    cell: Cell,
    outcome: Outcome | None,
    scores: Mapping[str, NDArray[Any]],
    timings: Mapping[str, Timing],
) -> Row:
    """Make the row of a cell; `scores` is empty where it was not completed."""
    status: str
    if outcome is None and cell.skipped:
        status, reason = "skipped", cell.skipped
    elif outcome is None:
        status, reason = "unfinished", "the run ended before this row was done"
    elif outcome.status == "ok" and not scores:
        status, reason = "incomplete", f"there are not {record.data.images} scored images on disk"
    else:
        status, reason = outcome.status, outcome.reason
    timing = timings.get(denoiser.label)
    speed = speed_of(timing) if timing is not None and timing.status == "ok" else None
    return Row(
        rank=None,
        denoiser=denoiser.label,
        status=status,
        reason=reason,
        scores={label: mean_of(scores[label]) for label in record.metrics} if scores else {},
        speed=speed,
        speed_status=timing.status if timing else "",
        speed_reason=timing.reason if timing else "",
        knew=outcome.knew if outcome else "",
        trained_on=outcome.trained_on if outcome else "",
        tuned_on=denoiser.tuned_on,
        leak=leak_of(record.data, outcome) if outcome else "",
        cautions=(
            *([denoiser.notice] if denoiser.notice else ()),
            *(cautions_of(record.data, outcome) if outcome else ()),
        ),
    )


def speed_of(timing: Timing) -> Speed | None:
    """Summarise the samples of a timing; None where it has none of one image or of a batch."""
    single, batch = timing.samples_ms.get(1), timing.samples_ms.get(timing.batch)
    if not single or not batch:
        return None
    latency = latency_of(single)
    return Speed(
        latency_p50_ms=latency.p50,
        latency_p90_ms=latency.p90,
        latency_p99_ms=latency.p99,
        samples=latency.samples,
        throughput=1000 * timing.batch / latency_of(batch).p50,
        batch=timing.batch,
        cold_start_s=timing.cold_start_s,
        peak_mb=timing.peak_mb,
        threads=timing.threads_used,
    )


def normalised_latency(timing: Timing | None) -> float | None:
    """How often the calibration kernel runs in the time of one image; None where one of the two was not timed."""
    if timing is None or timing.status != "ok" or timing.calibration is None or not timing.samples_ms.get(1):
        return None
    return latency_of(timing.samples_ms[1]).p50 / timing.calibration.time_ms


def make_header(record: RunRecord, timings: Mapping[str, Timing]) -> Header:
    """Gather what holds for every row."""
    environment = record.environment
    parts = (
        str(environment.get("cpu", "")),
        f"{environment['cores']} cores" if "cores" in environment else "",
        f"{environment['memory_gb']} GiB" if "memory_gb" in environment else "",
        str(environment.get("system", "")),
    )
    versions = {"python": str(environment["python"])} if "python" in environment else {}
    versions |= {str(name): str(version) for name, version in environment.get("versions", {}).items()}
    load = environment.get("load")
    return Header(
        run_id=record.run_id,
        created=record.created,
        command=record.command,
        format=record.format,
        dataset=record.data.dataset,
        split=record.data.split,
        sizes=record.data.sizes,
        fingerprint=record.data.fingerprint,
        images=record.data.images,
        notes=record.data.notes,
        protocol=record.protocol.label,
        seed=record.protocol.seed,
        machine=", ".join(part for part in parts if part),
        versions=versions,
        load=float(load) if isinstance(load, int | float) else None,
        timing=_timing_words(timings),
    )


def _timing_words(timings: Mapping[str, Timing]) -> str:
    for timing in timings.values():
        if timing.status == "ok":
            threads = f"{timing.threads} thread{'s' if timing.threads != 1 else ''}"
            size = f"{timing.shape[0]}x{timing.shape[1]}"
            return f"each alone in a fresh process, {threads}, {size} images of {timing.noise}, batch {timing.batch}"
    return ""
