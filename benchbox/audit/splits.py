"""Opens every split of a data set, or all its images if it has no splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchbox.api.dataset import Dataset, ImageSet
from benchbox.api.errors import BenchboxError


@dataclass(frozen=True)
class Splits:
    """All images of some data."""

    sets: tuple[ImageSet, ...]  # no image is in two of them
    missing: dict[str, str]  # splits that could not be opened, and why


def open_splits(dataset: Dataset, path: Path | None, *, skip_bad: bool = False) -> Splits:
    """Open each split of some data.

    A split whose name joins others by ``+`` is opened only where none of these can be.
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
    """Names that a split joins; its own where it joins none."""
    return set(split.split("+"))
