"""The built-in sample: fixed tiles, the same everywhere, with a face that a detector finds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchbox import BenchboxError
from benchbox.builtin.datasets import sample
from benchbox.builtin.datasets.sample import Sample


def test_the_sample_is_what_it_always_was() -> None:
    images = Sample().load(None)
    assert len(images) == 142
    assert len(set(images.ids)) == 142
    assert images.shapes.tolist() == [[48, 48]] * 142
    assert images.fingerprint == "0f33829879e2e1b5747342ffe287cef1"
    assert images.ids[0] == "astronaut/3/10-51"


def test_its_note_says_how_to_bring_real_faces() -> None:
    (note,) = Sample().load(None).notes
    assert "built-in sample" in note
    assert "--data fer2013.csv" in note


@pytest.mark.parametrize(("index", "name"), [(0, "astronaut"), (30, "camera"), (60, "chelsea"), (90, "coins")])
def test_tiles_are_averages_of_the_photograph(index: int, name: str) -> None:
    import skimage.data

    images = Sample().load(None)
    identifier = images.ids[index]
    assert identifier.startswith(f"{name}/")
    _, shrink, place = identifier.split("/")
    top, left = map(int, place.split("-"))
    photograph = getattr(skimage.data, name)().astype(np.float64)
    grey = photograph if photograph.ndim == 2 else photograph @ [0.299, 0.587, 0.114]
    factor = int(shrink)
    part = grey[top * factor : (top + 48) * factor, left * factor : (left + 48) * factor]
    expected = part.reshape(48, factor, 48, factor).mean(axis=(1, 3)) / 255
    tile = images.stack(np.array([index], dtype=np.intp))[0]
    assert tile.dtype == np.float32
    assert np.abs(tile - expected).max() <= 0.501 / 255


def test_tiles_of_one_photograph_do_not_overlap() -> None:
    for photograph in sample._PHOTOGRAPHS:
        image = sample._shrunken(photograph.file, photograph.shrink)
        assert photograph.top + 48 * photograph.rows <= image.shape[0]
        assert photograph.left + 48 * photograph.columns <= image.shape[1]
    images = Sample().load(None)
    tiles = images.stack(np.arange(len(images)))
    assert len(np.unique(tiles.reshape(len(tiles), -1), axis=0)) == len(tiles)


def test_the_first_tile_is_the_astronauts_face() -> None:
    import skimage.data
    from skimage.feature import Cascade

    detector = Cascade(skimage.data.lbp_frontal_face_cascade_filename())
    (face,) = detector.detect_multi_scale(
        skimage.data.astronaut(), scale_factor=1.2, step_ratio=1, min_size=(60, 60), max_size=(200, 200)
    )
    top, left = (3 * int(side) for side in Sample().load(None).ids[0].split("/")[2].split("-"))
    rows = max(0, min(face["r"] + face["height"], top + 144) - max(face["r"], top))
    columns = max(0, min(face["c"] + face["width"], left + 144) - max(face["c"], left))
    assert rows * columns >= 0.95 * face["width"] * face["height"]


def test_there_is_contrast_to_denoise() -> None:
    images = Sample().load(None)
    deviations = images.stack(np.arange(len(images))).std(axis=(1, 2))
    assert np.median(deviations) > 0.1
    assert (deviations > 0.03).mean() > 0.95


def test_no_path_and_no_split() -> None:
    assert not Sample().recognises(Path("sample"))
    with pytest.raises(BenchboxError, match="does not read"):
        Sample().load(Path("sample"))
    with pytest.raises(BenchboxError, match="no split"):
        Sample().load(None, split="Training")


def test_a_missing_photograph_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "_data_folder", lambda: tmp_path)
    sample._shrunken.cache_clear()
    try:
        with pytest.raises(BenchboxError, match=r"astronaut\.png") as caught:
            sample._shrunken("astronaut.png", 3)
    finally:
        sample._shrunken.cache_clear()
    assert "pip install" in caught.value.hint


@pytest.mark.parametrize("rgb", [False, True])
def test_tiles_are_decoded_once_and_again_if_what_is_kept_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rgb: bool
) -> None:
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(tmp_path / "cache"))
    sample._tiles.cache_clear()
    ids, decoded = sample._tiles(rgb)
    (entry,) = (tmp_path / "cache" / "sample").iterdir()
    whole = entry.read_bytes()
    for content, again in ((whole, 0), (whole[:-1], 1), (whole[:-1] + b"?", 1), (b"", 1)):
        entry.write_bytes(content)
        sample._tiles.cache_clear()
        sample._shrunken.cache_clear()
        kept_ids, kept = sample._tiles(rgb)
        assert kept_ids == ids
        np.testing.assert_array_equal(kept, decoded)
        assert (sample._shrunken.cache_info().misses > 0) == bool(again)
        assert entry.read_bytes() == whole
    sample._tiles.cache_clear()


def test_other_photographs_are_other_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    shutil.copytree(sample._data_folder(), folder, ignore=shutil.ignore_patterns("*.py*"))
    monkeypatch.setattr(sample, "_data_folder", lambda: folder)
    before = sample._entry(False)
    assert sample._entry(True) != before
    (folder / "coins.png").write_bytes((folder / "brick.png").read_bytes())
    assert sample._entry(False) != before


def test_a_cache_folder_that_cannot_be_written_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").write_text("a file, not a folder")
    sample._tiles.cache_clear()
    assert Sample().load(None).fingerprint == "0f33829879e2e1b5747342ffe287cef1"


@pytest.mark.process
def test_scikit_image_is_not_imported() -> None:
    program = (
        "import sys; from benchbox.builtin.datasets.sample import Sample; Sample().load(None); "
        "print(*sorted({'skimage', 'pandas', 'numba', 'pooch', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert done.stderr == ""


@pytest.mark.process
def test_the_list_of_data_sets_imports_nothing_heavy() -> None:
    program = (
        "import sys; from benchbox.builtin.datasets import DATASETS; print([one.name for one in DATASETS]); "
        "print(*sorted({'cv2', 'skimage', 'pandas', 'numba', 'scipy', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['array', 'fer2013', 'images', 'pairs', 'sample']\n\n"
