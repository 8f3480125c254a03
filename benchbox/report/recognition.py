"""What a classifier still recognises in denoised images: by class, which for which, and what predicts it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchbox.records.run import MetricRecord, RunRecord
from benchbox.stats.ranking import kendall_tau, separate
from benchbox.stats.summaries import Scenes, by_scene
from benchbox.store import class_columns

Classes = NDArray[np.integer[Any]]

MOST_CLASSES = 20
FEWEST_ROWS = 4
"""Rows from which on a rank correlation says anything."""
_LABEL = "label_"


@dataclass(frozen=True)
class Recognised:
    """What the classifier sees in the images of one row.

    Attributes
    ----------
    denoiser : str
        The row, or ``clean``.
    role : {'', 'ceiling', 'floor'}
        Clean images are the ceiling; the noisy ones are the floor.
    kept : float
        Share of images in which it sees the class that it sees in the clean one.
    right : float
        Share of images in which it sees the labelled class; NaN without labels.
    by_class : tuple of float
        `right` by labelled class or, without labels, `kept` by the class of the clean image; NaN for a class without
        images.
    below_floor : bool
        Whether `kept` is significantly below that of the noisy images.
    confusion : tuple of tuple of int
        Images by the class of the clean one (rows) and of this one (columns); empty for clean images.
    best : tuple of str
        Keys of the columns to mark.
    """

    denoiser: str
    role: Literal["", "ceiling", "floor"]
    kept: float
    right: float
    by_class: tuple[float, ...]
    below_floor: bool = False
    confusion: tuple[tuple[int, ...], ...] = ()
    best: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recognition:
    """What one classifier recognises on one noise.

    Attributes
    ----------
    metric, title : str
        Specification and heading of the metric that asks it.
    classes : tuple of str
        Name or number of each class.
    label : str
        Label by which `by_class` of a row groups the images; empty for the class of the clean image.
    images : tuple of int
        Images of each class.
    rows : tuple of Recognised
        Clean images first, then by `kept`.
    tau : dict of str to float
        Kendall's tau-b between the order of the rows by `kept` and by each other metric, by its title.
    """

    metric: str
    title: str
    classes: tuple[str, ...]
    label: str
    images: tuple[int, ...]
    rows: tuple[Recognised, ...]
    tau: dict[str, float]

    @property
    def ceiling(self) -> Recognised | None:
        """Clean images; None without labels, because every class is kept."""
        return next((row for row in self.rows if row.role == "ceiling"), None)

    @property
    def floor(self) -> Recognised | None:
        """Noisy images; None if the run has no row that returns them."""
        return next((row for row in self.rows if row.role == "floor"), None)

    @property
    def denoisers(self) -> tuple[Recognised, ...]:
        """The rows that denoise, best first."""
        return tuple(row for row in self.rows if not row.role)


def recognitions(
    record: RunRecord,
    rows: Mapping[str, Mapping[str, NDArray[Any]]],
    images: Mapping[str, NDArray[Any]],
    scenes: Scenes | None,
) -> tuple[Recognition, ...]:
    """What each classifier of a run recognises on one noise.

    `rows` has the scores of each denoiser, empty if it was not completed, and `images` the labels of the images.
    Classifiers with more than `MOST_CLASSES` classes are left out.
    """
    found = (_recognition(record, metric, rows, images, scenes) for metric in record.metrics)
    return tuple(recognition for recognition in found if recognition is not None)


def _recognition(
    record: RunRecord,
    metric: MetricRecord,
    rows: Mapping[str, Mapping[str, NDArray[Any]]],
    images: Mapping[str, NDArray[Any]],
    scenes: Scenes | None,
) -> Recognition | None:
    of_clean, of_denoised = class_columns(metric.spec)
    asked = {name: columns for name, columns in rows.items() if _are_classes(columns, (of_clean, of_denoised))}
    if not asked:
        return None
    seen: dict[str, Classes] = {name: columns[of_denoised] for name, columns in asked.items()}
    clean: Classes = next(iter(asked.values()))[of_clean]  # the same in every row
    everything = np.stack([clean, *seen.values()])
    taken = np.asarray(np.all(everything >= 0, axis=(0, 2)))
    most = int(everything.max()) + 1
    if not taken.any() or most > (len(metric.class_names) or MOST_CLASSES) or len(metric.class_names) > MOST_CLASSES:
        return None
    names = metric.class_names or tuple(map(str, range(most)))
    label, labels = _labels(record, metric, images)
    truth: Classes = clean if labels is None else np.repeat(labels[:, np.newaxis], clean.shape[1], axis=1)
    floors = {denoiser.label for denoiser in record.denoisers if denoiser.is_floor}
    hurt = _below(seen, clean, taken, floors, scenes)
    made = []
    for name, classes in seen.items():
        confusion = np.zeros((len(names), len(names)), dtype=np.int64)
        np.add.at(confusion, (clean[taken].ravel(), classes[taken].ravel()), 1)
        made.append(
            replace(
                _recognised(name, classes[taken], clean[taken], truth[taken], len(names), labelled=labels is not None),
                role="floor" if name in floors else "",
                below_floor=name in hurt,
                confusion=tuple(map(tuple, confusion.tolist())),
            )
        )
    made = _marked(sorted(made, key=lambda row: -row.kept))
    if labels is not None:
        ceiling = _recognised("clean", clean[taken], clean[taken], truth[taken], len(names), labelled=True)
        made.insert(0, replace(ceiling, role="ceiling"))
    counts = tuple(int((truth[taken][:, 0] == number).sum()) for number in range(len(names)))
    return Recognition(metric.spec, metric.title, names, label, counts, tuple(made), _tau(record, metric, rows, made))


def _are_classes(columns: Mapping[str, NDArray[Any]], names: tuple[str, str]) -> bool:
    """Whether there are columns of classes; a run folder may come from anybody."""
    return all(name in columns and columns[name].dtype.kind in "iu" for name in names)


def _labels(
    record: RunRecord, metric: MetricRecord, images: Mapping[str, NDArray[Any]]
) -> tuple[str, NDArray[np.int64] | None]:
    """Name and values, shape (N,), of the label with the classes of a metric; empty and None if there is none."""
    for name, known in record.data.label_names.items():
        values = images.get(f"{_LABEL}{name}")
        # A data set may have more names, of images that show none of the classes.
        same = metric.class_names and known[: len(metric.class_names)] == metric.class_names
        if same and values is not None and values.dtype.kind in "iu":
            return name, values.astype(np.int64)
    return "", None


def _recognised(
    name: str, classes: Classes, clean: Classes, truth: Classes, count: int, *, labelled: bool
) -> Recognised:
    kept = classes == clean
    agreed = classes == truth
    by_class = tuple(_share(agreed[truth == number]) for number in range(count))
    right = _share(agreed[(truth >= 0) & (truth < count)]) if labelled else math.nan
    return Recognised(name, "", _share(kept), right, by_class)


def _share(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else math.nan


def _below(
    seen: Mapping[str, Classes],
    clean: Classes,
    taken: NDArray[np.bool_],
    floors: Collection[str],
    scenes: Scenes | None,
) -> set[str]:
    """Rows whose classes are kept significantly less often than those of the noisy images."""
    floor = next((name for name in seen if name in floors), None)
    names = [name for name in seen if name not in floors]
    if floor is None or not names:
        return set()
    kept = np.column_stack([(seen[name] == clean)[taken].mean(axis=1) for name in (floor, *names)])
    others = np.arange(1, len(names) + 1)
    tested = separate(by_scene(kept, None if scenes is None else scenes[taken]), others, np.zeros_like(others))
    return {name for name, apart, by in zip(names, tested.apart, tested.difference, strict=True) if apart and by < 0}


def _marked(rows: Sequence[Recognised]) -> list[Recognised]:
    """Mark the highest share of each column among rows that denoise, unless it is none of the images."""
    denoisers = [row for row in rows if not row.role]
    highest = {}
    for key in shares_of(denoisers[0]) if denoisers else ():
        shares = {value for row in denoisers if not math.isnan(value := shares_of(row)[key])}
        highest[key] = max(shares) if max(shares, default=0.0) else math.nan
    return [
        row if row.role else replace(row, best=tuple(key for key, v in shares_of(row).items() if v == highest[key]))
        for row in rows
    ]


def shares_of(row: Recognised) -> dict[str, float]:
    """The shares of a row by column key."""
    by_class = {f"class_{number}": share for number, share in enumerate(row.by_class)}
    return {"kept": row.kept, "right": row.right, **by_class}


def _tau(
    record: RunRecord,
    metric: MetricRecord,
    rows: Mapping[str, Mapping[str, NDArray[Any]]],
    recognised: Sequence[Recognised],
) -> dict[str, float]:
    kept = {row.denoiser: row.kept for row in recognised if row.role != "ceiling"}
    if len(kept) < FEWEST_ROWS:
        return {}
    found = {}
    for other in record.metrics:
        means = np.array([other.sign * float(np.mean(rows[name][other.spec], dtype=np.float64)) for name in kept])
        if other.spec != metric.spec and np.isfinite(means).all():
            found[other.title] = kendall_tau(means, np.array([*kept.values()]))
    return found


def recognition_title(recognition: Recognition) -> str:
    """Title of the table of `recognition_columns`."""
    by = f"seen as labelled, by {recognition.label}" if recognition.label else "seen as in the clean image, by class"
    return f"{recognition.title}: images {by} (%)"


def percent(share: float) -> str:
    """A share in percent, to a tenth."""
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def recognition_notes(recognition: Recognition) -> tuple[str, ...]:
    """Which row keeps most classes, which rows lose more of them than the noise did, and which metrics predict it."""
    title, floor, ceiling = recognition.title, recognition.floor, recognition.ceiling
    notes = []
    if recognition.denoisers:
        best = recognition.denoisers[0]
        noisy = f", {percent(floor.kept)} % on noisy images" if floor else ""
        right = [(f"{row.denoiser}" if row.role != "floor" else "noisy", row) for row in (best, floor, ceiling) if row]
        known = ", ".join(f"{name} {percent(row.right)} %" for name, row in right) if ceiling else ""
        notes.append(
            f"{title}: most by {best.denoiser}, {percent(best.kept)} %{noisy}"
            + (f"; as labelled: {known}" if known else "")
        )
    if hurt := [row.denoiser for row in recognition.denoisers if row.below_floor]:
        notes.append(f"{title}: significantly less than on the noisy images with {', '.join(hurt)}")
    if recognition.tau:
        taus = ", ".join(f"{name} {tau:.2f}" for name, tau in recognition.tau.items() if not math.isnan(tau))
        rows = sum(row.role != "ceiling" for row in recognition.rows)
        notes.append(f"order of the {rows} rows by '{title}' and by other metrics, Kendall's tau: {taus}")
    return tuple(notes)
