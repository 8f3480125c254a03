"""A real run, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchbox.notebook import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a real run."""
    results = tmp_path_factory.mktemp("results")
    return run(["identity", "median"], results=results, timing=False, jobs=2).store.folder
