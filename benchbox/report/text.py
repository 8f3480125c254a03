"""Numbers and foreign text for a reader: rounded alike everywhere, and harmless wherever they are printed."""

from __future__ import annotations

import math
import re

from benchbox.report.model import MetricColumn

NONE = "-"
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
# Control characters, line and paragraph separators, and the marks that turn the direction of writing.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def plain(text: str) -> str:
    """Take escape sequences out of foreign text and put ``?`` for every control character; one line remains."""
    return _UNSAFE.sub("?", _ESCAPES.sub("", " ".join(text.splitlines())))


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
