"""Editions of FER2013: the files of the challenge, other separators and words, archives."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from made_faces import Faces, load, pixels, refused, row, write

from benchbox.builtin.datasets.faces import BOTH_TESTS
from benchbox.builtin.datasets.fer2013 import Fer2013

pytestmark = pytest.mark.usefixtures("cache")


def test_the_training_faces_of_the_challenge_have_no_usage(tmp_path: Path, tiles: Faces) -> None:
    path = write(tmp_path / "train.csv", [row(tile).rpartition(",")[0] for tile in tiles[:3]], "emotion,pixels")
    images = load(path)
    assert images.split == "Training"
    assert images.notes == ("the data have no test split, so the Training faces are scored",)
    np.testing.assert_array_equal(pixels(images), tiles[:3])
    assert images.labels["emotion"].tolist() == [3, 3, 3]


def test_the_test_faces_of_the_challenge_are_pixels_alone(tmp_path: Path, tiles: Faces) -> None:
    path = write(tmp_path / "test.csv", [row(tile).split(",")[1] for tile in tiles[:3]], "pixels")
    assert Fer2013().recognises(path)
    images = load(path)
    assert images.split == BOTH_TESTS
    assert images.ids == ("Test/00000", "Test/00001", "Test/00002")
    assert images.labels == {}
    np.testing.assert_array_equal(pixels(images), tiles[:3])


def test_semicolons_and_other_words_for_the_splits(tmp_path: Path, tiles: Faces) -> None:
    words = {"train": "Training", "Val": "PublicTest", "test": BOTH_TESTS}
    rows = [row(tile, usage=word).replace(",", ";") for tile, word in zip(tiles, words, strict=False)]
    path = write(tmp_path / "faces.csv", rows, "emotion;pixels;Usage")
    np.testing.assert_array_equal(pixels(load(path, "Training")), tiles[:1])
    np.testing.assert_array_equal(pixels(load(path, "PublicTest")), tiles[1:2])
    np.testing.assert_array_equal(pixels(load(path, BOTH_TESTS)), tiles[1:3])


def test_a_label_beyond_the_seven_is_other(tmp_path: Path, tiles: Faces) -> None:
    """Some editions have an eighth emotion, contempt; it does not matter for a denoiser."""
    path = write(tmp_path / "faces.csv", [row(tile, emotion) for tile, emotion in zip(tiles, (0, 7, 6), strict=False)])
    images = load(path, "PublicTest")
    assert images.labels["emotion"].tolist() == [0, 7, 6]
    assert Fer2013.label_names["emotion"][7] == "other"
    assert images.notes == ("emotion: 1 of 3 faces are labelled 'other', outside the seven emotions",)


def packed(path: Path, csv: Path, kind: str) -> Path:
    """Put a csv into an archive, as its download has it."""
    if kind == "csv.gz":
        path.write_bytes(gzip.compress(csv.read_bytes()))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(csv, "fer2013/fer2013.csv")
            archive.writestr("fer2013/README", "nothing to see")
            archive.writestr("__MACOSX/fer2013/._fer2013.csv", "nothing to see")
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            archive.add(csv, "fer2013/fer2013.csv")
    return path


@pytest.mark.parametrize("kind", ["csv.gz", "zip", "tar", "tar.gz"])
def test_a_csv_in_an_archive(tmp_path: Path, csv: Path, kind: str) -> None:
    path = packed(tmp_path / f"fer2013.{kind}", csv, kind)
    assert Fer2013().recognises(path)
    for _ in ("parsed", "cached"):
        images = load(path)
        assert images.fingerprint == load(csv).fingerprint
        np.testing.assert_array_equal(pixels(images), pixels(load(csv)))
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])
    assert "archive is damaged" in refused(path).message or "truncated" in refused(path).message


def test_archives_that_do_not_say_which_csv(tmp_path: Path, csv: Path) -> None:
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(csv, "a.csv")
        archive.write(csv, "b.csv")
    assert "contains 2 csv files: a.csv, b.csv" in refused(path).message
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "nothing to see")
    assert "contains no csv" in refused(path).message


def test_an_archive_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, csv: Path) -> None:
    monkeypatch.setattr("benchbox.builtin.datasets.opening._MAX_BYTES", 50_000)
    assert "unpacks to more than" in refused(packed(tmp_path / "a.zip", csv, "zip")).message
