"""Gates of a comparison, ``psnr < -0.05 dB`` for a loss, and of one run, ``psnr < 26 dB`` for a score."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.report.board import Leaderboard, Speed
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
"""Figures that can be normalised across machines, as relative changes."""
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_GATE = re.compile(
    r"\s*(\S+?)\s*(<=|>=|<|>)\s*([+-]?[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)"
    r"\s*(%|(?!significant)[A-Za-z]*)\s*(significant)?\s*",
    re.IGNORECASE,
)
_HINT = 'state the change that fails: --fail-if "psnr < -0.05 dB" --fail-if "latency_p50 > +10%"'
_LIMIT_HINT = 'state the figure that fails: --fail-if "psnr < 26 dB" --fail-if "latency_p50 > 5 ms"'
_SIGN_HINT = 'state a change; a loss is negative: --fail-if "psnr < -0.05 dB"'


@dataclass(frozen=True)
class Gate:
    """A condition on a change that fails a comparison, or on a figure that fails a run.

    Attributes
    ----------
    text : str
        As typed.
    figure : str
        A metric, or one of `SPEED_FIGURES`.
    comparison : str
        ``<``, ``<=``, ``>`` or ``>=``.
    value : float
        In the unit of the figure, or a fraction if `relative`.
    normalised : bool
        Whether the figure is divided by that of the calibration kernel, because the machines differ.
    significant : bool
        Whether only a significant change fails.
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
    found : str
        The change or the figure, or why it is missing.
    """

    gate: str
    noise: str
    denoiser: str
    found: str

    def __str__(self) -> str:
        return f"{self.gate}: {self.denoiser} on {self.noise}: {self.found}"


def parse_gate(text: str, comparison: RunComparison) -> Gate:
    """Parse a gate; raises `BenchboxError` for bad syntax, figure or unit, or if no change would already fail it."""
    figure, sign, number, unit, significant = _read(text, _HINT)
    units = {metric.spec: metric.unit for metric in comparison.metrics} | _UNITS
    if figure not in units:
        raise BenchboxError(f"gate '{text}': '{figure}' is not in both runs", hint=did_you_mean(figure, units))
    if unit not in ("", "%", units[figure]):
        known = f"'{units[figure]}' or '%'" if units[figure] else "'%' or none"
        raise BenchboxError(f"gate '{text}': the unit of {figure} is {known}, not '{unit}'", hint=_HINT)
    share = unit == "%"
    normalised = bool(figure in SPEED_FIGURES and comparison.speed_caveat)
    if normalised and not (comparison.normalised and share and figure in NORMALISED_FIGURES):
        hint = "compare runs timed with the same options on one machine, or remove this gate"
        if comparison.normalised:
            hint = f"across machines, use a relative change (in %) of {', '.join(NORMALISED_FIGURES)}"
        raise BenchboxError(f"gate '{text}': {figure} is not comparable: {comparison.speed_caveat}", hint=hint)
    if significant and figure in SPEED_FIGURES:
        raise BenchboxError(
            f"gate '{text}': only metrics are tested for significance, not {figure}", hint="remove 'significant'"
        )
    value = float(number) / (100 if share else 1)
    # "psnr < 0.1 dB" would fail an unchanged run: a loss is negative, and its sign is easily forgotten.
    if _OPERATORS[sign](0.0, value):
        raise BenchboxError(f"gate '{text}': it fails even if nothing changes", hint=_SIGN_HINT)
    return Gate(text.strip(), figure, sign, value, share, normalised, bool(significant))


def _read(text: str, hint: str) -> tuple[str, str, str, str, str | None]:
    """Figure, operator, number, unit and ``significant`` of a gate."""
    match = _GATE.fullmatch(text)
    if match is None:
        raise BenchboxError(f"cannot read the gate '{text}'", hint=hint)
    figure, sign, number, unit, significant = match.groups()
    return figure, sign, number, unit, significant


def parse_limit(text: str, metrics: Mapping[str, str], *, timing: bool) -> Gate:
    """Parse a gate of one run, given the units of its metrics; raises `BenchboxError`."""
    figure, sign, number, unit, significant = _read(text, _LIMIT_HINT)
    units = {**metrics, **_UNITS}
    if figure not in units:
        raise BenchboxError(
            f"gate '{text}': the run does not compute '{figure}'", hint=did_you_mean(figure, list(units))
        )
    if figure in SPEED_FIGURES and not timing:
        raise BenchboxError(f"gate '{text}': the run is not timed", hint="remove this gate or --no-timing")
    if significant or unit == "%":
        raise BenchboxError(
            f"gate '{text}': one run has no changes, so a limit is in the unit of the figure",
            hint="remove '%' and 'significant', or compare two runs with benchbox compare",
        )
    known = units[figure]
    if unit not in ("", known):
        raise BenchboxError(f"gate '{text}': the unit of {figure} is {known or 'none'}, not '{unit}'", hint=_LIMIT_HINT)
    return Gate(text.strip(), figure, sign, float(number), relative=False)


def check_limits(gates: Iterable[Gate], board: Leaderboard) -> tuple[Breach, ...]:
    """Check every row of a run against every gate, but for the floor, which returns the noisy image, and skipped rows.

    A row without a score or latency fails the gates on it.
    """
    breaches = []
    for gate in gates:
        for block in board.blocks:
            for row in block.rows:
                if row.is_floor or row.status == "skipped":
                    continue
                if gate.figure not in SPEED_FIGURES:
                    mean = row.scores.get(gate.figure)
                    value, missing = (mean.mean if mean else math.nan), row.reason or f"no {gate.figure}"
                else:
                    value = _speed_value(row.speed, gate.figure, None) if row.speed else math.nan
                    missing = row.reason or row.speed_reason or f"no {gate.figure}"
                if math.isnan(value) or _OPERATORS[gate.comparison](value, gate.value):
                    found = missing if math.isnan(value) else f"{value:.5g}"
                    breaches.append(Breach(gate.text, block.noise, row.denoiser, found))
    return tuple(breaches)


def check_gates(gates: Sequence[Gate], comparison: RunComparison) -> tuple[Breach, ...]:
    """Check every row against every gate.

    A row that only the first run completed fails every gate; a figure that only the first run has fails its gates.
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
        return f"{gate.figure} is no longer finite on {lost:,} image{'s' if lost > 1 else ''}"
    if gate.significant and not (change_of_metric is not None and change_of_metric.apart):
        return ""
    before, after = values
    if gate.figure in SPEED_FIGURES and math.isnan(before):
        return f"no {gate.figure}, which needs 100 latency samples"
    if math.isnan(after):
        return f"{gate.figure} was {before:.4g} and is now missing"
    change = relative(before, after) if gate.relative else after - before
    if not _OPERATORS[gate.comparison](change, gate.value):
        return ""
    words = f"{100 * change:+.3g} %" if gate.relative else f"{change:+.4g}"
    return f"{words}, normalised by the calibration kernel" if gate.normalised else words


def _values(gate: Gate, row: ComparedRow) -> tuple[float, float] | None:
    """The figure before and after; None if there was none before."""
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
    """A speed figure, normalised by the calibration kernel's time if given."""
    value = float(getattr(speed, SPEED_FIGURES[figure]))
    if kernel_ms is None:
        return value
    # Images per second fall on a slow machine where latencies rise, so they are multiplied.
    return value * kernel_ms if figure == "throughput" else value / kernel_ms
