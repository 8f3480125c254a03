"""Noise that is drawn ahead: the same to the bit, by processes without a denoiser, and never needed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from benchbox.engine.drawing import MOST_IN_MEMORY, MOST_VALUES, Ahead, Noisy, room_for_noise
from benchbox.engine.run import execute
from benchbox.records.options import RunOptions
from benchbox.store import RunStore
from benchbox.system.files import is_in_memory

INDICES = np.array([3, 1, 2])
NOISY = Noisy(np.ones((3, 4, 5), np.float32), np.full(3, 0.1, np.float32), None)


def scores(store: RunStore) -> dict[str, dict[str, Any]]:
    return {store.record.cell_label(cell): store.scores(cell.key) for cell in store.record.cells}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", ["given", "estimated"])
def test_scores_are_the_same_to_the_bit_with_noise_drawn_ahead_or_not(
    sigma: Literal["given", "estimated"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = RunOptions(
        denoisers=("identity", "median", "wiener"),
        noise=("gaussian:0.1", "poisson:30", "salt-pepper:0.05"),
        sigma=sigma,
        sigma_errors=(0.5,) if sigma == "given" else (),
        repeats=2,
        limit=40,
        timing=False,
        previews=2,
        fresh=True,
        results=str(tmp_path),
    )
    stores = []
    for most in (0, 2 * 40 * 64 * 64, MOST_VALUES):  # none, a part, all
        monkeypatch.setattr("benchbox.engine.drawing.MOST_VALUES", most)
        stores.append(execute(options, lambda event: None))
    apart, part, ahead = map(scores, stores)
    assert len(ahead) > 9 - (sigma == "estimated")
    for name in ahead:
        assert same(ahead[name], apart[name]), name
        assert same(ahead[name], part[name]), name
    for noise in stores[0].record.noises:
        assert same(stores[0].ceiling(noise.spec), stores[2].ceiling(noise.spec))


def test_a_draw_is_found_by_noise_images_and_repeat(tmp_path: Path) -> None:
    Ahead(str(tmp_path), "gaussian:0.1", INDICES, 1).write(NOISY)
    read = Ahead(str(tmp_path), "gaussian:0.1", INDICES, 1).read()
    assert read is not None
    np.testing.assert_array_equal(read.images, NOISY.images)
    np.testing.assert_array_equal(read.sigma, NOISY.sigma)
    assert read.estimate is None
    assert read.images.flags.writeable  # a denoiser may change its input
    for noise, indices, repeat in (
        ("gaussian:0.2", INDICES, 1),
        ("gaussian:0.1", INDICES[:2], 1),
        ("gaussian:0.1", INDICES[::-1], 1),
        ("gaussian:0.1", INDICES, 0),
    ):
        assert Ahead(str(tmp_path), noise, indices, repeat).read() is None


def test_a_damaged_draw_is_none(tmp_path: Path) -> None:
    Ahead(str(tmp_path), "gaussian:0.1", INDICES, 0).write(NOISY)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for length in (0, 5, 100, 200, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert Ahead(str(tmp_path), "gaussian:0.1", INDICES, 0).read() is None


def test_noise_takes_a_quarter_of_the_free_space_and_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for on_disk, most in ((True, MOST_VALUES), (False, MOST_IN_MEMORY)):
        monkeypatch.setattr("benchbox.engine.drawing.is_in_memory", lambda folder, on_disk=on_disk: not on_disk)
        for free, room in ((2**40, most), (2**20, 2**16), (0, 0)):
            usage = shutil.disk_usage(tmp_path)._replace(free=free)
            monkeypatch.setattr("shutil.disk_usage", lambda folder, usage=usage: usage)
            assert room_for_noise(str(tmp_path)) == room


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="the system has no such folder")
def test_a_folder_in_memory_is_told_from_one_on_a_disk() -> None:
    assert is_in_memory(Path("/dev/shm"))
    assert is_in_memory(Path("/dev/shm/not-there"))
    assert not is_in_memory(Path(sys.prefix))
