"""The pytest plugin with the fixtures `noisy_faces` and `benchmark_denoiser`; light to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from benchbox.testing.benchmarking import BenchmarkDenoiser, NoisyFaces


@pytest.fixture(scope="session")
def noisy_faces() -> NoisyFaces:
    """``noisy_faces(noise, count)``: 48x48 images with noise, identical on every machine.

    See `benchbox.testing.benchmarking.NoisyFaces`.
    """
    from benchbox.testing.benchmarking import NoisyFaces

    return NoisyFaces()


@pytest.fixture
def benchmark_denoiser(benchmark: Any, noisy_faces: NoisyFaces) -> BenchmarkDenoiser:
    """``benchmark_denoiser(denoiser, batch=1)``: time a denoiser with pytest-benchmark.

    See `benchbox.testing.benchmarking.BenchmarkDenoiser`.
    """
    from benchbox.testing.benchmarking import BenchmarkDenoiser

    return BenchmarkDenoiser(benchmark, noisy_faces)
