"""FER2013 as a folder of pictures, data sets found by looking, and limits."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_faces import USAGES, Faces, forbidden, load, pixels, refused, row, write

from benchbox import BenchboxError, ImageSet
from benchbox.builtin.datasets.faces import BOTH_TESTS, EMOTIONS, SPLITS
from benchbox.builtin.datasets.fer2013 import Fer2013
from benchbox.builtin.datasets.images import ImageFolder
from benchbox.builtin.datasets.sample import Sample
from benchbox.engine.data import choose_dataset, open_data
from benchbox.records.options import RunOptions

pytestmark = pytest.mark.usefixtures("cache")


def picture(image: Faces) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", image)[1])


def folder(root: Path, tiles: Faces, name: Callable[[int, str], str]) -> Path:
    """Write the twelve faces; `name` gives the path of one below the root."""
    for index, (image, usage) in enumerate(zip(tiles, USAGES, strict=True)):
        path = root / name(index, usage)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(image))
    return root


def named(index: int, usage: str) -> str:
    half = "train" if usage == "Training" else "test"
    return f"{half}/{EMOTIONS[index % 7]}/{usage}_{index:03d}.png"


def unnamed(index: int, usage: str) -> str:
    half = "train" if usage == "Training" else "test"
    return f"{half}/{EMOTIONS[index % 7]}/im{index:03d}.png"


def three(index: int, usage: str) -> str:
    half = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}[usage]
    return f"{half}/{EMOTIONS[index % 7]}/im{index:03d}.png"


def spelled(index: int, usage: str) -> str:
    return f"{usage}/{EMOTIONS[index % 7].capitalize()}/im{index:03d}.png"


def below_one(index: int, usage: str) -> str:
    return f"{EMOTIONS[index % 7]}/{usage}_{index:03d}.png"


def deep(index: int, usage: str) -> str:
    return f"archive/images/images/{three(index, usage)}"


def digits(index: int, usage: str) -> str:
    return three(index, usage).replace(EMOTIONS[index % 7], str(index % 7))


def prefixed(index: int, usage: str) -> str:
    return f"fer2013_{three(index, usage)}".replace(EMOTIONS[index % 7], f"{index % 7}_{EMOTIONS[index % 7]}")


def prefixed_files(index: int, usage: str) -> str:
    return f"faces/{EMOTIONS[index % 7]}/fer_{usage}_{index:03d}.png"


@pytest.mark.parametrize("name", [deep, digits, prefixed, prefixed_files])
def test_layouts_that_archives_have(tmp_path: Path, tiles: Faces, name: Callable[[int, str], str]) -> None:
    """None is taken for a folder of plain pictures, where a network would meet its own training faces unnoticed."""
    root = folder(tmp_path / "data", tiles, name)
    assert choose_dataset(root, None, {one.name: one for one in (Fer2013(), ImageFolder())}).name == "fer2013"
    for split in SPLITS:
        images = load(root, split)
        order = [int(one[-7:-4]) for one in images.ids]
        assert sorted(order) == [index for index, usage in enumerate(USAGES) if usage == split]
        assert images.labels["emotion"].tolist() == [index % 7 for index in order]
    # The faces are the same ones wherever the folder around them lies.
    shallow = folder(tmp_path / "shallow", tiles, three)
    if name is deep:
        assert load(root).fingerprint == load(shallow).fingerprint


def test_folders_that_name_no_emotion_are_counted(tmp_path: Path, tiles: Faces) -> None:
    root = folder(tmp_path / "faces", tiles, three)
    for name in ("train/contempt/a.png", "train/contempt/b.png", "val/supprise/c.png", "train/loose.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(picture(tiles[0]))
    (note,) = load(root, "PublicTest").notes
    assert note == (
        "left out: 4 images in folders whose name is not an emotion: train (1), train/contempt (2), val/supprise (1)"
    )
    assert len(load(root, "PublicTest")) == 4


@pytest.mark.parametrize("name", [named, three, spelled, below_one])
def test_folders_that_tell_the_split(tmp_path: Path, tiles: Faces, name: Callable[[int, str], str]) -> None:
    root = folder(tmp_path / "faces", tiles, name)
    assert Fer2013().recognises(root)
    for split in SPLITS:
        images = load(root, split)
        order = [int(one[-7:-4]) for one in images.ids]
        assert sorted(order) == [index for index, usage in enumerate(USAGES) if usage == split]
        assert images.ids == tuple(name(index, split) for index in order)
        np.testing.assert_array_equal(pixels(images), tiles[order])
        assert images.labels["emotion"].tolist() == [index % 7 for index in order]
    assert load(root).split == "PrivateTest"


def test_a_test_folder_that_does_not_tell_its_halves(tmp_path: Path, tiles: Faces) -> None:
    root = folder(tmp_path / "faces", tiles, unnamed)
    images = load(root)
    assert images.split == BOTH_TESTS
    assert len(images) == 7
    assert load(root, images.split).fingerprint == images.fingerprint
    assert len(load(root, "Training")) == 5
    error = refused(root, "PublicTest")
    assert "PublicTest cannot be told from the other test split" in error.message
    assert BOTH_TESTS in error.hint


def test_one_split_folder_alone(tmp_path: Path, tiles: Faces) -> None:
    root = folder(tmp_path / "faces", tiles, unnamed)
    assert Fer2013().recognises(root / "test")
    assert load(root / "test").split == BOTH_TESTS
    alone = load(root / "train")
    assert (alone.split, len(alone)) == ("Training", 5)
    assert "the data have no test split" in alone.notes[0]


def test_a_damaged_picture_of_the_folder(tmp_path: Path, tiles: Faces) -> None:
    root = folder(tmp_path / "faces", tiles, named)
    bad = root / named(6, "PublicTest")
    bad.write_bytes(bad.read_bytes()[:300])
    with pytest.raises(BenchboxError, match=re.escape(str(bad))) as caught:
        load(root, "PublicTest")
    assert "--skip-bad" in caught.value.hint
    images = load(root, "PublicTest", skip_bad=True)
    assert len(images) == 3
    assert any("damaged: 1 faces skipped" in note and bad.name in note for note in images.notes)
    bad.write_bytes(picture(np.zeros((47, 48), np.uint8)))
    with pytest.raises(BenchboxError, match="48 x 47 pixels"):
        load(root, "PublicTest")
    bad.write_bytes(picture(tiles[6]))
    assert len(load(root, "PublicTest")) == 4


def test_jpeg_faces_are_near_the_csv_and_say_so(tmp_path: Path, csv: Path, tiles: Faces) -> None:
    import cv2

    path = tmp_path / "faces" / "test" / "happy" / "PublicTest_1.jpg"
    path.parent.mkdir(parents=True)
    (path.parents[1] / "sad").mkdir()
    path.write_bytes(bytes(cv2.imencode(".jpg", tiles[5])[1]))
    images = load(tmp_path / "faces")
    assert any("JPEG-compressed" in note for note in images.notes)
    assert np.sqrt(((pixels(images)[0].astype(float) - tiles[5]) ** 2).mean()) < 4


def test_a_folder_is_decoded_once(tmp_path: Path, tiles: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "faces", tiles, named)
    first = load(root)
    with monkeypatch.context() as patch:
        patch.setattr("benchbox.builtin.datasets.face_folder.decode_files", forbidden)
        assert load(root).fingerprint == first.fingerprint


def test_faces_of_another_size_are_plain_images(tmp_path: Path, tiles: Faces) -> None:
    root = folder(tmp_path / "faces", np.repeat(tiles, 2, axis=2), named)
    assert not Fer2013().recognises(root)
    assert choose_dataset(root, None, known()).name == "images"


# --- finding out by looking


def known() -> dict[str, Fer2013 | ImageFolder | Sample]:
    return {"images": ImageFolder(), "fer2013": Fer2013(), "sample": Sample()}


def test_a_path_is_recognised(csv: Path, tmp_path: Path, tiles: Faces) -> None:
    faces = folder(tmp_path / "faces", tiles, named)
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    (tmp_path / "photos" / "deep" / "a.png").write_bytes(picture(tiles[0]))
    renamed = csv.with_suffix(".txt")
    renamed.write_bytes(csv.read_bytes())
    for path, name in (
        (None, "sample"),
        (csv, "fer2013"),
        (renamed, "fer2013"),
        (faces, "fer2013"),
        (tmp_path / "photos", "images"),
        (tmp_path / "photos" / "deep" / "a.png", "images"),
    ):
        assert choose_dataset(path, None, known()).name == name
    assert choose_dataset(faces, "images", known()).name == "images"


def test_a_path_that_nothing_recognises(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "faces.txt").write_text("<!doctype html>")
    for name, message in (
        ("empty", "tried fer2013, images, sample"),
        ("notes.txt", "tried fer2013, images, sample"),
        ("faces.txt", "HTML"),
        ("gone.csv", "no such file"),
    ):
        with pytest.raises(BenchboxError, match=message) as caught:
            choose_dataset(tmp_path / name, None, known())
        assert caught.value.hint
    with pytest.raises(BenchboxError, match="unknown data set 'fer2012'") as caught:
        choose_dataset(None, "fer2012", known())
    assert "fer2013" in caught.value.hint


def test_two_data_sets_that_both_recognise(csv: Path) -> None:
    class Other(Fer2013):
        name = "other"

    with pytest.raises(BenchboxError, match="may be fer2013 or other") as caught:
        choose_dataset(csv, None, {**known(), "other": Other()})
    assert "--dataset" in caught.value.hint


def drawn(csv: Path, limit: int | None, seed: int = 0) -> ImageSet:
    return open_data(RunOptions(data=str(csv), split="Training", limit=limit, seed=seed), known())


def test_a_limit_draws_over_the_whole_split(tmp_path: Path, tiles: Faces) -> None:
    path = write(tmp_path / "fer2013.csv", [row(tiles[0], 0, "Training")] * 400)
    whole, some = drawn(path, None), drawn(path, 100)
    assert len(some) == 100
    assert len(set(some.ids)) == 100
    assert list(some.ids) == sorted(some.ids)
    assert some.fingerprint != whole.fingerprint
    positions = np.array([int(one[-5:]) for one in some.ids])
    # A hundred drawn of 400 have mean 199.5 and a standard error of 10.
    assert abs(positions.mean() - 199.5) < 40
    assert drawn(path, 100).ids == some.ids
    assert drawn(path, 100).fingerprint == some.fingerprint
    assert drawn(path, 100, seed=1).ids != some.ids
    assert set(drawn(path, 10).ids) < set(some.ids)
    # The same on every machine and with every version of numpy.
    assert drawn(path, 3).ids == ("Training/00221", "Training/00296", "Training/00304")


def test_a_limit_that_is_too_large_or_too_small(csv: Path) -> None:
    assert drawn(csv, 5).ids == drawn(csv, None).ids
    many = drawn(csv, 6)
    assert many.fingerprint == drawn(csv, None).fingerprint
    assert "--limit 6 exceeds the number of images; all 5 are used" in many.notes
    for limit in (0, -3):
        with pytest.raises(BenchboxError, match="too few images"):
            drawn(csv, limit)


def test_a_limited_set_reads_the_images_it_names(csv: Path, tiles: Faces) -> None:
    some = drawn(csv, 3)
    order = [int(one[-5:]) for one in some.ids]
    np.testing.assert_array_equal(pixels(some), tiles[order])
    assert some.labels["emotion"].tolist() == order
