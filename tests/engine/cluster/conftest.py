"""A cluster for each test that asks for one."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from made_clusters import Cluster


@pytest.fixture
def cluster(tmp_path: Path, shared_memory_lock: IO[str]) -> Iterator[Cluster]:
    pytest.importorskip("distributed")
    fcntl.flock(shared_memory_lock, fcntl.LOCK_SH)
    made = Cluster(tmp_path / "cluster")
    try:
        yield made
    finally:
        made.end()
