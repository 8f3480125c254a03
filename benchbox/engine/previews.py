"""Makes pictures of a few images per noise, chosen by rules once the scores are known."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Image
from benchbox.audit.contamination import training_overlap
from benchbox.engine.drawing import Condition, draw, image_set
from benchbox.engine.events import Event, StageAdvanced, StageStarted
from benchbox.engine.plan import Limits
from benchbox.engine.reuse import reuse_previews
from benchbox.engine.shard import crop_corner, cropped, denoise_drawn
from benchbox.engine.work_loop import WorkLoop, WorkQueue
from benchbox.engine.workers import WorkerContext
from benchbox.records.run import Cell, Failure, MetricRecord, PluginSpec
from benchbox.stats.summaries import average_repeats, counted
from benchbox.store import IMAGE, RunStore, class_columns, noise_key

MOST_REPEATS = 8
Denoised = Mapping[tuple[int, int], NDArray[np.float16]]
"""Denoised images by position and repeat, whole or cropped."""
Kept = list[tuple[int, int, NDArray[np.float32]]]
Corners = Mapping[int, tuple[int, int]]
"""Top and left of the crop of each image, by position in the image set."""


@dataclass(frozen=True)
class PreviewTask:
    """Images that one denoiser denoises again, as a value that is sent to a worker."""

    denoiser: PluginSpec
    condition: Condition
    corners: Corners
    repeats: int  # noises per image


@dataclass(frozen=True)
class _PreviewWork:
    """A cell that needs pictures, and the task for its worker."""

    cell: Cell
    task: PreviewTask


def make_previews(
    store: RunStore,
    conditions: Mapping[str, Condition],
    context: WorkerContext,
    limits: Limits,
    on_event: Callable[[Event], None],
    denoised: Mapping[str, Denoised] = MappingProxyType({}),
    sources: Mapping[str, RunStore] = MappingProxyType({}),
) -> None:
    """Make the missing pictures of a scored run.

    All denoisers on a noise show the same images, those of `choose_images`, with the noise that was scored. Rows with
    training overlap have no say in the choice if there are others. A failure is logged and leaves a row without
    pictures; it does not fail the run. Images are denoised again only if they are neither in `denoised`, by cell, nor
    shown by the earlier run in `sources` that the cell was copied from. `on_event` is never called by two threads at
    once.
    """
    outcomes = store.outcomes()
    queues: dict[str, WorkQueue[_PreviewWork]] = {}
    denoisers = {denoiser.spec: denoiser for denoiser in store.record.denoisers}
    repeats = min(store.record.protocol.repeats, MOST_REPEATS)
    for noise, condition in conditions.items():
        cells = [
            cell
            for cell in store.record.cells
            if cell.noise == noise and cell.sigma_factor == 1 and outcomes[cell.key].status == "ok"
        ]
        clear = [cell for cell in cells if not training_overlap(store.record.data, outcomes[cell.key])]
        corners = _inputs(store, condition, clear or cells, repeats)
        for cell in cells:
            if _write_kept(store, cell, denoised.get(cell.key, {}), corners, repeats):
                continue
            if cell.key in sources and reuse_previews(store, cell, sources[cell.key]):
                continue
            if corners and not store.previews(cell.key)[0]:
                task = PreviewTask(denoisers[cell.denoiser].plugin, condition, corners, repeats)
                if cell.denoiser not in queues:
                    log = store.log_file(cell.denoiser, "previews")
                    label = store.record.denoiser_label(cell.denoiser)
                    queues[cell.denoiser] = WorkQueue(label, log, deque())
                queues[cell.denoiser].tasks.append(_PreviewWork(cell, task))
    if queues:
        on_event(StageStarted("making pictures for the report", sum(len(queue.tasks) for queue in queues.values())))
    lock = threading.Lock()

    def keep(work: _PreviewWork, result: dict[str, Any] | Failure) -> None:
        cell = work.cell
        if isinstance(result, Failure):
            with queues[cell.denoiser].log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                label = store.record.noise_label(cell.noise)
                file.write(f"no pictures on {label}: {result.reason}\n{result.detail}\n")
        else:
            columns = {IMAGE: result[IMAGE], "repeat": result["repeat"]}
            store.write_previews(cell.key, columns, {"denoised": result["pictures"]})
        with lock:
            on_event(StageAdvanced())

    loop = WorkLoop(denoise_previews, lambda work: work.task, keep, what="making pictures", limits=limits)
    loop.run(context, list(queues.values()), store.record.options.workers)


def choose_images(
    scores: Mapping[str, NDArray[np.float64]], count: int, *, higher_is_better: bool
) -> tuple[tuple[int, str], ...]:
    """Choose at most `count` images by their scores (shape (N,) per denoiser); returns positions with reasons.

    In this order: the leader's median, worst and best image, the one on which the two leaders differ most, then images
    spread evenly over the leader's scores. If a rule selects an image that is already chosen, its next one is taken.
    """
    if not scores:
        return ()
    names = list(scores)
    table = np.column_stack([scores[name] for name in names]) * (1.0 if higher_is_better else -1.0)
    comparable = np.flatnonzero(np.isfinite(table).all(axis=1))
    if not len(comparable):
        return tuple((index, "first of the data") for index in range(min(count, len(table))))
    table = table[comparable]
    leaders = np.argsort(-table.mean(axis=0), kind="stable")
    first = table[:, leaders[0]]
    rising = np.argsort(first, kind="stable")
    leader = names[leaders[0]]
    rules = [
        (f"median of {leader}", _outwards(rising, len(rising) // 2)),
        (f"worst of {leader}", rising),
        (f"best of {leader}", rising[::-1]),
    ]
    if len(leaders) > 1:
        apart = np.abs(first - table[:, leaders[1]])
        rules.append((f"{leader} and {names[leaders[1]]} differ most", np.argsort(-apart, kind="stable")))
    spread = max(0, count - len(rules))
    for place in range(spread):
        share = (place + 0.5) / spread
        rules.append((f"{100 * share:.0f} % of {leader}", _outwards(rising, int(share * len(rising)))))
    chosen: dict[int, str] = {}
    for why, order in rules[:count]:
        free = next((int(index) for index in order if int(index) not in chosen), None)
        if free is not None:
            chosen[free] = why
    return tuple((int(comparable[index]), why) for index, why in chosen.items())


def most_changed(
    rows: Sequence[Mapping[str, NDArray[Any]]], metric: MetricRecord, chosen: Collection[int], count: int
) -> dict[int, str]:
    """At most `count` images, not yet chosen, whose class changes in most rows, with reasons.

    `rows` are the columns of the scores of each denoiser; without those of a classifier, there are no images. Only the
    first repeat of an image counts.
    """
    clean, denoised = class_columns(metric.spec)
    firsts = [{name: row[name][row["repeat"] == 0] for name in row} for row in rows if denoised in row]
    if not firsts:
        return {}
    changed = np.sum([row[clean] != row[denoised] for row in firsts], axis=0)
    images = firsts[0][IMAGE]
    order = [place for place in np.argsort(-changed, kind="stable").tolist() if images[place] not in chosen]
    return {
        int(images[place]): f"{metric.title}: changed in {changed[place]} of {len(firsts)} rows"
        for place in order[:count]
        if changed[place]
    }


def denoise_previews(task: PreviewTask) -> dict[str, Any]:
    """Denoise the chosen images again; returns their columns and pictures."""
    kept: Kept = []
    for group in _by_size(task.condition, list(task.corners)):
        for repeat in range(task.repeats):
            _, noisy, sigma_true, _ = draw(task.condition, group, repeat)
            denoised = denoise_drawn(task.denoiser, task.condition, noisy, sigma_true)
            kept += _cropped(zip(group.tolist(), denoised, strict=True), repeat, task.corners)
    return _ordered(kept, list(task.corners))


def _write_kept(store: RunStore, cell: Cell, denoised: Denoised, corners: Corners, repeats: int) -> bool:
    """Write the pictures of a cell from the images that were scored; returns whether all of them are there."""
    if not corners or not denoised.keys() >= {(index, repeat) for index in corners for repeat in range(repeats)}:
        return False
    kept: Kept = []
    for repeat in range(repeats):
        kept += _cropped(((index, denoised[index, repeat].astype(np.float32)) for index in corners), repeat, corners)
    table = _ordered(kept, list(corners))
    store.write_previews(cell.key, {IMAGE: table[IMAGE], "repeat": table["repeat"]}, {"denoised": table["pictures"]})
    return True


def _inputs(store: RunStore, condition: Condition, cells: Sequence[Cell], repeats: int) -> Corners:
    """Choose the images of a noise, unless done, and store them clean and noisy; returns the corners of their crops."""
    key = noise_key(condition.noise.spec)
    columns, _ = store.previews(key)
    if {"top", "left"} <= columns.keys():
        stored = zip(columns["top"].tolist(), columns["left"].tolist(), strict=True)
        return dict(zip(columns[IMAGE].tolist(), stored, strict=True))
    record = store.record
    metric = record.main_metric
    scores = {}
    for cell in cells:
        column = {metric.spec: counted(store.scores(cell.key)[metric.spec], metric.unit)}
        scores[record.denoiser_label(cell.denoiser)] = average_repeats(column, record.protocol.repeats)[metric.spec]
    wanted = store.record.options.previews
    chosen = dict(choose_images(scores, wanted, higher_is_better=metric.higher_is_better))
    floors = {denoiser.spec for denoiser in record.denoisers if denoiser.is_floor}
    rows = [store.scores(cell.key) for cell in cells if cell.denoiser not in floors]
    changed = (most_changed(rows, judged, chosen, wanted) for judged in record.metrics)
    chosen |= next(filter(None, changed), {})  # those of the first metric that asks a classifier
    found: dict[int, tuple[int, int]] = {}
    clean: Kept = []
    noisy: Kept = []
    for group in _by_size(condition, list(chosen)) if chosen else []:
        for repeat in range(repeats):
            both = draw(condition, group, repeat)[:2]
            found |= {index: crop_corner(image) for index, image in zip(group.tolist(), both[0], strict=True)}
            for kept, stack in zip((clean, noisy), both, strict=True):
                kept += _cropped(zip(group.tolist(), stack, strict=True), repeat, found)
    corners = {index: found[index] for index in chosen}
    if corners:
        table = _ordered(clean, list(corners))
        places = np.array([corners[index] for index in table[IMAGE].tolist()], dtype=np.int32)
        why = np.array([chosen[index] for index in table[IMAGE].tolist()], dtype=object)
        made = {IMAGE: table[IMAGE], "repeat": table["repeat"], "why": why, "top": places[:, 0], "left": places[:, 1]}
        store.write_previews(
            key, made, {"clean": table["pictures"], "noisy": _ordered(noisy, list(corners))["pictures"]}
        )
    return corners


def _by_size(condition: Condition, indices: Sequence[int]) -> list[NDArray[np.intp]]:
    """Positions grouped by image size."""
    shapes = image_set(condition).shapes[list(indices)]
    _, groups = np.unique(shapes, axis=0, return_inverse=True)
    groups = groups.reshape(-1)
    return [np.asarray(indices, dtype=np.intp)[groups == group] for group in range(groups.max() + 1)]


def _cropped(pictures: Iterable[tuple[int, Image]], repeat: int, corners: Corners) -> Kept:
    """Crop pictures, given with the positions of their images, unless they are crops already."""
    return [(index, repeat, cropped(picture, corners[index])) for index, picture in pictures]


def _ordered(kept: Kept, indices: Sequence[int]) -> dict[str, Any]:
    """Columns and pictures in the order of the choice, with the repeats of an image together."""
    place = {index: number for number, index in enumerate(indices)}
    kept = sorted(kept, key=lambda entry: (place[entry[0]], entry[1]))
    return {
        IMAGE: np.array([index for index, _, _ in kept], dtype=np.int32),
        "repeat": np.array([repeat for _, repeat, _ in kept], dtype=np.int32),
        "pictures": [picture for _, _, picture in kept],
    }


def _outwards(order: NDArray[np.intp], place: int) -> NDArray[np.intp]:
    """An order of images, rearranged by the distance from a place in it."""
    return order[np.argsort(np.abs(np.arange(len(order)) - place), kind="stable")]
