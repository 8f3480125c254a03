"""Finds the scored images that a denoiser may have seen in training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbox.api.dataset import Dataset, ImageSet, fingerprint_of
from benchbox.audit.duplicates import Duplicates, find_duplicates
from benchbox.audit.splits import TRAINING, Splits, open_splits, split_parts
from benchbox.records.outcomes import Outcome
from benchbox.records.run import DataRecord


@dataclass(frozen=True)
class Repeats:
    """What `--drop-duplicates` looks at.

    Attributes
    ----------
    in_training : ndarray of bool, shape (N,)
        Images that have a duplicate in the Training split; none where they are of that split themselves.
    again : ndarray of bool, shape (N,)
        Of the others, those that repeat an image before them.
    note : str
        What kept it from looking into Training; empty where nothing did.
    """

    in_training: NDArray[np.bool_]
    again: NDArray[np.bool_]
    note: str = ""


def repeats_among(images: ImageSet, splits: Splits, found: Duplicates) -> Repeats:
    """Find which of some images are duplicates, once all images are compared.

    Images count as duplicates also where a chain of near duplicates links them.

    Parameters
    ----------
    images : ImageSet
        One of the splits, or images of several.
    splits : Splits
    found : Duplicates
        What `find_duplicates` says of the splits' sets.

    Returns
    -------
    Repeats
    """
    place = {one: position for position, one in enumerate(one for images in splits.sets for one in images.ids)}
    group = found.group_of[[place[one] for one in images.ids]]
    trained = np.zeros(0, dtype=np.int32)
    if TRAINING not in split_parts(images.split):
        where = np.repeat([one.split == TRAINING for one in splits.sets], [len(one) for one in splits.sets])
        trained = np.unique(found.group_of[where])
    in_training = (group >= 0) & np.isin(group, trained)
    left = np.flatnonzero((group >= 0) & ~in_training)
    again = np.zeros(len(images), dtype=np.bool_)
    again[np.delete(left, np.unique(group[left], return_index=True)[1])] = True
    missing = splits.missing.get(TRAINING, "")
    return Repeats(in_training, again, f"not compared with {TRAINING}: {missing}" if missing else "")


def repeats_of(images: ImageSet, dataset: Dataset, path: Path | None, *, skip_bad: bool = False) -> Repeats:
    """Open all images of some data, compare them, and find which of some of them are duplicates.

    Parameters
    ----------
    images : ImageSet
        A split of the data at `path`, or a part of one.
    dataset : Dataset
    path : Path or None
    skip_bad : bool

    Returns
    -------
    Repeats
    """
    splits = open_splits(dataset, path, skip_bad=skip_bad)
    return repeats_among(images, splits, find_duplicates(splits.sets))


def without_duplicates(images: ImageSet, dataset: Dataset, path: Path | None, *, skip_bad: bool = False) -> ImageSet:
    """Leave out images that have a duplicate in the Training split, and all but the first of those that repeat.

    Parameters
    ----------
    images : ImageSet
        A split of the data at `path`.
    dataset : Dataset
    path : Path or None
    skip_bad : bool

    Returns
    -------
    ImageSet
        With a note that says how many were left out and why.
    """
    repeats = repeats_of(images, dataset, path, skip_bad=skip_bad)
    kept = np.flatnonzero(~repeats.in_training & ~repeats.again)
    parts = []
    if not repeats.note and TRAINING in dataset.splits and TRAINING not in split_parts(images.split):
        parts.append(f"{int(repeats.in_training.sum()):,} with a duplicate in {TRAINING}")
    parts.append(f"{int(repeats.again.sum()):,} that repeat another one")
    notes = [f"duplicates left out: {len(images) - len(kept):,} of {len(images):,} images, {', '.join(parts)}"]
    notes += [repeats.note] if repeats.note else []
    ids = [images.ids[index] for index in kept]
    left = images.subset(kept, fingerprint_of(ids, [images.fingerprint]))
    return replace(left, notes=(*images.notes, *notes))


def leak_of(data: DataRecord, outcome: Outcome) -> str:
    """Why a row has seen images that it is scored on; empty where nothing says so.

    Parameters
    ----------
    data : DataRecord
    outcome : Outcome

    Returns
    -------
    str
    """
    card = outcome.card
    if card is None:
        return ""
    if is_fitted_to(data, outcome):
        return f"it was trained on images that are scored here: {outcome.trained_on}"
    if not data.split and card.dataset == data.dataset and not card.fingerprint:
        return f"it may have been trained on images that are scored here: its card says {outcome.trained_on}, not which"
    if outcome.overlap:
        return (
            f"{outcome.overlap:,} of {data.images:,} scored images have a duplicate in its training data, "
            f"{outcome.trained_on}"
        )
    return ""


def is_fitted_to(data: DataRecord, outcome: Outcome) -> bool:
    """Whether a card names the very images that are scored, by fingerprint or by split."""
    card = outcome.card
    if card is None:
        return False
    fitted = {card.fingerprint, card.source} - {""}
    return bool(fitted & {data.fingerprint, data.source}) or shares_split(data, card.dataset, card.split)


def shares_split(data: DataRecord, dataset: str, split: str) -> bool:
    """Whether two splits of one data set have a part in common; names may join several by ``+``."""
    return bool(split and dataset == data.dataset and set(split.split("+")) & set(data.split.split("+")))
