"""Duplicates among real photographs: what must be found, what must not, and what a run leaves out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchbox import BenchboxError, Dataset, ImageSet
from benchbox.api.arrays import Images
from benchbox.audit import duplicates
from benchbox.audit.alignment import ZOOMS, align_pairs
from benchbox.audit.contamination import open_splits, without_seen
from benchbox.audit.duplicates import (
    EXACT,
    HASH_BYTES,
    MIRRORED,
    NEAR,
    SIMILAR,
    bands_of,
    descriptors_of,
    find_duplicates,
    hash_descriptors,
    links_between,
    read_hashes,
    similarity_to_hashes,
)
from benchbox.builtin.datasets.fer2013 import Fer2013
from benchbox.builtin.datasets.images import ImageFolder
from benchbox.builtin.datasets.sample import Sample, _shrunken
from benchbox.engine.data import open_data
from benchbox.records.options import RunOptions

Faces = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(folder))
    return folder / "duplicates"


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


def photograph(down: int = 0, right: int = 0) -> Faces:
    """The cameraman's head, the window moved by some pixels."""
    return _shrunken("camera.png", 2)[30 + down : 78 + down, 90 + right : 138 + right]


def jpeg(image: Faces, quality: int) -> Faces:
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return np.asarray(decoded, dtype=np.uint8)


def stamped(image: Faces) -> Faces:
    out = image.copy()
    out[20:26, 4:44] = out[20:26, 4:44] // 2 + 100
    return out


def as_float(images: Faces) -> Images:
    return images.astype(np.float32) / np.float32(255)


def image_set(images: Faces, split: str = "", name: str = "made") -> ImageSet:
    stack = as_float(images)
    return ImageSet(
        dataset=name,
        split=split,
        ids=tuple(f"{split}/{place:05d}" for place in range(len(images))),
        shapes=np.full((len(images), 2), images.shape[1:], dtype=np.int64),
        fingerprint=f"{name} {split} {hash(images.tobytes())}",
        read=lambda indices: stack[indices],
    )


def write_csv(path: Path, parts: Sequence[tuple[str, Faces]]) -> Path:
    lines = [f"3,{' '.join(map(str, image.ravel().tolist()))},{usage}" for usage, part in parts for image in part]
    path.write_text("\n".join(["emotion,pixels,Usage", *lines, ""]), encoding="ascii")
    return path


def groups(*sets: ImageSet) -> list[list[int]]:
    return [one.tolist() for one in find_duplicates(sets).groups()]


