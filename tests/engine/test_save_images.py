"""`--save-images` keeps what was scored: the scores can be computed from the images, also after a reuse or a resume."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchbox import BenchboxError
from benchbox.api.dataset import ImageSet
from benchbox.engine.data import open_data
from benchbox.registry import load_registry
from benchbox.store import RunStore, list_runs

Command = Callable[..., subprocess.CompletedProcess[str]]

MANUAL = Path(__file__).parents[2] / "docs" / "results-format.md"
ASKED = ("run", "identity", "median", "--no-timing", "--metric", "mse", "--limit", "6")


def newest(tmp_path: Path) -> RunStore:
    return RunStore.open(list_runs(tmp_path / "results")[-1])


def files(store: RunStore) -> dict[str, bytes]:
    return {
        file.relative_to(store.folder).as_posix(): file.read_bytes() for file in store.folder.glob("denoised/*/*.npy")
    }


def images_of(store: RunStore) -> ImageSet:
    datasets = {name: entry.cls() for name, entry in load_registry().datasets.items()}
    return open_data(store.record.options, datasets)


def assert_images_have_the_scores(store: RunStore) -> None:
    images = images_of(store)
    for cell in store.record.cells:
        shards = store.finished_shards(cell.key)
        assert sum(stop - start for start, stop in shards) == store.record.data.images
        for shard in shards:
            rows, denoised = store.shard(cell.key, *shard), store.denoised(cell.key, *shard)
            error = np.square(denoised - images.stack(rows["image"])).mean(axis=(1, 2), dtype=np.float64)
            np.testing.assert_allclose(error, rows["mse"], rtol=1e-5)


@pytest.mark.slow
def test_every_image_is_kept_as_it_was_scored_and_reused(benchbox: Command, tmp_path: Path) -> None:
    benchbox(*ASKED)
    assert not (newest(tmp_path).folder / "denoised").exists()
    first = benchbox(*ASKED, "--save-images")
    assert "reused" not in first.stderr  # the earlier run has the scores, but no images
    saved = newest(tmp_path)
    assert_images_have_the_scores(saved)
    assert "reused 2 of 2 cells" in benchbox(*ASKED, "--save-images").stderr
    again = newest(tmp_path)
    assert again.folder != saved.folder
    assert files(again) == files(saved) != {}
    assert "reused 2 of 2 cells" in benchbox(*ASKED).stderr
    assert not files(newest(tmp_path))


@pytest.mark.slow
def test_a_resumed_run_makes_the_images_that_are_missing_or_damaged(benchbox: Command, tmp_path: Path) -> None:
    benchbox(*ASKED, "--save-images")
    store = newest(tmp_path)
    whole = files(store)
    names = sorted(whole)
    (store.folder / names[0]).unlink()
    (store.folder / names[-1]).write_bytes(whole[names[-1]][:-1])
    (store.folder / "denoised" / "mine.npy").write_bytes(b"")
    benchbox("run", "--resume", store.folder)
    assert files(store) == whole
    assert_images_have_the_scores(store)
    assert not (store.folder / "denoised" / "mine.npy").exists()
    benchbox("run", "--resume", store.folder)
    assert files(store) == whole


def test_the_lines_of_the_manual_write_pictures(
    benchbox: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchbox("run", "identity", "--no-timing", "--limit", "2", "--save-images")
    store = newest(tmp_path)
    (lines,) = re.findall(r"```python\n(.*?)```", MANUAL.read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(lines.replace("results/RUN", str(store.folder)), {})
    written = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted(tmp_path.glob("*.png"))]
    assert len(written) == 2
    assert {picture.shape for picture in written if picture is not None} == set(
        map(tuple, np.column_stack([store.images()["height"], store.images()["width"]]).tolist())
    )


@pytest.mark.slow
def test_images_that_are_missing_are_named(benchbox: Command, tmp_path: Path) -> None:
    benchbox("run", "identity", "--no-timing", "--limit", "2")
    store = newest(tmp_path)
    with pytest.raises(BenchboxError, match=r"denoised/.*\.npy"):
        store.denoised(store.record.cells[0].key, 0, 2)
