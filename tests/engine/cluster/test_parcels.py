"""What travels to machines of a cluster arrives as it was."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from benchbox.engine.cluster import parcels
from benchbox.engine.drawing import Condition, SentImages
from benchbox.engine.plan import make_shards


@pytest.mark.parametrize("recorded", [False, True])
def test_images_travel_with_their_ids_and_labels(recorded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = np.random.default_rng(0).random((3, 8, 9), np.float32)
    labels: dict[str, Any] = {"emotion": np.array([3, 0, 6]), "kind": np.array(["a", "bc", "d"])}
    sent = SentImages(("x", "y", "z"), clean, clean[::-1] if recorded else None, labels)
    monkeypatch.setattr(parcels, "read_images", lambda condition, indices: sent)
    (shard,) = make_shards(np.array([(8, 9)] * 3))
    arrived = parcels.unpack_images(parcels.pack_images(cast(Condition, None), shard))
    assert arrived.ids == sent.ids
    np.testing.assert_array_equal(arrived.clean, clean)
    assert (arrived.noisy is None) == (not recorded)
    assert arrived.labels.keys() == labels.keys()
    for name, values in labels.items():
        np.testing.assert_array_equal(arrived.labels[name], values)