CHANGES: dict[str, Callable[[], Faces]] = {
    "compressed": lambda: jpeg(photograph(), 40),
    "brighter": lambda: np.minimum(photograph() * 0.7 + 60, 255).astype(np.uint8),
    "darker": lambda: (photograph() * 0.4).astype(np.uint8),
    "stamped": lambda: stamped(photograph()),
    "shifted": lambda: photograph(1, -2),
    "shifted and compressed": lambda: jpeg(photograph(2, 0), 50),
    "mirrored": lambda: np.ascontiguousarray(photograph()[:, ::-1]),
    "mirrored and shifted": lambda: np.ascontiguousarray(photograph(1, 2)[:, ::-1]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_other_photographs(tiles: Faces, change: str) -> None:
    images = np.concatenate([tiles[:20], photograph()[None], tiles[20:], CHANGES[change]()[None]])
    found = find_duplicates([image_set(images)])
    assert [one.tolist() for one in found.groups()] == [[20, 41]]
    assert found.links.tolist() == [[20, 41, MIRRORED if change.startswith("mirrored") else NEAR]]
    assert SIMILAR <= found.similarity[0] <= 1


def test_different_photographs_and_distant_crops_are_no_duplicates(tiles: Faces) -> None:
    assert groups(image_set(np.concatenate([tiles, photograph()[None], photograph(14, 9)[None]]))) == []


def test_identical_images_form_a_group_across_sets(tiles: Faces) -> None:
    training, test = tiles[:10], np.concatenate([tiles[10:15], tiles[3:4], tiles[3:4], tiles[11:12]])
    found = find_duplicates([image_set(training, "Training"), image_set(test, "PublicTest")])
    assert [one.tolist() for one in found.groups()] == [[3, 15, 16], [11, 17]]
    assert set(found.links[:, 2].tolist()) == {EXACT}
    assert (found.similarity == 1).all()


def test_near_duplicates_chain_into_one_group(tiles: Faces) -> None:
    chain = np.stack([photograph(0, 3 * step) for step in range(4)])
    assert groups(image_set(np.concatenate([tiles, chain]))) == [[40, 41, 42, 43]]


def test_empty_images_are_duplicates_only_where_identical() -> None:
    black, grey = np.zeros((48, 48), np.uint8), np.full((48, 48), 128, np.uint8)
    faint = grey + np.random.default_rng(0).integers(0, 2, (48, 48), dtype=np.uint8)
    assert groups(image_set(np.stack([black, grey, faint, black]))) == [[0, 3]]


@pytest.mark.slow
@pytest.mark.parametrize("number", [100, pytest.param(300, marks=pytest.mark.slow)])
def test_noise_alone_is_never_a_duplicate(number: int) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (number, 48, 48), dtype=np.uint8)
    assert groups(image_set(noise)) == []


@pytest.mark.slow
def test_hundreds_of_versions_of_one_photograph_make_few_links() -> None:
    rng = np.random.default_rng(2)
    versions = np.clip(photograph() + rng.normal(0, 4, (400, 48, 48)), 0, 255).astype(np.uint8)
    found = find_duplicates([image_set(versions)])
    assert len(found.links) == 399
    assert len(found.groups()) == 1


def test_copies_of_other_sizes_and_depths_are_found_in_a_folder(tmp_path: Path, tiles: Faces) -> None:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for place in range(6):
        cv2.imwrite(str(folder / f"{place}.png"), tiles[place])
    large = cv2.resize(tiles[4], (97, 97), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(folder / "deep/large.png"), large)
    cv2.imwrite(str(folder / "deep/sixteen.png"), tiles[2].astype(np.uint16) * 257)
    images = ImageFolder().load(folder)
    found = find_duplicates([images])
    named = [{images.ids[place] for place in group} for group in found.groups()]
    assert sorted(map(sorted, named)) == [["2.png", "deep/sixteen.png"], ["4.png", "deep/large.png"]]
    kinds = {images.ids[first].split("/")[-1]: kind for first, _, kind in found.links.tolist()}
    assert sorted(kinds.values()) == [EXACT, NEAR]


def changed(image: Faces, rng: np.random.Generator) -> Faces:
    """Zoom by 0.8 to 1.25, shift by up to 6 pixels, turn by up to 5 degrees, mirror, change contrast, compress."""
    zoom, angle = math.exp(rng.uniform(-0.223, 0.223)), math.radians(rng.uniform(-5, 5))
    cosine, sine = math.cos(angle) * zoom, math.sin(angle) * zoom
    flip = rng.choice([-1, 1])
    matrix = np.array([[flip * cosine, -sine], [flip * sine, cosine]])
    middle = np.full(2, 23.5)
    shift = middle + rng.uniform(-6, 6, 2) - matrix @ middle
    moved = cv2.warpAffine(
        image.astype(np.float32),
        np.column_stack([matrix, shift]),
        (48, 48),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    levels = (np.asarray(moved) - 128) * rng.uniform(0.6, 1.3) + 128 + rng.uniform(-30, 30)
    return jpeg(np.clip(np.rint(levels), 0, 255).astype(np.uint8), 20)


def test_copies_in_another_crop_are_found(tiles: Faces) -> None:
    detailed = tiles[bands_of(as_float(tiles))[2].std(axis=(1, 2)) > 10]
    rng = np.random.default_rng(3)
    copies = np.stack([changed(image, rng) for image in detailed for _ in range(5)])
    found = links_between(image_set(copies, "Test"), image_set(tiles, "Training"))
    wanted = np.repeat([np.flatnonzero((tiles == image).all(axis=(1, 2)))[0] for image in detailed], 5)
    right = {(place, target) for place, target in enumerate(wanted.tolist())}
    links = {(one, other) for one, other, _ in found.links.tolist()}
    assert len(detailed) >= 20
    assert links <= right
    assert len(links) >= 0.95 * len(right)


def test_each_copy_links_to_another_set_once_and_copies_of_it_do_too(tiles: Faces) -> None:
    training = np.concatenate([tiles[:20], photograph()[None], jpeg(photograph(), 50)[None]])
    test = np.stack([photograph(1, 1), tiles[30], photograph(1, 1), tiles[4]])
    found = links_between(image_set(test, "Test"), image_set(training, "Training"))
    assert sorted(found.links[:, 0].tolist()) == [0, 2, 3]
    assert [row for row in found.links.tolist() if row[0] == 3] == [[3, 4, EXACT]]
    (first, again) = (other for one, other, _ in found.links.tolist() if one != 3)
    assert first == again >= 20


def test_bands_are_differences_of_gaussian_blurs(tiles: Faces) -> None:
    stack = as_float(tiles[:5])
    halves, middles, fines = bands_of(stack)

    def blurred(sigma: float) -> Images:
        size = 2 * round(4 * sigma) + 1
        border = cv2.BORDER_REFLECT
        images = [cv2.GaussianBlur(255 * image, (size, size), sigma, borderType=border) for image in stack]
        return np.stack(images)

    assert np.abs(fines - (blurred(1) - blurred(3))).max() < 1e-2
    assert np.abs(middles - (blurred(1.8) - blurred(6))).max() < 1e-2
    wide = blurred(1.5) - blurred(8)
    assert np.abs(halves[:, 3, 5] - wide[:, 6:8, 10:12].mean(axis=(1, 2))).max() < 1e-2


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, -2), (-3, 3), (5, 0)])
def test_a_whole_shift_is_found_to_the_pixel(down: int, right: int) -> None:
    """Windows of one photograph: the correlation is that of the pixels that both show."""
    bands = bands_of(as_float(np.stack([photograph(), photograph(down, right)])))
    scores, mirrored = np.empty(1, np.float32), np.empty(1, np.bool_)
    align_pairs(*bands, np.array([[0, 1]]), ZOOMS, scores, mirrored)
    rows, columns = (slice(max(0, step) + 1, 47 + min(0, step)) for step in (down, right))
    other_rows, other_columns = (slice(max(0, -step) + 1, 47 + min(0, -step)) for step in (down, right))
    shown, also = bands[2][0][rows, columns].ravel(), bands[2][1][other_rows, other_columns].ravel()
    assert not mirrored[0]
    assert scores[0] == pytest.approx(np.corrcoef(shown, also)[0, 1], abs=0.02)


