"""Pictures are read as they are: every format and depth, luminance, mixed sizes; damage is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_pictures import cut, load, luminance, one, save
from numpy.typing import NDArray
from PIL import Image, ImageCms

from benchbox import BenchboxError
from benchbox.builtin.datasets.headers import UnreadableImage, without_profile
from benchbox.builtin.datasets.image_files import decode
from benchbox.builtin.datasets.images import ImageFolder

pytestmark = pytest.mark.usefixtures("image_cache")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".bmp"])
def test_grey_of_8_bit_is_exact(root: Path, photograph: NDArray[np.uint8], suffix: str) -> None:
    grey = photograph[..., 1]
    save(root / f"a{suffix}", grey)
    found = load(root)
    assert found.ids == (f"a{suffix}",)
    assert found.shapes.tolist() == [[60, 83]]
    assert found.notes == ()
    np.testing.assert_array_equal(one(found), grey.astype(np.float32) / np.float32(255))


def test_nothing_is_said_of_the_colour_profile_of_a_png(
    root: Path, photograph: NDArray[np.uint8], capfd: pytest.CaptureFixture[str]
) -> None:
    grey = photograph[..., 1]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # of RGB, so wrong for grey
    Image.fromarray(grey).save(root / "a.png", icc_profile=profile)
    data = (root / "a.png").read_bytes()
    assert b"iCCP" in data
    plain = without_profile(data)
    assert b"iCCP" not in plain
    assert without_profile(plain) is plain
    for length in range(len(data)):  # truncated
        assert len(without_profile(data[:length])) <= length
    np.testing.assert_array_equal(one(load(root)), grey.astype(np.float32) / np.float32(255))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_of_16_bit_is_exact(root: Path, suffix: str) -> None:
    grey = np.random.default_rng(0).integers(0, 65536, (31, 47)).astype(np.uint16)
    save(root / f"a{suffix}", grey)
    np.testing.assert_array_equal(one(load(root)), grey.astype(np.float32) / np.float32(65535))


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0.51), (".tif", 0.51), (".bmp", 0.51), (".jpg", 6.0)])
def test_colour_becomes_luminance(root: Path, photograph: NDArray[np.uint8], suffix: str, tolerance: float) -> None:
    save(root / f"a{suffix}", photograph)
    found = load(root)
    assert found.notes == ("colour: 1 of 1 images, converted to luminance (ITU-R BT.601)",)
    difference = one(found).astype(np.float64) * 255 - luminance(photograph)
    assert np.abs(difference).max() <= 10 * tolerance if suffix == ".jpg" else np.abs(difference).max() <= tolerance
    assert np.sqrt((difference**2).mean()) <= tolerance


def test_colour_of_16_bit_becomes_luminance(root: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    save(root / "a.png", colour)
    assert np.abs(one(load(root)).astype(np.float64) * 65535 - luminance(colour)).max() <= 2


def test_red_is_not_taken_for_blue(root: Path) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    for name in ("a.png", "a.bmp", "a.tif"):
        save(root / name, red)
    for index in range(3):
        np.testing.assert_allclose(one(load(root), index), 0.299, atol=0.002)


def test_grey_jpeg_and_a_jpeg_of_three_equal_channels(root: Path, photograph: NDArray[np.uint8]) -> None:
    grey = np.ascontiguousarray(photograph[..., 1])
    save(root / "grey.jpg", grey)
    found = load(root)
    assert found.notes == ()
    assert np.sqrt(((one(found) * 255 - grey) ** 2).mean()) < 4


def test_transparency_is_dropped_and_said(root: Path, photograph: NDArray[np.uint8]) -> None:
    alpha = np.dstack([photograph[..., ::-1], np.full(photograph.shape[:2], 128, np.uint8)])
    save(root / "a.png", alpha)
    found = load(root)
    assert "transparency: 1 of 1 images; it is ignored" in found.notes
    assert np.abs(one(found) * 255 - luminance(photograph)).max() <= 0.51


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiffs_are_read_as_stored_and_not_turned_for_display(kind: type, channels: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pixels: Any = generator.integers(0, np.iinfo(kind).max + 1, (12, 17, channels)).astype(kind).squeeze()
    photometric = "minisblack" if channels == 1 else "rgb"
    for orientation in range(1, 9):
        shapes: tuple[dict[str, Any], ...] = ({}, {"byteorder": ">"}, {"bigtiff": True})
        for options in shapes:
            tags = [(274, 3, 1, orientation, True)]
            tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=photometric, extratags=tags, **options)
            found = decode((tmp_path / "a.tif").read_bytes())
            np.testing.assert_array_equal(found.grey if channels == 1 else found.rgb, pixels)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("meaning", ["unassalpha", "assocalpha", "unspecified"])
def test_the_colours_of_a_tiff_are_not_multiplied_by_its_transparency(kind: type, meaning: str, tmp_path: Path) -> None:
    pixels: Any = np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, (12, 17, 4)).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[meaning])
    found = decode((tmp_path / "a.tif").read_bytes())
    np.testing.assert_array_equal(found.rgb, pixels[..., :3])
    assert found.alpha


def test_transparency_of_a_grey_tiff_is_said(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 17, 2)).astype(np.uint8)
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    found = decode((tmp_path / "a.tif").read_bytes())
    np.testing.assert_array_equal(found.grey, pixels[..., 0])
    assert found.alpha


def test_the_colour_planes_of_a_tiff_may_be_apart_and_its_white_zero(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 17)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig="separate", rowsperstrip=5)
    np.testing.assert_array_equal(decode((tmp_path / "a.tif").read_bytes()).rgb, np.moveaxis(pixels, 0, 2))
    tifffile.imwrite(tmp_path / "a.tif", pixels[0], photometric="miniswhite")
    np.testing.assert_array_equal(decode((tmp_path / "a.tif").read_bytes()).grey, 255 - pixels[0])


def test_the_first_of_several_pages_is_used_and_said(root: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 256, (3, 12, 17)).astype(np.uint8)
    for name, options in (("little.tif", {}), ("big.tif", {"bigtiff": True}), ("turned.tif", {"byteorder": ">"})):
        tifffile.imwrite(root / name, pages, photometric="minisblack", **options)
    found = load(root)
    assert found.notes == ("several pages: 3 of 3 images; only the first page is used",)
    for index in range(3):
        np.testing.assert_array_equal(one(found, index), pages[0].astype(np.float32) / np.float32(255))


def test_sizes_may_differ(root: Path) -> None:
    generator = np.random.default_rng(0)
    sizes = [(10, 20), (48, 48), (10, 20), (1, 1), (200, 3)]
    pictures = [generator.integers(0, 256, size).astype(np.uint8) for size in sizes]
    for index, picture in enumerate(pictures):
        save(root / f"{index}.png", picture)
    found = load(root)
    assert found.shapes.tolist() == [list(size) for size in sizes]
    stack = found.stack(np.array([2, 0], dtype=np.intp))
    assert stack.shape == (2, 10, 20)
    np.testing.assert_array_equal(stack[0] * np.float32(255), pictures[2])
    with pytest.raises(ValueError, match="the same size"):
        found.stack(np.array([0, 1], dtype=np.intp))


def test_folders_in_folders_and_what_is_left_aside(root: Path) -> None:
    grey = np.zeros((4, 4), np.uint8)
    for name in ("b.png", "a/z.png", "a/b/c.PNG", ".hidden/x.png", "a/.y.png"):
        save(root / name, grey) if not name.endswith("PNG") else save(root / "t.png", grey).rename(_made(root / name))
    (root / "a" / "notes.txt").write_text("no picture")
    (root / "a" / "round").symlink_to(root)
    assert load(root).ids == ("a/b/c.PNG", "a/z.png", "b.png")
    assert ImageFolder().recognises(root)
    single = load(root / "b.png")
    assert single.ids == ("b.png",)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_the_fingerprint_follows_names_and_pixels(root: Path, photograph: NDArray[np.uint8]) -> None:
    save(root / "a.png", photograph)
    save(root / "b.png", photograph[:40])
    first = load(root).fingerprint
    assert load(root).fingerprint == first
    (root / "b.png").rename(root / "c.png")
    second = load(root).fingerprint
    save(root / "c.png", 255 - photograph[:40])
    third = load(root).fingerprint
    assert len({first, second, third}) == 3
    save(root / "c.png", photograph[:40])
    assert load(root).fingerprint == second


# --- damaged and dangerous


def header_only(data: bytes) -> bytes:
    return data[:20]


def nothing(data: bytes) -> bytes:
    return b""


def page(data: bytes) -> bytes:
    return b"<html>not found</html>"


@pytest.mark.parametrize("damage", [cut, header_only, nothing, page])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_an_image_that_does_not_decode(
    root: Path, photograph: NDArray[np.uint8], suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    save(root / f"good{suffix}", photograph)
    bad = save(root / f"deep/bad{suffix}", photograph)
    bad.write_bytes(damage(bad.read_bytes()))
    for _ in range(2):
        with pytest.raises(BenchboxError, match=re.escape(str(bad))) as caught:
            load(root)
        assert "--skip-bad" in caught.value.hint
    found = load(root, skip_bad=True)
    assert found.ids == (f"good{suffix}",)
    assert any(f"skipped: 1 of 2 images, first deep/bad{suffix}" in note for note in found.notes)
    (root / f"good{suffix}").unlink()
    with pytest.raises(BenchboxError, match="no image of 1 can be decoded"):
        load(root, skip_bad=True)


def test_noise_in_a_header_never_escapes_as_another_error(photograph: NDArray[np.uint8], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    outcomes = set()
    for suffix in (".png", ".jpg", ".tif", ".bmp"):
        whole = save(tmp_path / f"a{suffix}", photograph).read_bytes()
        for _ in range(150):
            data = bytearray(whole)
            for place in generator.integers(2, min(200, len(data)), 3):
                data[place] = generator.integers(256)
            try:
                outcomes.add(decode(bytes(data)).grey.ndim)
            except UnreadableImage:
                outcomes.add(0)
    assert outcomes == {0, 2}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.data(),
    st.sampled_from([".png", ".tif", ".bmp"]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.booleans(),
)
def test_any_picture_that_is_written_is_read_as_it_was(
    data: st.DataObject, suffix: str, height: int, width: int, channels: int, deep: bool
) -> None:
    """Against the formulas: whole numbers over their largest value, and the luminance of colour, rounded."""
    kind = np.uint16 if deep and suffix != ".bmp" else np.uint8
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    picture: Any = generator.integers(0, np.iinfo(kind).max + 1, (height, width, channels)).astype(kind)
    bgr = picture[..., 0] if channels == 1 else picture[..., ::-1]
    found = decode(bytes(cv2.imencode(suffix, np.ascontiguousarray(bgr))[1]))
    assert found.grey.dtype == kind
    assert found.grey.shape == (height, width)
    assert (found.rgb is not None) == (channels == 3)
    expected = picture[..., 0] if channels == 1 else luminance(picture)
    # OpenCV weighs the channels of 16 bit by whole numbers.
    tolerance = 0 if channels == 1 else 2 if kind is np.uint16 else 0.51
    assert np.abs(found.grey.astype(np.float64) - expected).max() <= tolerance


@given(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8",
            b"BM",
            b"II*\0",
            b"MM\0+",
            b"II+\0",
            b"RIFF1234WEBPVP8X",
            b"P5 2 2 99\n",
        ]
    ),
)
def test_any_bytes_are_a_picture_or_refused(data: bytes, start: bytes) -> None:
    try:
        picture = decode(start + data)
    except UnreadableImage as problem:
        assert str(problem)
    else:
        assert picture.grey.ndim == 2


@given(st.data(), st.sampled_from([".png", ".jpg", ".tif", ".bmp", ".webp", ".pgm"]))
def test_a_picture_of_which_any_bytes_are_changed_is_a_picture_or_refused(data: st.DataObject, suffix: str) -> None:
    picture = np.arange(30 * 20, dtype=np.uint8).reshape(30, 20)
    whole = bytearray(bytes(cv2.imencode(suffix, picture)[1]))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(whole[: data.draw(st.integers(1, len(whole)))]))
    except UnreadableImage as problem:
        assert str(problem)
    else:
        assert found.grey.ndim == 2
