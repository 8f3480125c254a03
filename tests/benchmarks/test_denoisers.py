"""Speed and quality of every bundled denoiser; ``pytest tests/benchmarks --benchmark-only`` prints a table a group."""

from __future__ import annotations

import pytest

from benchbox.registry import load_registry
from benchbox.testing.benchmarking import BenchmarkDenoiser

pytestmark = pytest.mark.slow

DENOISERS = sorted(name for name, entry in load_registry().denoisers.items() if entry.cls.default_rows != ())


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("name", DENOISERS)
def test_denoiser(benchmark_denoiser: BenchmarkDenoiser, name: str, batch: int) -> None:
    denoised = benchmark_denoiser(name, batch)
    assert denoised.shape == (batch, 48, 48)
