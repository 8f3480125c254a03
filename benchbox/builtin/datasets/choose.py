"""Finds out which data set a path is, opens it, and draws the images of a limited run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import xxhash

from benchbox.api.dataset import Dataset, ImageSet
from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.builtin.datasets.fingerprint import fingerprint_of
from benchbox.builtin.datasets.repeats import without_duplicates
from benchbox.builtin.datasets.sniff import read_head, refuse_known_mistakes, require_exists

BUILT_IN = "sample"
GENERIC = "images"
"""Takes any folder with pictures, so it is asked last."""


def open_images(
    path: Path | None,
    *,
    dataset: str | None,
    split: str,
    limit: int | None,
    seed: int,
    skip_bad: bool,
    datasets: Mapping[str, Dataset],
    drop_duplicates: bool = False,
) -> ImageSet:
    """Open the images of a run.

    Parameters
    ----------
    path : Path or None
        File or folder; None for the built-in sample.
    dataset : str or None
        Name of the data set; None to find out by looking.
    split : str
        Empty for the data set's default.
    limit : int or None
        Number of images to draw; None for all.
    seed : int
        Seed of the draw.
    skip_bad : bool
        Go on without images that cannot be decoded.
    datasets : mapping of str to Dataset
        What is registered.
    drop_duplicates : bool
        Leave out images with a duplicate in the Training split, and all but the first of those that repeat.

    Returns
    -------
    ImageSet

    Raises
    ------
    BenchboxError
        The path is missing or unknown, or the data are damaged.
    """
    chosen = choose(path, dataset, datasets)
    images = chosen.load(path, split=split, skip_bad=skip_bad)
    if drop_duplicates:
        images = without_duplicates(images, chosen, path, skip_bad=skip_bad)
    return images if limit is None else limit_images(images, limit, seed)


def choose(path: Path | None, dataset: str | None, datasets: Mapping[str, Dataset]) -> Dataset:
    """Find the data set of a path.

    Raises
    ------
    BenchboxError
        The name is unknown, the path is missing, or none or several data sets recognise it.
    """
    if dataset is not None:
        if dataset not in datasets:
            raise BenchboxError(f"unknown data set '{dataset}'", hint=did_you_mean(dataset, datasets))
        return datasets[dataset]
    if path is None:
        return datasets[BUILT_IN]
    require_exists(path)
    specific = [name for name in datasets if name != GENERIC]
    takers = [name for name in specific if datasets[name].recognises(path)]
    if len(takers) > 1:
        raise BenchboxError(f"{path} may be {' or '.join(takers)}", hint=f"say which: --dataset {takers[0]}")
    if takers:
        return datasets[takers[0]]
    if GENERIC in datasets and datasets[GENERIC].recognises(path):
        return datasets[GENERIC]
    if path.is_file():
        refuse_known_mistakes(path, read_head(path))
    raise BenchboxError(
        f"{path} is none of the known kinds of data (tried {', '.join(sorted(datasets))})",
        hint="give fer2013.csv, a folder of PNG, JPEG, TIFF or BMP files, or nothing for the built-in sample",
    )


def limit_images(images: ImageSet, limit: int, seed: int) -> ImageSet:
    """Draw images without replacement.

    An image's place in the draw is a hash of seed and id, so the same images are drawn on every machine and by every
    version of numpy, and a smaller draw is part of a larger one. They stay in their order.

    Parameters
    ----------
    images : ImageSet
    limit : int
        Number of images to draw, at least 1; where there are fewer, all are kept and a note says so.
    seed : int

    Returns
    -------
    ImageSet

    Raises
    ------
    BenchboxError
        `limit` is below 1.
    """
    if limit < 1:
        raise BenchboxError(f"--limit {limit}: at least one image is needed", hint="give a number from 1")
    if limit >= len(images):
        if limit == len(images):
            return images
        note = f"{limit} images asked for, all {len(images)} used"
        return replace(images, notes=(*images.notes, note))
    places = np.array([xxhash.xxh3_64_intdigest(f"{seed}\0{one}".encode()) for one in images.ids], dtype=np.uint64)
    drawn = np.sort(np.argsort(places, kind="stable")[:limit])
    return images.subset(drawn, fingerprint_of([images.ids[index] for index in drawn], [images.fingerprint]))
