"""Duplicates among real photographs: what must be found, and what must not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_copies import as_float, groups, image_set, jpeg, photograph, stamped
from made_faces import Faces
from numpy.typing import NDArray

from benchbox import BenchboxError
from benchbox.api.arrays import Images
from benchbox.audit import duplicates
from benchbox.audit.alignment import ZOOMS, align_pairs
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


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(folder))
    return folder / "duplicates"


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


@pytest.mark.slow
def test_pictures_that_are_all_alike_to_the_descriptors(capsys: pytest.CaptureFixture[str]) -> None:
    """Blurred noise gives every picture the most candidates that are verified; only copies are linked."""
    rng = np.random.default_rng(4)
    count = 600
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
