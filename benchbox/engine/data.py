"""Opens the images of a run, the same ones in every process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchbox.api.dataset import Dataset, ImageSet
from benchbox.api.records import DataRecord, DataRequest
from benchbox.builtin.datasets.choose import open_images


def open_data(request: DataRequest, datasets: Mapping[str, Dataset]) -> ImageSet:
    """Open what was asked for.

    Parameters
    ----------
    request : DataRequest
    datasets : mapping of str to Dataset
        The kinds of data to choose from, by name.

    Returns
    -------
    ImageSet

    Raises
    ------
    BenchboxError
        The data are missing or damaged, or no kind of data recognises the path.
    """
    return open_images(
        Path(request.path) if request.path else None,
        dataset=request.dataset or None,
        split=request.split,
        limit=request.limit,
        seed=request.seed,
        skip_bad=request.skip_bad,
        drop_duplicates=request.drop_duplicates,
        datasets=datasets,
    )


def describe_data(images: ImageSet) -> DataRecord:
    """What was opened, for the record."""
    sizes = np.unique(images.shapes, axis=0)
    first, last = (f"{height}x{width}" for height, width in (sizes[0], sizes[-1]))
    return DataRecord(
        dataset=images.dataset,
        split=images.split,
        images=len(images),
        sizes=first if len(sizes) == 1 else f"{len(sizes)} sizes from {first} to {last}",
        fingerprint=images.fingerprint,
        source=images.source or images.fingerprint,
        notes=images.notes,
    )