def test_hashes_are_the_signs_of_the_descriptors(tiles: Faces) -> None:
    descriptors = descriptors_of(as_float(tiles))
    assert np.linalg.norm(descriptors, axis=1) == pytest.approx(1, abs=1e-5)
    hashes = hash_descriptors(descriptors)
    assert hashes.shape == (len(tiles), HASH_BYTES)
    signs = np.where(descriptors > 0, 1, -1) / math.sqrt(80)
    expected = (descriptors @ signs[5:9].T).max(axis=1)
    assert similarity_to_hashes(descriptors, hashes[5:9]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("content", [b"", b"no array", np.zeros((3, 9), np.uint8), np.zeros((3, 10))])
def test_a_file_without_hashes_is_refused(tmp_path: Path, content: bytes | NDArray[np.generic]) -> None:
    path = tmp_path / "hashes.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(BenchboxError, match="hashes"):
        read_hashes(path)


def test_hashes_of_the_training_faces_are_small_and_whole() -> None:
    path = Fer2013().training_hashes()
    assert path is not None
    assert path.stat().st_size <= 300_000
    assert read_hashes(path).shape == (28_709, HASH_BYTES)


def test_the_number_of_threads_changes_nothing(tiles: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_SHARE", 7)
    copies = np.stack([jpeg(one, 60) for one in tiles[::3]])
    images = np.concatenate([tiles, copies])
    found = []
    for count, name in ((1, "one"), (5, "five")):
        monkeypatch.setenv("BENCHBOX_THREADS", str(count))
        found.append(find_duplicates([image_set(images, name=name)]))
    assert len(found[0].groups()) == len(copies)
    np.testing.assert_array_equal(found[0].links, found[1].links)
    np.testing.assert_array_equal(found[0].similarity, found[1].similarity)


def test_a_second_look_is_taken_from_the_cache(tiles: Faces, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = image_set(np.concatenate([tiles, tiles[:3]]))
    first = find_duplicates([images])
    assert len(list(cache.iterdir())) == 1

    def searched(*pictures: object) -> None:
        raise AssertionError("it searched again")

    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "_search", searched)
        second = find_duplicates([images])
        np.testing.assert_array_equal(first.links, second.links)
        np.testing.assert_array_equal(first.similarity, second.similarity)
        with pytest.raises(AssertionError):
            find_duplicates([image_set(tiles)])
    entry = next(cache.iterdir())
    entry.write_bytes(entry.read_bytes()[:-7])
    np.testing.assert_array_equal(find_duplicates([images]).links, first.links)


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


@pytest.mark.slow
def test_pictures_that_are_all_alike_to_the_descriptors(capsys: pytest.CaptureFixture[str]) -> None:
    """Blurred noise gives every picture the most candidates that are verified; only copies are linked."""
    rng = np.random.default_rng(4)
    count = 1_000
    low = rng.normal(0, 1, (count, 7, 7)).astype(np.float32)
    pictures = np.stack([cv2.resize(one, (48, 48), interpolation=cv2.INTER_CUBIC) for one in low])
    pictures = np.clip(128 + 40 * pictures, 0, 255).astype(np.uint8)
    pictures[-100:] = pictures[:100]
    images = image_set(pictures)
    begun = time.process_time()
    found = find_duplicates([images])
    took = time.process_time() - begun
    with capsys.disabled():
        print(f"\n{count} pictures compared in {took:.1f} s of processor time")
    assert sorted(map(len, found.groups())) == [2] * 100
