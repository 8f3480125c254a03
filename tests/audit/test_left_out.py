"""Images that a denoiser may have seen in training are left out by default."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from made_copies import as_float, groups, image_set, jpeg, photograph, write_csv
from made_faces import Faces

from benchbox import BenchboxError, Dataset, ImageSet
from benchbox.audit.contamination import open_splits, without_seen
from benchbox.audit.duplicates import (
    descriptors_of,
    hash_descriptors,
)
from benchbox.builtin.datasets.fer2013 import Fer2013
from benchbox.builtin.datasets.images import ImageFolder
from benchbox.builtin.datasets.sample import Sample
from benchbox.engine.data import open_data
from benchbox.records.options import RunOptions

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def csv(tmp_path: Path, tiles: Faces) -> Path:
    """Of 8 PublicTest faces two stand in Training, one nearly so, one repeats another; PrivateTest has one of these."""
    test = np.stack([*tiles[20:24], tiles[2], jpeg(tiles[5], 60), tiles[21], tiles[24]])
    parts = (("Training", tiles[:12]), ("PublicTest", test), ("PrivateTest", np.stack([tiles[24], tiles[25]])))
    return write_csv(tmp_path / "fer2013.csv", parts)


class _WithoutHashes(Fer2013):
    """Data whose Training split itself is compared."""

    def training_hashes(self) -> None:
        return None


def kept(path: Path, dataset: Dataset, split: str = "PublicTest") -> ImageSet:
    return without_seen(dataset.load(path, split=split), dataset, path)


def test_images_with_a_duplicate_in_training_are_left_out(csv: Path) -> None:
    """A face that only repeats another one of its split stays: it favours no row."""
    whole = Fer2013().load(csv, split="PublicTest")
    left = kept(csv, _WithoutHashes())
    assert [int(one[-1]) for one in left.ids] == [0, 1, 2, 3, 6, 7]
    assert (left.source, left.source_images, left.left_out) == (whole.fingerprint, 8, 2)
    assert left.fingerprint != whole.fingerprint
    assert left.notes == whole.notes
    np.testing.assert_array_equal(left.stack(np.arange(6)), whole.stack(np.array([0, 1, 2, 3, 6, 7])))
    assert kept(csv, _WithoutHashes()).fingerprint == left.fingerprint


def test_of_training_itself_nothing_is_left_out(tmp_path: Path, tiles: Faces) -> None:
    path = write_csv(tmp_path / "fer2013.csv", [("Training", np.concatenate([tiles[:5], tiles[1:3]]))])
    for dataset in (Fer2013(), _WithoutHashes()):
        left = kept(path, dataset, "Training")
        assert (len(left), left.left_out, left.source) == (7, 0, "")


def test_a_missing_training_split_is_said(tmp_path: Path, tiles: Faces) -> None:
    path = write_csv(tmp_path / "fer2013.csv", [("PublicTest", tiles[:5])])
    left = kept(path, _WithoutHashes())
    assert len(left) == 5
    assert left.notes[-1] == f"not compared with Training: {path} has no faces in split Training"


def test_hashes_decide_whatever_splits_the_data_hold(csv: Path, tmp_path: Path, tiles: Faces) -> None:
    """The hashes are of tiles 0 to 11; a Training split that holds others, or none, changes nothing."""

    class Hashed(Fer2013):
        def training_hashes(self) -> Path:
            return tmp_path / "hashes.npy"

    np.save(tmp_path / "hashes.npy", hash_descriptors(descriptors_of(as_float(tiles[:12]))))
    test = [line for line in csv.read_text().splitlines()[1:] if line.endswith("PublicTest")]
    other = write_csv(tmp_path / "other.csv", [("Training", tiles[20:24]), ("PrivateTest", tiles[30:31])])
    other.write_text(other.read_text() + "\n".join([*test, ""]), encoding="ascii")
    alone = tmp_path / "alone.csv"
    alone.write_text("\n".join(["emotion,pixels,Usage", *test, ""]), encoding="ascii")
    for path in (csv, alone, other):
        left = kept(path, Hashed())
        assert [int(one[-1]) for one in left.ids] == [0, 1, 2, 3, 6, 7]
        assert left.left_out == 2


def test_the_shipped_hashes_find_what_they_were_made_of(tmp_path: Path, tiles: Faces, hashed: Faces) -> None:
    """One tile of the sample agrees with a face of Training by chance, so it stands for one here."""
    test = np.stack([tiles[0], hashed, np.ascontiguousarray(hashed[:, ::-1]), tiles[1]])
    path = write_csv(tmp_path / "fer2013.csv", [("PrivateTest", test)])
    left = kept(path, Fer2013(), "")
    assert left.ids == ("PrivateTest/00000", "PrivateTest/00003")
    assert left.left_out == 2


def test_nothing_left_is_an_error_that_says_how_to_go_on(tmp_path: Path, hashed: Faces) -> None:
    path = write_csv(tmp_path / "fer2013.csv", [("PrivateTest", hashed[None])])
    with pytest.raises(BenchboxError, match="every image is a probable duplicate") as caught:
        kept(path, Fer2013(), "")
    assert "--keep-duplicates" in caught.value.hint
    assert len(opened(path, keep_duplicates=True)) == 1


def test_other_splits_change_nothing(tmp_path: Path, tiles: Faces) -> None:
    """A chain over a third split: its face resembles one of Training and one of PublicTest, which differ."""
    chain = [photograph(0, step) for step in (0, 12, 24)]
    training, test = np.stack([*tiles[:5], chain[0]]), np.stack([*tiles[10:14], chain[2]])
    third = [("PrivateTest", np.stack([chain[1], tiles[30]]))]
    found = []
    for name, more in (("without.csv", []), ("with.csv", third)):
        path = write_csv(tmp_path / name, [("Training", training), ("PublicTest", test), *more])
        found.append(kept(path, _WithoutHashes()).ids)
    sets = [image_set(part, str(place)) for place, part in enumerate((training, test, third[0][1]))]
    assert groups(*sets) == [[5, 10, 11]]
    assert found[0] == found[1]
    assert len(found[0]) == 5


def test_both_test_splits_together_are_compared_with_training(csv: Path) -> None:
    left = kept(csv, _WithoutHashes(), "PublicTest+PrivateTest")
    assert (len(left), left.left_out, left.source_images) == (8, 2, 10)


def opened(path: Path, limit: int | None = None, *, keep_duplicates: bool = False) -> ImageSet:
    return open_data(RunOptions(data=str(path), limit=limit, keep_duplicates=keep_duplicates), kinds())


def test_images_are_drawn_from_what_is_left(tmp_path: Path, tiles: Faces, hashed: Faces) -> None:
    path = write_csv(tmp_path / "fer2013.csv", [("PrivateTest", np.stack([*tiles[:3], hashed, *tiles[3:6]]))])
    whole = opened(path, keep_duplicates=True)
    assert (len(whole), whole.source, whole.left_out) == (7, "", 0)
    drawn = opened(path, 5)
    assert len(drawn) == 5
    assert "PrivateTest/00003" not in drawn.ids
    assert (drawn.source, drawn.source_images, drawn.left_out) == (whole.fingerprint, 7, 1)


def test_data_without_a_training_split_stay_whole(tmp_path: Path, tiles: Faces, hashed: Faces) -> None:
    for place, image in enumerate((tiles[0], hashed, tiles[0])):
        cv2.imwrite(str(tmp_path / f"{place}.png"), image)
    left = without_seen(ImageFolder().load(tmp_path), ImageFolder(), tmp_path)
    assert (len(left), left.left_out, left.source) == (3, 0, "")


def test_splits_that_join_others_are_opened_only_where_these_are_not(csv: Path) -> None:
    splits = open_splits(Fer2013(), csv)
    assert [one.split for one in splits.sets] == ["Training", "PrivateTest", "PublicTest"]
    assert splits.missing == {}
    assert [one.split for one in open_splits(_Merged(), csv).sets] == ["Training", "PublicTest+PrivateTest"]


def test_data_of_which_nothing_opens_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n3,1 2 3,Training\n", encoding="ascii")
    with pytest.raises(BenchboxError, match="line 2"):
        open_splits(Fer2013(), tmp_path / "fer2013.csv")


class _Merged(Fer2013):
    """Data whose test splits cannot be told apart."""

    def load(self, path: Path | None, *, split: str = "", skip_bad: bool = False) -> ImageSet:
        if split in ("PublicTest", "PrivateTest"):
            raise BenchboxError("not told apart")
        return super().load(path, split=split, skip_bad=skip_bad)


def kinds() -> dict[str, Dataset]:
    return {"fer2013": Fer2013(), "images": ImageFolder(), "sample": Sample()}
