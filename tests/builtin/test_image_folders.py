"""Folders of pictures: what is dangerous, unusual or not supported in them, and what is kept of them."""

from __future__ import annotations

import os
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
from made_pictures import cut, load, luminance, one, save
from numpy.typing import NDArray

from benchbox import BenchboxError
from benchbox.builtin.datasets import image_files, images
from benchbox.builtin.datasets.headers import read_header
from benchbox.builtin.datasets.images import ImageFolder
from benchbox.builtin.datasets.opening import read_head
from benchbox.builtin.datasets.sample import Sample

pytestmark = pytest.mark.usefixtures("image_cache")


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
        # OpenCV decodes these, but into other pixels than they store.
        (
            r"TIFF of 16 bits with channels apart \(planar\)",
            np.stack([grey.astype(np.uint16)] * 3),
            {"photometric": "rgb", "planarconfig": "separate"},
        ),
        (
            "grey TIFF of 16 bits with transparency",
            np.dstack([grey.astype(np.uint16)] * 2),
            {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]},
        ),
        ("TIFF of 16 bits in which 0 is white", grey.astype(np.uint16), {"photometric": "miniswhite"}),
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
def test_a_damaged_note_of_the_first_pass_is_ignored(root: Path, image_cache: Path, content: bytes) -> None:
    save(root / "a.png", np.zeros((5, 6), np.uint8))
    first = load(root)
    (note,) = image_cache.iterdir()
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


def test_pictures_of_the_size_of_faces_are_pointed_out(root: Path, photograph: NDArray[np.uint8]) -> None:
    for name in ("a.png", "FER2013Train/b.png"):
        save(root / name, photograph[:48, :48])
    (note,) = [note for note in load(root).notes if "FER2013" in note]
    assert "may have seen them" in note
    save(root / "c.png", photograph[:48, :47])
    assert not [note for note in load(root).notes if "FER2013" in note]
