"""Denoisers run in the test's own process, beside other tests."""

from __future__ import annotations

import pytest

from benchbox.api.threads import THREADS_VARIABLE


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    # Threads of several test processes would wait for each other: PyTorch took twice as long.
    monkeypatch.setenv(THREADS_VARIABLE, "1")
