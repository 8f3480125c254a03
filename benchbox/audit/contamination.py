"""Finds the scored images that a denoiser may have seen in training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbox.api.dataset import Dataset, ImageSet, fingerprint_of
from benchbox.api.errors import BenchboxError
from benchbox.audit.duplicates import group, links_between, links_within, match_hashes
from benchbox.audit.splits import split_parts
from benchbox.records.outcomes import Outcome
from benchbox.records.run import DataRecord

HASHED = (
    "compared with ten-byte hashes of {fitted}, not with its images; on PublicTest of FER2013 this misses 3 % of "
    "the duplicates and leaves out 4 % of the other images without need"
)


@dataclass(frozen=True)
class Repeats:
    """What `--drop-duplicates` looks at."""

    # shape (N,); images that have a duplicate in the `fitted` split; none where they are of that split themselves
    in_training: NDArray[np.bool_]
    again: NDArray[np.bool_]  # shape (N,); of the others, those that repeat an image before them
    note: str = ""  # what kept it from looking into Training itself; empty where nothing did
    compared: bool = True  # whether the images were compared with Training or with hashes of it


def repeats_among(images: ImageSet, dataset: Dataset, training: ImageSet | None, missing: str = "") -> Repeats:
    """Find which images of a split are duplicates.

    Only the split and Training are looked at, so what other splits some data have changes nothing. Images that show the
    same, directly or through others of the split, share what is found of one of them.
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
    """Whether images of a split may have duplicates in a split for training that they are no part of."""
    return bool(dataset.fitted) and dataset.fitted not in split_parts(split)


def find_repeats(images: ImageSet, dataset: Dataset, path: Path | None, *, skip_bad: bool = False) -> Repeats:
    """Open a split and Training, and find which images are duplicates; comparisons are cached by content."""
    whole = dataset.load(path, split=images.split, skip_bad=skip_bad)
    training, missing = None, ""
    if needs_training(dataset, images.split):
        try:
            training = dataset.load(path, split=dataset.fitted, skip_bad=skip_bad)
        except BenchboxError as problem:
            missing = problem.message
    repeats = repeats_among(whole, dataset, training, missing)
    place_of = {name: place for place, name in enumerate(whole.ids)}
    places = np.array([place_of[name] for name in images.ids], dtype=np.intp)
    return replace(repeats, in_training=repeats.in_training[places], again=repeats.again[places])


def without_duplicates(images: ImageSet, dataset: Dataset, path: Path | None, *, skip_bad: bool = False) -> ImageSet:
    """Leave out images that have a duplicate in the `fitted` split, and all but the first of those that repeat."""
    repeats = find_repeats(images, dataset, path, skip_bad=skip_bad)
    kept = np.flatnonzero(~repeats.in_training & ~repeats.again)
    parts = []
    if repeats.compared and needs_training(dataset, images.split):
        kind = f"that match a hash of {dataset.fitted}" if repeats.note else f"with a duplicate in {dataset.fitted}"
        parts.append(f"{int(repeats.in_training.sum()):,} {kind}")
    parts.append(f"{int(repeats.again.sum()):,} that repeat another one")
    notes = [f"duplicates left out: {len(images) - len(kept):,} of {len(images):,} images, {', '.join(parts)}"]
    notes += [repeats.note] if repeats.note else []
    ids = [images.ids[index] for index in kept]
    left = images.subset(kept, fingerprint_of(ids, [images.fingerprint]))
    return replace(left, notes=(*images.notes, *notes))


def training_overlap(data: DataRecord, outcome: Outcome) -> str:
    """Why a row has seen images that it is scored on; empty where nothing says so."""
    card = outcome.card
    if card is None:
        return ""
    if is_trained_on(data, outcome):
        return f"it was trained on images that are scored here: {outcome.trained_on}"
    if not data.split and card.dataset == data.dataset and not card.fingerprint:
        return f"it may have been trained on images that are scored here: its card says {outcome.trained_on}, not which"
    if outcome.overlap:
        return (
            f"{outcome.overlap:,} of {data.images:,} scored images have a duplicate in its training data, "
            f"{outcome.trained_on}"
        )
    return ""


def is_trained_on(data: DataRecord, outcome: Outcome) -> bool:
    """Whether a card names the very images that are scored, by fingerprint or by split."""
    card = outcome.card
    if card is None:
        return False
    fitted = {card.fingerprint, card.source} - {""}
    return bool(fitted & {data.fingerprint, data.source}) or shares_split(data, card.dataset, card.split)


def shares_split(data: DataRecord, dataset: str, split: str) -> bool:
    """Whether two splits of one data set have a part in common; names may join several by ``+``."""
    return bool(split and dataset == data.dataset and set(split.split("+")) & set(data.split.split("+")))


def is_trained_beside(data: DataRecord, outcome: Outcome) -> bool:
    """Whether a card names the split that trainings fit, and only other splits of the same data are scored."""
    card = outcome.card
    if card is None or card.dataset != data.dataset or not data.fitted:
        return False
    return data.fitted in split_parts(card.split) and data.fitted not in split_parts(data.split)
