"""Folders of pictures: every format and depth, luminance, mixed sizes, and what is damaged or dangerous."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchbox import BenchboxError, ImageSet
from benchbox.builtin.datasets import image_files, images
from benchbox.builtin.datasets.headers import UnreadableImage, read_head, read_header
from benchbox.builtin.datasets.image_files import decode
from benchbox.builtin.datasets.images import ImageFolder
from benchbox.builtin.datasets.sample import Sample

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def photograph() -> NDArray[np.uint8]:
    """A colour photograph, red, green, blue, uint8, shape (60, 83, 3)."""
    import skimage.data

    return np.ascontiguousarray(skimage.data.astronaut()[20:80, 180:263])


def save(path: Path, pixels: Pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = pixels[..., ::-1] if pixels.ndim == 3 and pixels.shape[2] == 3 else pixels
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(colour))
    assert done
    path.write_bytes(bytes(data))
    return path


def load(path: Path, *, skip_bad: bool = False) -> ImageSet:
    return ImageFolder().load(path, skip_bad=skip_bad)


def one(found: ImageSet, index: int = 0) -> NDArray[np.float32]:
    image: NDArray[np.float32] = found.stack(np.array([index], dtype=np.intp))[0]
    return image


def luminance(pixels: Pixels) -> NDArray[np.float64]:
    red, green, blue = (pixels[..., channel].astype(np.float64) for channel in range(3))
    return 0.299 * red + 0.587 * green + 0.114 * blue


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".bmp"])
def test_grey_of_8_bit_is_exact(root: Path, photograph: NDArray[np.uint8], suffix: str) -> None:
    grey = photograph[..., 1]
    save(root / f"a{suffix}", grey)
    found = load(root)
    assert found.ids == (f"a{suffix}",)
    assert found.shapes.tolist() == [[60, 83]]
    assert found.notes == ()
    np.testing.assert_array_equal(one(found), grey.astype(np.float32) / np.float32(255))


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


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


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
    assert found.colour == (channels == 3)
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


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def bmp_that_claims(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, -height, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff_that_claims(width: int, height: int) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1)]
    return (
        b"II*\0\x08\0\0\0" + struct.pack("<H", 4) + b"".join(struct.pack("<HHII", *one) for one in entries) + bytes(4)
    )


def jpeg_that_claims(width: int, height: int) -> bytes:
    grey = bytes(cv2.imencode(".jpg", np.zeros((16, 16), np.uint8))[1])
    place = grey.index(b"\xff\xc0")
    return grey[: place + 5] + struct.pack(">HH", height, width) + grey[place + 9 :]


@pytest.mark.parametrize(
    ("suffix", "make"),
    [(".png", png_that_claims), (".bmp", bmp_that_claims), (".tif", tiff_that_claims), (".jpg", jpeg_that_claims)],
)
def test_a_picture_that_claims_to_be_huge(root: Path, suffix: str, make: Callable[[int, int], bytes]) -> None:
    path = root / f"bomb{suffix}"
    path.write_bytes(make(60_000, 50_000))
    header = read_header(path.read_bytes())
    assert (header.width, header.height) == (60_000, 50_000)
    with pytest.raises(BenchboxError, match="60000 x 50000 pixels"):
        load(root)


def test_a_picture_of_no_pixels(root: Path) -> None:
    (root / "a.png").write_bytes(png_that_claims(0, 10))
    with pytest.raises(BenchboxError, match="0 x 10 pixels"):
        load(root)


def test_a_file_that_is_too_large_is_not_read(root: Path) -> None:
    with (root / "a.png").open("wb") as file:
        file.truncate(900_000_000)
    with pytest.raises(BenchboxError, match="900,000,000 bytes"):
        load(root)


def test_a_pipe_or_a_device_is_no_picture(root: Path, photograph: NDArray[np.uint8]) -> None:
    """Neither is waited for, nor read without end."""
    save(root / "a.png", photograph)
    os.mkfifo(root / "b.png")
    (root / "c.png").symlink_to("/dev/zero")
    with pytest.raises(BenchboxError, match="not a regular file"):
        load(root)
    assert load(root, skip_bad=True).ids == ("a.png",)
    with pytest.raises(BenchboxError, match="not a regular file"):
        read_head(root / "c.png")


def test_names_that_are_no_utf8(root: Path, photograph: NDArray[np.uint8]) -> None:
    for name in (b"\xff\xfe.png", b"\\xff\\xfe.png", b"a.png"):
        save(root / "t.png", photograph).rename(root / os.fsdecode(name))
    (root / os.fsdecode(b"z\xff.png")).write_bytes(b"damaged")
    for _ in range(2):
        found = load(root, skip_bad=True)
        assert sorted(found.ids) == ["\\xff\\xfe.png", "\\xff\\xfe.png#2", "a.png"]
        assert "z\\xff.png" in " ".join(found.notes)
        np.testing.assert_array_equal(one(found, 0), one(found, 2))


def test_floating_point_pictures_are_refused(root: Path) -> None:
    tifffile.imwrite(root / "a.tif", np.zeros((4, 4), np.float32))
    with pytest.raises(BenchboxError, match="8-bit and 16-bit"):
        load(root)


def test_another_format_under_a_known_name(root: Path) -> None:
    (root / "a.png").write_bytes(b"\0\0\0\x1cftypheic" + bytes(100))
    with pytest.raises(BenchboxError, match="its content is HEIC, not PNG, JPEG, TIFF") as caught:
        load(root)
    assert caught.value.hint.startswith("convert it to PNG")
    (root / "a.png").write_bytes(b"GIF89a" + bytes(100))
    with pytest.raises(BenchboxError, match="its content is not PNG, JPEG, TIFF, BMP, WebP"):
        load(root)


def test_a_jpeg_under_the_name_of_a_png_is_taken(root: Path, photograph: NDArray[np.uint8]) -> None:
    save(root / "a.jpg", photograph).rename(root / "a.png")
    assert len(load(root)) == 1


def test_folders_without_images_and_wrong_requests(root: Path, tmp_path: Path) -> None:
    (root / "notes.txt").write_text("no picture")
    assert not ImageFolder().recognises(root)
    with pytest.raises(BenchboxError, match="no image") as caught:
        load(root)
    assert "PNG, JPEG, TIFF" in caught.value.hint
    with pytest.raises(BenchboxError, match="no such file"):
        load(tmp_path / "gone")
    with pytest.raises(BenchboxError, match="no split 'test'"):
        ImageFolder().load(root, split="test")
    with pytest.raises(BenchboxError, match="needs a folder"):
        ImageFolder().load(None)


# --- formats that are not read, and files that are sound after all


@pytest.mark.parametrize("name", ["a.webp", "a.ppm", "a.pnm"])
def test_more_formats(root: Path, photograph: NDArray[np.uint8], name: str) -> None:
    if name == "a.webp":
        data = cv2.imencode(".webp", photograph[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])[1]  # 101: without loss
        (root / name).write_bytes(bytes(data))
    else:
        save(root / name, photograph)
    found = load(root)
    assert found.shapes.tolist() == [[60, 83]]
    assert np.abs(one(found) * 255 - luminance(photograph)).max() <= 0.51
    assert "colour: 1 of 1 images" in found.notes[0]
    (root / name).unlink()
    save(root / name.replace("ppm", "pgm"), photograph[..., 0])
    assert not load(root).notes  # WebP stores grey as three equal channels, which is no colour


def test_headers_of_webp(photograph: NDArray[np.uint8]) -> None:
    lossy = bytes(cv2.imencode(".webp", photograph, [cv2.IMWRITE_WEBP_QUALITY, 80])[1])
    lossless = bytes(cv2.imencode(".webp", photograph, [cv2.IMWRITE_WEBP_QUALITY, 101])[1])
    extended = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + bytes([82, 0, 0, 59, 0, 0])
    for data, paged in ((lossy, False), (lossless, False), (extended, True)):
        header = read_header(data)
        assert (header.width, header.height, header.paged) == (83, 60, paged)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P5\n# made by hand\n3 2\n4095\n" + np.array([0, 1, 2, 3, 2048, 4095], ">u2").tobytes(), 4095),
        (b"P5 3 2 100\n" + bytes([0, 1, 2, 3, 50, 100]), 100),
        (b"P2\n3 2\n1000\n0 1 2 3 500 1000\n", 1000),
    ],
)
def test_the_grey_level_of_white_in_a_header(root: Path, data: bytes, expected: int) -> None:
    (root / "a.pgm").write_bytes(data)
    found = load(root)
    levels = np.array([[0, 1, 2], [3, (expected + 1) // 2, expected]])
    np.testing.assert_allclose(one(found), levels / expected, rtol=1e-6)
    if data.startswith(b"P2"):
        return  # OpenCV clips these itself
    (root / "a.pgm").write_bytes(data.replace(str(expected).encode(), str(expected - 1).encode(), 1))
    with pytest.raises(BenchboxError, match=f"grey level {expected}, above the {expected - 1}"):
        load(root)


def test_bits_of_a_pbm(root: Path) -> None:
    (root / "a.pbm").write_bytes(b"P4\n8 2\n\xaa\x55")
    np.testing.assert_array_equal(one(load(root)), [[0, 1] * 4, [1, 0] * 4])


def test_formats_that_are_not_read_are_counted(root: Path, photograph: NDArray[np.uint8]) -> None:
    save(root / "a.png", photograph)
    for name in ("1.HEIC", "2.heic", "deep/3.heic", "4.cr2", ".5.cr2"):
        (root / "deep").mkdir(exist_ok=True)
        (root / name).write_bytes(b"what only a camera knows")
    note = "left out: 4 files (3 .heic, 1 .cr2) in formats that are not read; to include them, convert them to PNG"
    found = load(root)
    assert found.ids == ("a.png",)
    assert note in found.notes
    (root / "a.png").unlink()
    for path in (root, root / "4.cr2"):
        assert ImageFolder().recognises(path)
        with pytest.raises(BenchboxError, match=r"\.cr2\) in formats that are not read, and no other image") as caught:
            load(path)
        assert caught.value.hint == ("convert them to PNG; benchbox reads PNG, JPEG, TIFF, BMP, WebP, PGM, PPM or PBM")


def test_bytes_after_the_end_of_a_jpeg(root: Path, photograph: NDArray[np.uint8]) -> None:
    """As in a motion photo, which has a video behind it."""
    path = save(root / "a.jpg", photograph)
    whole = path.read_bytes()
    expected = one(load(root))
    for more in (bytes(6000), b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40, whole):
        path.write_bytes(whole + more)
        np.testing.assert_array_equal(one(load(root)), expected)
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(whole) + 2) + whole  # has an end of its own
    path.write_bytes(whole[:2] + thumbnail + whole[2:])
    np.testing.assert_array_equal(one(load(root)), expected)
    for end in (len(whole) - 2, len(whole) // 2):
        path.write_bytes(whole[:2] + thumbnail + whole[2:end])
        with pytest.raises(BenchboxError, match="no end-of-image marker"):
            load(root)


def test_what_is_sound_but_not_supported(root: Path, photograph: NDArray[np.uint8]) -> None:
    grey = np.ascontiguousarray(photograph[..., 0])
    cases: list[tuple[str, NDArray[Any], dict[str, Any]]] = [
        ("TIFF with tiles of 16 x 16 pixels", grey, {"tile": (16, 16)}),
        ("TIFF with LZMA compression", grey, {"compression": "lzma"}),
        ("TIFF with 5 channels", np.dstack([grey] * 5), {"photometric": "minisblack", "planarconfig": "contig"}),
        ("TIFF whose samples are not whole numbers", grey.astype(np.float16), {}),
    ]
    for what, pixels, options in cases:
        tifffile.imwrite(root / "a.tif", pixels, **options)
        with pytest.raises(BenchboxError, match=f"{what} is not supported here; the file may be sound") as caught:
            load(root)
        assert caught.value.hint == "convert it to PNG, or skip it with --skip-bad"
    for options in ({"bigtiff": True}, {"tile": (32, 32)}, {"byteorder": ">"}):
        tifffile.imwrite(root / "a.tif", grey, **options)
        np.testing.assert_array_equal(one(load(root)) * np.float32(255), grey)


def test_pointers_of_git_lfs(root: Path, photograph: NDArray[np.uint8]) -> None:
    for name in ("a.png", "b.jpg"):
        (root / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(BenchboxError, match=r"a\.png: a Git LFS pointer, not the image \(1 more cannot") as caught:
        load(root)
    assert caught.value.hint == "run 'git lfs pull' in its repository, or skip it with --skip-bad"
    save(root / "c.png", photograph)
    assert "skipped: 2 of 3 images, first a.png: a Git LFS pointer, not the image" in load(root, skip_bad=True).notes


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read(root: Path, photograph: NDArray[np.uint8]) -> None:
    save(root / "a.png", photograph)
    save(root / "deep/b.png", photograph)
    (root / "deep").chmod(0)
    try:
        with pytest.raises(BenchboxError, match="deep: Permission denied"):
            load(root)
    finally:
        (root / "deep").chmod(0o755)


# --- data of fewer bits in 16-bit files


@pytest.mark.parametrize(("peak", "bits"), [(200, 8), (1000, 10), (4095, 12), (4096, 14), (16383, 14), (16384, 0)])
def test_data_of_fewer_bits_are_pointed_out(root: Path, peak: int, bits: int) -> None:
    picture = np.full((20, 20), peak, np.uint16)
    picture[0] = 7
    save(root / "a.png", picture)
    save(root / "b.png", picture // 2)
    save(root / "c.png", np.zeros((20, 20), np.uint8))
    notes = [note for note in load(root).notes if note.startswith("dark:")]
    if not bits:
        assert not notes
        return
    white = 2**bits - 1
    assert notes == [
        f"dark: the largest grey level of the 16-bit images is {peak:,} of 65,535; "
        f"if they hold {bits}-bit data, score them with --white {white}"
    ]
    plain, scaled = load(root), ImageFolder().scaled(white).load(root)
    assert f"white: grey level {white} of 16-bit images (--white)" in scaled.notes
    assert not [note for note in scaled.notes if note.startswith("dark:")]
    assert plain.fingerprint != scaled.fingerprint
    np.testing.assert_allclose(one(scaled), picture / white, rtol=1e-6)
    np.testing.assert_array_equal(one(scaled, 2), one(plain, 2))
    with pytest.raises(BenchboxError, match=rf"--white {peak - 1}: .*a\.png has grey level {peak}"):
        ImageFolder().scaled(peak - 1).load(root)


def test_white_needs_an_image_of_16_bits(root: Path) -> None:
    save(root / "a.png", np.zeros((20, 20), np.uint8))
    with pytest.raises(BenchboxError, match=r"--white 4095: .* has no 16-bit image"):
        ImageFolder().scaled(4095).load(root)
    with pytest.raises(BenchboxError, match="sample has a fixed grey level of white"):
        Sample().scaled(4095)


# --- cache and memory


def forbidden(*arguments: object) -> Iterator[Any]:
    raise AssertionError("decoded again")


def test_a_second_load_decodes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(root / "a.png", np.zeros((5, 6), np.uint8))
    first = load(root)
    with monkeypatch.context() as patch:
        patch.setattr(images, "decode_files", forbidden)
        assert load(root).fingerprint == first.fingerprint
    save(root / "a.png", np.ones((5, 7), np.uint8))
    assert load(root).shapes.tolist() == [[5, 7]]


@pytest.mark.parametrize("content", [b"", b"{}", b"abc\n{}"])
def test_a_damaged_note_of_the_first_pass_is_ignored(root: Path, cache: Path, content: bytes) -> None:
    save(root / "a.png", np.zeros((5, 6), np.uint8))
    first = load(root)
    (note,) = cache.iterdir()
    note.write_bytes(content)
    assert load(root).fingerprint == first.fingerprint


def test_a_picture_that_changes_during_a_run(root: Path) -> None:
    save(root / "a.png", np.zeros((5, 6), np.uint8))
    found = load(root)
    save(root / "a.png", np.zeros((5, 7), np.uint8))
    with pytest.raises(BenchboxError, match="has changed"):
        one(found)
    (root / "a.png").unlink()
    with pytest.raises(BenchboxError, match=r"a\.png"):
        one(found)


def test_memory_stays_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (500, 500)).astype(np.uint8)
    for index in range(40):
        save(root / f"{index}.png", picture)
    monkeypatch.setattr(images, "_KEPT_BYTES", 1 << 20)
    tracemalloc.start()
    found = load(root)
    for index in range(40):
        one(found, index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All decoded pictures would take 10 MB; kept are 1 MB, a picture, its file and its float32.
    assert peak < 6 << 20


def test_what_was_read_last_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(3):
        save(root / f"{index}.png", np.full((10, 10), index, np.uint8))
    found = load(root)
    monkeypatch.setattr(images, "_KEPT_BYTES", 250)
    decoded: list[str] = []
    original = image_files.decode_file

    def counted(path: Path) -> image_files.Picture:
        decoded.append(path.stem)
        return original(path)

    monkeypatch.setattr(images, "decode_file", counted)
    for index in (0, 1, 0, 2, 0, 1):
        assert one(found, index)[0, 0] * 255 == pytest.approx(index)
    assert decoded == ["0", "1", "2", "1"]


@pytest.mark.process
def test_damaged_pictures_print_nothing(root: Path, photograph: NDArray[np.uint8]) -> None:
    for suffix in (".jpg", ".bmp", ".tif"):
        bad = save(root / f"bad{suffix}", photograph)
        bad.write_bytes(cut(bad.read_bytes()))
    save(root / "good.png", photograph)
    program = (
        "import sys; from pathlib import Path; from benchbox.builtin.datasets.images import ImageFolder\n"
        "print(len(ImageFolder().load(Path(sys.argv[1]), skip_bad=True)))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(root)], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert done.stderr == ""


def test_noisy_pictures_are_not_taken_for_clean_ones(root: Path, photograph: NDArray[np.uint8]) -> None:
    for name in ("scene/Noisy/a.png", "scene/GT/a.png", "scene/other/a.png"):
        save(root / name, photograph)
    with pytest.raises(
        BenchboxError, match=r"has both noisy images \(scene/Noisy/\) and clean images \(scene/GT/\)"
    ) as caught:
        load(root)
    assert caught.value.hint.endswith(f"--data {root / 'scene' / 'GT'}")
    assert len(load(root / "scene" / "GT")) == 1
    assert len(load(root / "scene" / "Noisy")) == 1


def test_pictures_of_the_size_of_faces_are_pointed_out(root: Path, photograph: NDArray[np.uint8]) -> None:
    for name in ("a.png", "FER2013Train/b.png"):
        save(root / name, photograph[:48, :48])
    (note,) = [note for note in load(root).notes if "FER2013" in note]
    assert "may have seen them" in note
    save(root / "c.png", photograph[:48, :47])
    assert not [note for note in load(root).notes if "FER2013" in note]
