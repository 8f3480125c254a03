"""Numbers and foreign text for a reader: rounded alike everywhere, and harmless wherever they are printed."""

from __future__ import annotations

import math

from benchbox.api.plain import plain
from benchbox.report.model import MetricColumn

__all__ = ["NONE", "count", "plain", "score", "three_digits"]

NONE = "-"


def three_digits(value: float) -> str:
    """Round to three significant digits, without an exponent from 0.0001 up; millions as ``400M``."""
    if not math.isfinite(value):
        return "inf" if value > 0 else NONE
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(float(f"{value:.2e}"))))
    if magnitude > 5:
        return f"{three_digits(value / 1e6)}M"
    if magnitude < -4:
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - magnitude)}f}"


def score(value: float | None, metric: MetricColumn, *, signed: bool = False) -> str:
    """Write a value of a metric: two decimals of a dB, four of a similarity or share, else three digits."""
    if value is None or math.isnan(value):
        return NONE
    plus = "+" if signed and value > 0 else ""
    if math.isinf(value):
        return f"{plus}inf" if value > 0 else "-inf"
    if metric.unit == "dB":
        return f"{plus}{value:.2f}"
    if metric.label.partition(":")[0] in ("ssim", "gmsd", "accuracy"):
        return f"{plus}{value:.4f}"
    return plus + three_digits(value)


def count(number: int, noun: str) -> str:
    """``1 image``, ``3,589 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
