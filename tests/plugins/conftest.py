"""One thread for denoisers in a test's own process, and a file that shows that code was run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchbox.api.threads import THREADS_VARIABLE


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    # Threads of several test processes would wait for each other: PyTorch took twice as long.
    monkeypatch.setenv(THREADS_VARIABLE, "1")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that code writes which must not be run."""
    return tmp_path / "it-ran"
