"""Gates of a comparison: ``psnr < -0.05 dB`` fails if a row lost more than that."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.report.board import Speed
from benchbox.report.compare import ComparedRow, RunComparison, relative

SPEED_FIGURES = {
    "latency_p50": "latency_p50_ms",
    "latency_p90": "latency_p90_ms",
    "latency_p99": "latency_p99_ms",
    "throughput": "throughput",
    "cold_start": "cold_start_s",
    "peak_memory": "peak_mb",
}
_UNITS = {
    "latency_p50": "ms",
    "latency_p90": "ms",
    "latency_p99": "ms",
    "throughput": "",
    "cold_start": "s",
    "peak_memory": "MiB",
}
NORMALISED_FIGURES = ("latency_p50", "latency_p90", "latency_p99", "throughput")
"""What compares over unlike machines through the calibration kernel, as a share."""
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_GATE = re.compile(
    r"\s*(\S+?)\s*(<=|>=|<|>)\s*([+-]?[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)"
    r"\s*(%|(?!significant)[A-Za-z]*)\s*(significant)?\s*",
    re.IGNORECASE,
)
_HINT = 'write a change that is too much: --fail-if "psnr < -0.05 dB" --fail-if "latency_p50 > +10%"'
_SIGN_HINT = 'a gate names a change, so a loss has a minus: --fail-if "psnr < -0.05 dB"'


@dataclass(frozen=True)
class Gate:
    """A change that is too much.

    Attributes
    ----------
    text : str
        As it was given.
    figure : str
        A metric, or one of `SPEED_FIGURES`.
    comparison : str
        ``<``, ``<=``, ``>`` or ``>=``.
    value : float
        In the unit of the figure, or a share where `relative`.
    relative : bool
    normalised : bool
        Whether the figure is taken over that of the calibration kernel, for the machines differ.
    significant : bool
        Whether the change must be significant to fail.
    """

    text: str
    figure: str
    comparison: str
    value: float
    relative: bool
    normalised: bool = False
    significant: bool = False


@dataclass(frozen=True)
class Breach:
    """A gate that a row fails.

    Attributes
    ----------
    gate, noise, denoiser : str
    found : str
        The change, or why there is none.
    """

    gate: str
    noise: str
    denoiser: str
    found: str


def parse_gate(text: str, comparison: RunComparison) -> Gate:
    """Read a gate.

    Raises
    ------
    BenchboxError
        It does not follow the grammar, names no figure of both runs, has another unit, or fails without any change.
    """
    match = _GATE.fullmatch(text)
    if match is None:
        raise BenchboxError(f"cannot read the gate '{text}'", hint=_HINT)
    figure, sign, number, unit, significant = match.groups()
    units = {metric.label: metric.unit for metric in comparison.metrics} | _UNITS
    if figure not in units:
        raise BenchboxError(f"gate '{text}': '{figure}' is no figure of both runs", hint=did_you_mean(figure, units))
    if unit not in ("", "%", units[figure]):
        known = f"'{units[figure]}' or '%'" if units[figure] else "'%' or none"
        raise BenchboxError(f"gate '{text}': the unit of {figure} is {known}, not '{unit}'", hint=_HINT)
    share = unit == "%"
    normalised = bool(figure in SPEED_FIGURES and comparison.speed_caveat)
    if normalised and not (comparison.normalised and share and figure in NORMALISED_FIGURES):
        hint = "compare runs that were timed alike on one machine, or leave this gate out"
        if comparison.normalised:
            hint = f"over unlike machines a change in % compares, of {', '.join(NORMALISED_FIGURES)}"
        raise BenchboxError(
            f"gate '{text}': {figure} of the two runs does not compare: {comparison.speed_caveat}", hint=hint
        )
    if significant and figure in SPEED_FIGURES:
        raise BenchboxError(
            f"gate '{text}': only a metric is tested for significance, not {figure}", hint="leave out 'significant'"
        )
    value = float(number) / (100 if share else 1)
    if _OPERATORS[sign](0.0, value):
        raise BenchboxError(f"gate '{text}': no change at all fails it", hint=_SIGN_HINT)
    return Gate(text.strip(), figure, sign, value, share, normalised, bool(significant))


def check_gates(gates: Sequence[Gate], comparison: RunComparison) -> tuple[Breach, ...]:
    """Hold every row to every gate.

    A row that the first run completed and the second did not fails each of them; so does one without the figure in
    the second run alone.

    Parameters
    ----------
    gates : sequence of Gate
    comparison : RunComparison

    Returns
    -------
    tuple of Breach
        Empty where all gates hold.
    """
    breaches = []
    for gate in gates:
        for row in comparison.rows:
            found = _breach(gate, row)
            if found:
                breaches.append(Breach(gate.text, row.noise, row.denoiser, found))
    return tuple(breaches)


def _breach(gate: Gate, row: ComparedRow) -> str:
    if row.lost:
        return row.reason
    if gate.figure not in SPEED_FIGURES and not row.reason and gate.figure not in row.changes:
        return f"no image has a finite {gate.figure} in both runs"
    values = _values(gate, row)
    if values is None:
        return ""
    change_of_metric = row.changes.get(gate.figure)
    if change_of_metric is not None and change_of_metric.lost:
        lost = change_of_metric.lost
        return f"{lost:,} image{'s have' if lost > 1 else ' has'} no {gate.figure} any more"
    if gate.significant and not (change_of_metric is not None and change_of_metric.apart):
        return ""
    before, after = values
    if math.isnan(after):
        return f"{gate.figure} was {before:.4g} and has no value now"
    change = relative(before, after) if gate.relative else after - before
    if not _OPERATORS[gate.comparison](change, gate.value):
        return ""
    words = f"{100 * change:+.3g} %" if gate.relative else f"{change:+.4g}"
    return f"{words}, normalised by the calibration kernel" if gate.normalised else words


def _values(gate: Gate, row: ComparedRow) -> tuple[float, float] | None:
    """The figure before and after; None where there was none before."""
    figure = gate.figure
    if figure not in SPEED_FIGURES:
        change = row.changes.get(figure)
        return None if change is None else (change.before, change.after)
    if row.reason or row.speed_before is None:
        return None
    kernels = (row.calibration_before, row.calibration_after) if gate.normalised else (None, None)
    return (
        _speed_value(row.speed_before, figure, kernels[0]),
        math.nan if row.speed_after is None else _speed_value(row.speed_after, figure, kernels[1]),
    )


def _speed_value(speed: Speed, figure: str, kernel_ms: float | None) -> float:
    """A figure of speed, in units of the calibration kernel's time where that is given."""
    value = float(getattr(speed, SPEED_FIGURES[figure]))
    if kernel_ms is None:
        return value
    return value * kernel_ms if figure == "throughput" else value / kernel_ms
