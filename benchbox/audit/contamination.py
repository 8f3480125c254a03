"""Finds scored images that a denoiser may have seen in training, and opens the splits of a data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbox.api.dataset import Dataset, ImageSet, fingerprint_of
from benchbox.api.errors import BenchboxError
from benchbox.audit.duplicates import group, links_between, links_within, match_hashes
from benchbox.records.run import DataRecord, Outcome

HASHED = (
    "compared with ten-byte hashes of {fitted}, not with its images; on PublicTest of FER2013 this misses 3 % of "
    "the duplicates and wrongly leaves out 4 % of the other images"
)


Seen = NDArray[np.bool_]


@dataclass(frozen=True)
class Repeats:
    """Which images of a split are duplicates."""

    # shape (N,); images with a duplicate in the `fitted` split; none if they are from that split themselves
    in_training: NDArray[np.bool_]
    again: NDArray[np.bool_]  # shape (N,); of the others, those that repeat an earlier image
    note: str = ""  # why the images were not compared with the training split itself
    compared: bool = True  # whether they were compared with the training split or hashes of it


def repeats_among(images: ImageSet, dataset: Dataset, training: ImageSet | None, missing: str = "") -> Repeats:
    """Find which images of a split are duplicates.

    `images` is a whole split; `missing` says why there is no training split, whose hashes then stand in for it. Other
    splits are ignored, so the result does not depend on them. What holds for an image holds for its whole group of
    duplicates.
    """
    seen = np.zeros(len(images), dtype=np.bool_)
    note, compared = "", not missing
    hashes = dataset.training_hashes()
    if training is not None:
        seen[links_between(images, training).links[:, 0]] = True
    elif missing and hashes is not None:
        seen = match_hashes(images, hashes)
        note, compared = f"{HASHED.format(fitted=dataset.fitted)} ({missing})", True
    elif missing:
        note = f"not compared with {dataset.fitted}: {missing}"
    group_of = group(links_within(images).links, len(images))
    grouped = group_of >= 0
    in_training = seen | (grouped & np.isin(group_of, group_of[grouped & seen]))
    left = np.flatnonzero(grouped & ~in_training)
    again = np.zeros(len(images), dtype=np.bool_)
    again[np.delete(left, np.unique(group_of[left], return_index=True)[1])] = True
    return Repeats(in_training, again, note, compared)


def needs_training(dataset: Dataset, split: str) -> bool:
    """Whether images of a split may have duplicates in a training split that does not contain them."""
    return bool(dataset.fitted) and dataset.fitted not in split_parts(split)


def seen_in_training(images: ImageSet, dataset: Dataset, path: Path | None, *, skip_bad: bool = False) -> Seen:
    """Find the images of a split that a denoiser may have seen if it was trained on the `fitted` split; shape (N,).

    A data set that comes with hashes of that split is compared with these even where the split itself is at hand, so
    that the same images are found whatever splits the data hold. Without hashes, raises `BenchboxError` if the split
    cannot be opened.
    """
    seen = np.zeros(len(images), dtype=np.bool_)
    if not needs_training(dataset, images.split):
        return seen
    hashes = dataset.training_hashes()
    if hashes is not None:
        return match_hashes(images, hashes)
    training = dataset.load(path, split=dataset.fitted, skip_bad=skip_bad)
    seen[links_between(images, training).links[:, 0]] = True
    return seen


def without_seen(images: ImageSet, dataset: Dataset, path: Path | None, *, skip_bad: bool = False) -> ImageSet:
    """Leave out and count what `seen_in_training` finds; raises `BenchboxError` if nothing is left."""
    try:
        seen = seen_in_training(images, dataset, path, skip_bad=skip_bad)
    except BenchboxError as problem:
        return replace(images, notes=(*images.notes, f"not compared with {dataset.fitted}: {problem.message}"))
    if not seen.any():
        return images
    if seen.all():
        raise BenchboxError(
            f"{path}: nothing is left to score, because every image is a probable duplicate of a training image",
            hint="score other images, or these with --keep-duplicates",
        )
    kept = np.flatnonzero(~seen)
    ids = [images.ids[index] for index in kept]
    left = images.subset(kept, fingerprint_of(ids, [images.fingerprint]))
    return replace(left, left_out=int(seen.sum()))


def training_overlap(data: DataRecord, outcome: Outcome) -> str:
    """Reason to believe that a row has seen scored images in training; empty if there is none."""
    card = outcome.card
    if card is None:
        return ""
    if is_trained_on(data, outcome):
        return f"it was trained on images that are scored here: {outcome.trained_on}"
    if not data.split and card.dataset == data.dataset and not card.fingerprint:
        return f"it may have been trained on images that are scored here: its card names only {outcome.trained_on}"
    if outcome.overlap:
        return (
            f"{outcome.overlap:,} of {data.images:,} scored images have a duplicate in its training data, "
            f"{outcome.trained_on}"
        )
    return ""


def is_trained_on(data: DataRecord, outcome: Outcome) -> bool:
    """Whether a training card names the scored images themselves, by fingerprint or by split."""
    card = outcome.card
    if card is None:
        return False
    fitted = {card.fingerprint, card.source} - {""}
    return bool(fitted & {data.fingerprint, data.source}) or shares_split(data, card.dataset, card.split)


def shares_split(data: DataRecord, dataset: str, split: str) -> bool:
    """Whether two splits of one data set overlap; a name may join several splits by ``+``."""
    return bool(split and dataset == data.dataset and set(split.split("+")) & set(data.split.split("+")))


def is_trained_beside(data: DataRecord, outcome: Outcome) -> bool:
    """Whether a card names the training split, and only other splits of the same data set are scored."""
    card = outcome.card
    if card is None or card.dataset != data.dataset or not data.fitted:
        return False
    return data.fitted in split_parts(card.split) and data.fitted not in split_parts(data.split)


@dataclass(frozen=True)
class Splits:
    """All images of a data set, by split."""

    sets: tuple[ImageSet, ...]  # no image is in two of them
    missing: dict[str, str]  # splits that could not be opened, and why


def open_splits(dataset: Dataset, path: Path | None, *, skip_bad: bool = False) -> Splits:
    """Open all images of a data set, split by split if it has splits; raises `BenchboxError` if none can be opened.

    A split that joins others by ``+`` is opened only if none of those can be.
    """
    if not dataset.splits:
        return Splits((dataset.load(path, skip_bad=skip_bad),), {})
    sets: dict[str, ImageSet] = {}
    missing: dict[str, BenchboxError] = {}
    for split in sorted(dataset.splits, key=lambda name: (split_parts(name) != {name}, name != dataset.fitted)):
        if split_parts(split) & sets.keys():
            continue
        try:
            sets[split] = dataset.load(path, split=split, skip_bad=skip_bad)
        except BenchboxError as problem:
            missing[split] = problem
    if not sets:
        raise next(iter(missing.values()))
    opened = {part for split in sets for part in split_parts(split)}
    return Splits(
        tuple(sets.values()),
        {split: problem.message for split, problem in missing.items() if not split_parts(split) <= opened},
    )


def split_parts(split: str) -> set[str]:
    """Splits that a name joins by ``+``."""
    return set(split.split("+"))
