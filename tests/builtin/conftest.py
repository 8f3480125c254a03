"""What the tests of picture folders share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def image_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def photograph() -> NDArray[np.uint8]:
    """A colour photograph, red, green, blue, uint8, shape (60, 83, 3)."""
    import skimage.data

    return np.ascontiguousarray(skimage.data.astronaut()[20:80, 180:263])
