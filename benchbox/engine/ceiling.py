"""Scores the oracle Wiener filter, which is given each clean spectrum, on every noise that allows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images, Sigma
from benchbox.builtin.channels import CHANNELS, channels_apart, channels_together, is_colour
from benchbox.builtin.noise import apply_protocol
from benchbox.engine.drawing import Condition, draw, labels_of
from benchbox.engine.events import Event, StageStarted
from benchbox.engine.plan import Limits, Shard
from benchbox.engine.shard import score
from benchbox.engine.work_loop import WorkLoop, WorkQueue
from benchbox.engine.workers import WorkerContext
from benchbox.records.run import Failure, PluginSpec
from benchbox.store import IMAGE, RunStore

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class CeilingTask:
    """A stack of images of one size to filter and score."""

    condition: Condition
    metrics: tuple[PluginSpec, ...]
    indices: NDArray[np.intp]  # shape (M,); positions in the image set; images of one size
    repeat: int  # number of the noise drawn, from 0


def make_ceilings(
    store: RunStore,
    conditions: Mapping[str, Condition],
    shards: Sequence[Shard],
    context: WorkerContext,
    limits: Limits,
    on_event: Callable[[Event], None],
) -> None:
    """Score the oracle Wiener filter on every noise that allows it and has no scores yet.

    A failure is logged and leaves that noise without a ceiling; it does not fail the run.
    """
    metrics = tuple(metric.plugin for metric in store.record.metrics)
    missing = [noise for noise, condition in conditions.items() if has_ceiling(condition) and not store.ceiling(noise)]
    log = store.log_file("oracle_wiener", "ceiling")
    tasks = deque(
        CeilingTask(conditions[noise], metrics, shard.indices, shard.repeat) for noise in missing for shard in shards
    )
    if missing:
        on_event(StageStarted("scoring the oracle Wiener filter"))
    made: dict[str, list[Columns | Failure]] = {noise: [] for noise in missing}

    def keep(task: CeilingTask, result: Columns | Failure) -> None:
        made[task.condition.noise.spec].append(result)

    loop = WorkLoop(score_ceiling, lambda task: task, keep, what="a shard", limits=limits)
    loop.run(context, [WorkQueue("oracle_wiener", log, tasks)], store.record.options.workers)
    for noise, parts in made.items():
        tables = [part for part in parts if not isinstance(part, Failure)]
        failures = [part for part in parts if isinstance(part, Failure)]
        if failures:
            with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                label = store.record.noise_label(noise)
                file.write(f"no oracle Wiener filter on {label}: {failures[0].reason}\n{failures[0].detail}\n")
            continue
        columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
        order = np.lexsort((columns["repeat"], columns[IMAGE]))
        store.write_ceiling(noise, {name: values[order] for name, values in columns.items()})


def has_ceiling(condition: Condition) -> bool:
    """Whether the oracle Wiener filter is defined: the noise is white, and neither clipped nor rounded."""
    return not condition.protocol.changes_noise and condition.noise.white


def score_ceiling(task: CeilingTask) -> Columns | Failure:
    """Filter and score a stack: columns ``image``, ``repeat`` and one per metric, each of shape (M,)."""
    clean, noisy, sigma, _ = draw(task.condition, task.indices, task.repeat)
    if sigma is None:
        return Failure("failed", "its noise model defines no noise level")
    protocol = task.condition.protocol
    denoised = apply_protocol(oracle_wiener(clean, noisy, sigma), clip=True, quantize=protocol.round_output)
    repeat = np.full(len(clean), task.repeat, dtype=np.int32)
    columns: Columns = {IMAGE: task.indices.astype(np.int32), "repeat": repeat}
    labels = labels_of(task.condition, task.indices)
    for metric in task.metrics:
        columns[metric.spec] = score(metric, clean, denoised, labels, protocol.border)
    return columns


def oracle_wiener(clean: Images, noisy: Images, sigma: Sigma) -> Images:
    """Filter images, each channel by itself, by the gain derived from their clean spectrum, ``|X|^2 / (|X|^2 + N)``.

    Among all gains that do not depend on the draw of the noise it minimises the expected squared error. X is the
    discrete Fourier transform of the clean image, and ``N = sigma^2 H W`` the expected power of white noise at each
    frequency. If the variance differs between pixels, `sigma` (shape (N,)) is the root of the mean variance.

    References
    ----------
    N. Wiener, Extrapolation, Interpolation, and Smoothing of Stationary Time Series, MIT Press 1949.
    """
    if is_colour(clean):
        planes, levels = channels_apart(noisy), np.repeat(sigma, CHANNELS)
        return channels_together(oracle_wiener(channels_apart(clean), planes, levels))
    height, width = clean.shape[1:]
    spectrum = np.fft.rfft2(clean)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    total = power + (np.square(sigma) * np.float32(height * width))[:, None, None]
    gain = np.divide(power, total, out=np.zeros_like(power), where=total > 0)
    filtered = np.fft.irfft2(np.fft.rfft2(noisy) * gain, s=(height, width))
    return np.ascontiguousarray(filtered, dtype=np.float32)
