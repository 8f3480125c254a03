"""The plain values of a comparison of two runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchbox.report.model import MetricColumn, Speed


@dataclass(frozen=True)
class Change:
    """A metric in two runs, on the images that have a finite score in both.

    Attributes
    ----------
    before, after : float
        Means.
    difference : float
        Mean of the paired differences, after less before.
    low, high : float
        Bootstrap interval of the difference at 95 %; NaN for fewer than two images.
    p : float
        Wilcoxon signed-rank, two-sided, with Holm's correction over all rows of the comparison.
    apart : bool
        Whether the interval leaves out zero, `p` is below 5 %, and both point the same way.
    images : int
        Images compared.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float
    apart: bool
    images: int


@dataclass(frozen=True)
class ComparedRow:
    """A denoiser on one noise in two runs.

    Attributes
    ----------
    noise, denoiser : str
        Canonical specifications.
    reason : str
        Why it cannot be compared; empty where it can.
    lost : bool
        Whether the first run completed it and the second did not.
    changes : dict of str to Change
        By metric.
    speed_before, speed_after : Speed or None
    calibration_before, calibration_after : float or None
        What the calibration kernel took on the machine of each run, in milliseconds.
    """

    noise: str
    denoiser: str
    reason: str
    lost: bool
    changes: dict[str, Change]
    speed_before: Speed | None
    speed_after: Speed | None
    calibration_before: float | None = None
    calibration_after: float | None = None

    @property
    def best(self) -> tuple[str, ...]:
        """Metrics whose change is told apart from none, which tables mark."""
        return tuple(label for label, change in self.changes.items() if change.apart)


@dataclass(frozen=True)
class RunComparison:
    """Two runs side by side.

    Attributes
    ----------
    first, second : str
        Ids of the runs: before and after.
    data, protocol : str
        What both share, in words.
    images : int
        Images that both scored.
    metrics : tuple of MetricColumn
        Those of both runs.
    metric : str
        The one that the table shows.
    rows : tuple of ComparedRow
        In the order of the first run, then what only the second has.
    speed_caveat : str
        Why latencies in milliseconds do not compare; empty where they do.
    refitted : tuple of str
        Denoisers whose files, such as weights, are others in the second run, by label.
    normalised : bool
        Whether they compare once each is divided by the time of the calibration kernel on its machine.
    """

    first: str
    second: str
    data: str
    protocol: str
    images: int
    metrics: tuple[MetricColumn, ...]
    metric: str
    rows: tuple[ComparedRow, ...]
    speed_caveat: str
    refitted: tuple[str, ...] = ()
    normalised: bool = False


def relative(before: float, after: float) -> float:
    """Relative change, NaN where it started from nothing."""
    return after / before - 1 if before else math.nan
