"""Photographs to be found again."""

from __future__ import annotations

import numpy as np
import pytest
from made_faces import Faces

from benchbox.builtin.datasets.sample import Sample


@pytest.fixture(scope="session")
def tiles() -> Faces:
    """Forty different tiles of photographs, without the textures."""
    images = Sample().load(None)
    places = [place for place, one in enumerate(images.ids) if not one.startswith(("brick", "gravel"))]
    chosen = np.array(places)[np.linspace(1, len(places) - 1, 40).astype(np.intp)]
    return np.rint(images.stack(chosen) * 255).astype(np.uint8)


@pytest.fixture(scope="session")
def hashed() -> Faces:
    """The tile of the sample that agrees with a hash of FER2013's Training split."""
    images = Sample().load(None)
    place = images.ids.index("camera/2/152-56")
    tile: Faces = np.rint(images.stack(np.array([place]))[0] * 255).astype(np.uint8)
    return tile
