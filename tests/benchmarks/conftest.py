"""Speeds are measured by `just bench`; without its --benchmark-enable each benchmark shows in small that it works."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("benchmark_only", default=False):
        config.option.benchmark_disable = False


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> bool:
    """Whether speeds are measured, at full size and often enough to be compared."""
    return bool(pytestconfig.getoption("benchmark_enable") or pytestconfig.getoption("benchmark_only"))
