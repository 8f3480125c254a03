"""Opens the images of a run identically in every process, and draws a subset for `--limit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.api.dataset import Dataset, ImageSet, fingerprint_of
from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.audit.contamination import is_trained_beside, seen_in_training, without_seen
from benchbox.builtin.datasets.opening import read_head, refuse_known_mistakes, require_exists
from benchbox.builtin.datasets.pair_layouts import is_noisy_name
from benchbox.builtin.datasets.pairs import Pairs
from benchbox.engine.events import Event, StageStarted
from benchbox.records.options import RECORDED, RunOptions
from benchbox.records.protocol import Protocol
from benchbox.records.run import DataRecord, Outcome
from benchbox.registry import Registry
from benchbox.store import RunStore


def open_data(options: RunOptions, datasets: Mapping[str, Dataset]) -> ImageSet:
    """Open the images that the options name; the type of a data set that they do not name is detected."""
    chosen = find_dataset(options, datasets)
    if options.white is not None:
        chosen = chosen.scaled(options.white)
    chosen = chosen.colored(options.color)
    images = chosen.load(options.path, split=options.split, skip_bad=options.skip_bad)
    if not options.keep_duplicates:
        images = without_seen(images, chosen, options.path, skip_bad=options.skip_bad)
    drawn = images if options.limit is None else limit_images(images, options.limit, options.seed)
    return crop_images(drawn, options.protocol)


def crop_images(images: ImageSet, protocol: Protocol) -> ImageSet:
    """Crop images as a protocol says; raises `BenchboxError` if nothing of one would be left to score."""
    multiple, border = protocol.modcrop, protocol.border
    shapes = images.shapes - images.shapes % multiple
    small = (shapes <= 2 * border).any(axis=1)
    if small.any():
        raise BenchboxError(
            f"image '{images.ids[int(small.argmax())]}' has no pixel left under protocol {protocol.name}",
            hint="use larger images, or another --protocol",
        )
    if (shapes == images.shapes).all():
        return images

    def read(indices: NDArray[np.intp]) -> Images:
        height, width = shapes[indices[0]]
        # Images of several sizes may have one size once they are cropped.
        apart = [images.stack(indices[place : place + 1])[:, :height, :width] for place in range(len(indices))]
        return np.concatenate(apart)

    fingerprint = fingerprint_of(images.ids, [images.fingerprint, f"multiples of {multiple}"])
    return replace(images, shapes=shapes, fingerprint=fingerprint, read=read)


def find_dataset(options: RunOptions, datasets: Mapping[str, Dataset]) -> Dataset:
    """Data set that the options name, or that recognises their files."""
    clean = Path(options.clean) if options.clean else None
    return choose_dataset(options.path, options.dataset or None, datasets, clean)


def choose_dataset(
    path: Path | None, dataset: str | None, datasets: Mapping[str, Dataset], clean: Path | None = None
) -> Dataset:
    """Data set for a path, or for a noisy and a clean one; raises `BenchboxError` if none or several recognise it."""
    if clean is not None:
        if dataset not in (None, Pairs.name):
            raise BenchboxError(f"--noisy and --clean are pairs, not '{dataset}'", hint="omit --dataset")
        return Pairs(clean=clean)
    if dataset is not None:
        if dataset not in datasets:
            raise BenchboxError(f"unknown data set '{dataset}'", hint=did_you_mean(dataset, datasets))
        return datasets[dataset]
    if path is None:
        return next(found for found in datasets.values() if found.built_in)
    require_exists(path)
    for last in (False, True):
        takers = [name for name, found in datasets.items() if found.catch_all == last and found.recognises(path)]
        if len(takers) > 1:
            raise BenchboxError(f"{path} may be {' or '.join(takers)}", hint=f"name one, such as --dataset {takers[0]}")
        if takers:
            return datasets[takers[0]]
    if path.is_file():
        refuse_known_mistakes(path, read_head(path))
    raise BenchboxError(
        f"{path} is not a known type of data set (tried {', '.join(sorted(datasets))})",
        hint="give fer2013.csv, a folder of images, or nothing for the built-in sample",
    )


def limit_images(images: ImageSet, limit: int, seed: int) -> ImageSet:
    """Draw at most `limit` images without replacement, in their original order.

    Images are drawn by a hash of seed and id, so every machine and every version of numpy draws the same ones, and a
    smaller draw is part of a larger one.
    """
    if limit < 1:
        raise BenchboxError(f"--limit {limit}: too few images", hint="give a number of at least 1")
    if limit >= len(images):
        if limit == len(images):
            return images
        note = f"--limit {limit:,} exceeds the number of images; all {len(images):,} are used"
        return replace(images, notes=(*images.notes, note))
    places = np.array([xxhash.xxh3_64_intdigest(f"{seed}\0{name}".encode()) for name in images.ids], dtype=np.uint64)
    drawn = np.sort(np.argsort(places, kind="stable")[:limit])
    return images.subset(drawn, fingerprint_of([images.ids[index] for index in drawn], [images.fingerprint]))


def as_noisy(images: ImageSet, options: RunOptions) -> ImageSet:
    """Take images for noisy ones without clean ones; raises `BenchboxError` if they are built in."""
    if options.path is None:
        raise BenchboxError(
            f"--noise {RECORDED}: the images of {images.dataset} are clean",
            hint="give noisy images with --data, and clean ones, if there are any, with --noisy FOLDER --clean FOLDER",
        )
    return replace(images, read_noisy=images.read)


def describe_data(images: ImageSet, kind: type[Dataset], path: Path | None) -> DataRecord:
    """Describe the images opened from `path` for the record of a run."""
    sizes = np.unique(images.shapes, axis=0)
    first, last = (f"{height}x{width}" for height, width in (sizes[0], sizes[-1]))
    return DataRecord(
        dataset=images.dataset,
        split=images.split,
        images=len(images),
        channels=3 if images.channels == 3 else 1,
        scenes=scenes if (scenes := len(set(images.scenes))) < len(images) else 0,
        sizes=first if len(sizes) == 1 else f"{len(sizes)} sizes from {first} to {last}",
        fingerprint=images.fingerprint,
        source=images.source or images.fingerprint,
        source_images=images.source_images or len(images),
        left_out=images.left_out,
        notes=images.notes,
        label_names={name: tuple(names) for name, names in kind.label_names.items()},
        caveat=kind.caveat,
        fitted=kind.fitted,
        validated=kind.validated,
        tested=kind.tested,
        folder=_name_of(path.resolve()) if path and kind.named_by_path else "",
    )


def _name_of(path: Path) -> str:
    """What results call the data of a folder or file; one that says only that it is noisy comes with its parent."""
    name = path.stem if path.is_file() else path.name
    return f"{path.parent.name}/{name}" if is_noisy_name(name) else name


def note_overlaps(store: RunStore, registry: Registry, on_event: Callable[[Event], None]) -> None:
    """Store in the outcomes of trained denoisers how many scored images have duplicates in their training data.

    This needs a training card that names the data set's training split, and other splits to be scored: only then are
    hashes of the training images, or the images themselves, available. The result is cached.
    """
    record = store.record
    unchecked = {key: outcome for key, outcome in store.outcomes().items() if _is_unchecked(record.data, outcome)}
    if not unchecked:
        return
    on_event(StageStarted("looking for scored images in the training data"))
    options = record.options
    dataset = registry.dataset(options.dataset).make()
    images = open_data(options, {options.dataset: dataset})
    try:
        overlap = int(seen_in_training(images, dataset, options.path, skip_bad=options.skip_bad).sum())
    except BenchboxError:
        return  # it stays unknown, and the rows say so
    for key, outcome in unchecked.items():
        store.write_outcome(key, replace(outcome, overlap=overlap))


def _is_unchecked(data: DataRecord, outcome: Outcome) -> bool:
    return outcome.status == "ok" and outcome.overlap is None and is_trained_beside(data, outcome)
