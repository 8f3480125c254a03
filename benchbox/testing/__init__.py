"""The contract of a denoiser as probes that any plugin author can run, fixtures for pytest, and the scaffold.

This room tests one denoiser at a time. It must not know leaderboards or reports, and prints nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchbox.testing.benchmarking import BenchmarkDenoiser, Faces, NoisyFaces
    from benchbox.testing.card import HealthCard, Verdict
    from benchbox.testing.check import check_denoiser, examine

__all__ = [
    "BenchmarkDenoiser",
    "Faces",
    "HealthCard",
    "NoisyFaces",
    "Verdict",
    "check_denoiser",
    "examine",
]

_HOMES = {
    "BenchmarkDenoiser": "benchmarking",
    "Faces": "benchmarking",
    "HealthCard": "card",
    "NoisyFaces": "benchmarking",
    "Verdict": "card",
    "check_denoiser": "check",
    "examine": "check",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: pytest imports this package in every project it runs in."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"benchbox.testing.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'benchbox.testing' has no attribute {name!r}")
