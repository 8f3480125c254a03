"""What it costs a denoiser to be told a wrong noise level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.records import Cell
from benchbox.report.findings import Mismatch
from benchbox.report.model import MetricColumn
from benchbox.stats.summaries import mean_of

Columns = Mapping[str, NDArray[Any]]


def mismatch_curves(
    true: Mapping[str, Columns], wrong: Mapping[Cell, Columns], metric: MetricColumn
) -> tuple[Mismatch, ...]:
    """Mean score over the factor by which the told noise level is wrong, and the area that it loses.

    Parameters
    ----------
    true : mapping of str to columns
        Scores by denoiser where the level is true.
    wrong : mapping of Cell to columns
        Scores where it is not; empty columns where the cell has none.
    metric : MetricColumn
        The metric that ranks.

    Returns
    -------
    tuple of Mismatch
        The most robust denoiser first; only those that completed every factor, of noise that states a level.
    """
    curves = []
    for denoiser, columns in true.items():
        told = {cell.sigma_factor: scores for cell, scores in wrong.items() if cell.denoiser == denoiser}
        told[1.0] = columns
        levels = columns.get("sigma_true", np.zeros(1))
        if len(told) == 1 or not all(told.values()) or np.isnan(levels).all():
            continue
        factors = sorted(told)
        means = np.array([mean_of(told[factor][metric.label]).mean for factor in factors])
        sign = 1.0 if metric.higher_is_better else -1.0
        lost = sign * (means[factors.index(1.0)] - means)
        octaves = np.log2(factors)
        loss = float(np.trapezoid(lost, octaves) / (octaves[-1] - octaves[0]))
        curves.append(Mismatch(denoiser, tuple(factors), tuple(float(mean) for mean in means), loss))
    return tuple(sorted(curves, key=lambda curve: curve.loss))
