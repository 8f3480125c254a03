"""FER2013 from real files: each edition, each mistake, damaged caches; a plain parser beside the compiled one."""

from __future__ import annotations

import errno
import gzip
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchbox import BenchboxError, ImageSet
from benchbox.builtin.datasets import csv_file
from benchbox.builtin.datasets.choose import choose, open_images
from benchbox.builtin.datasets.csv_file import CsvReader
from benchbox.builtin.datasets.faces import BOTH_TESTS, EMOTIONS, SPLITS
from benchbox.builtin.datasets.fer2013 import Fer2013
from benchbox.builtin.datasets.images import ImageFolder
from benchbox.builtin.datasets.sample import Sample

Faces = NDArray[np.uint8]
USAGES = ("Training",) * 5 + ("PublicTest",) * 4 + ("PrivateTest",) * 3


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(folder))
    return folder / "fer2013"


@pytest.fixture(scope="session")
def tiles() -> Faces:
    """Twelve different tiles of real photographs, uint8, shape (12, 48, 48)."""
    images = Sample().load(None)
    stack = images.stack(np.linspace(0, len(images) - 1, 12).astype(np.intp))
    return np.rint(stack * 255).astype(np.uint8)


def row(image: Faces, emotion: int = 3, usage: str = "PublicTest") -> str:
    return f"{emotion},{' '.join(map(str, image.ravel().tolist()))},{usage}"


def write(path: Path, rows: Sequence[str], header: str = "emotion,pixels,Usage", end: str = "\n") -> Path:
    path.write_bytes("".join(line + end for line in (header, *rows)).encode())
    return path


@pytest.fixture
def csv(tmp_path: Path, tiles: Faces) -> Path:
    rows = [row(image, index % 7, usage) for index, (image, usage) in enumerate(zip(tiles, USAGES, strict=True))]
    return write(tmp_path / "fer2013.csv", rows)


def load(path: Path, split: str = "", *, skip_bad: bool = False) -> ImageSet:
    return Fer2013().load(path, split=split, skip_bad=skip_bad)


def pixels(images: ImageSet) -> Faces:
    return np.rint(images.stack(np.arange(len(images))) * 255).astype(np.uint8)


def refused(path: Path, split: str = "") -> BenchboxError:
    with pytest.raises(BenchboxError) as caught:
        load(path, split)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value


def test_each_split_of_the_csv(csv: Path, tiles: Faces) -> None:
    start = 0
    for split, count in (("Training", 5), ("PublicTest", 4), ("PrivateTest", 3)):
        images = load(csv, split)
        assert images.split == split
        assert images.ids == tuple(f"{split}/{index:05d}" for index in range(count))
        assert images.shapes.tolist() == [[48, 48]] * count
        np.testing.assert_array_equal(pixels(images), tiles[start : start + count])
        assert images.labels["emotion"].tolist() == [index % 7 for index in range(start, start + count)]
        start += count
    both = load(csv, BOTH_TESTS)
    assert both.ids == load(csv, "PublicTest").ids + load(csv, "PrivateTest").ids
    assert load(csv).split == "PublicTest"


def test_pixels_are_255ths_in_float32(csv: Path, tiles: Faces) -> None:
    stack = load(csv).stack(np.array([2, 0], dtype=np.intp))
    assert stack.dtype == np.float32
    assert stack.flags.c_contiguous
    np.testing.assert_array_equal(stack, tiles[[7, 5]].astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("emotion,pixels,Usage", "{emotion},{pixels},{usage}"),
        ("emotion, Usage, pixels", "{emotion},{usage},{pixels}"),
        ("emotion, Usage, pixels", "{emotion}, {usage}, {pixels} "),
        ("Usage,pixels,emotion", "{usage},{pixels},{emotion}"),
        ("pixels,Usage,emotion", '"{pixels}",{usage},{emotion}'),
        ('"emotion","pixels","Usage"', '"{emotion}","{pixels}","{usage}"'),
        ("\ufeffemotion,pixels,Usage", "{emotion},{pixels},{usage}"),
        ("id,emotion,pixels,Usage,comment", '7,{emotion},{pixels},{usage},"a, ""b"""'),
        ("Emotion,Pixels,usage", "{emotion},{pixels},{usage}"),
    ],
)
def test_editions_of_the_csv_hold_the_same_faces(
    tmp_path: Path, csv: Path, tiles: Faces, header: str, line: str, end: str
) -> None:
    rows = [
        line.format(emotion=index % 7, pixels=" ".join(map(str, image.ravel().tolist())), usage=usage)
        for index, (image, usage) in enumerate(zip(tiles, USAGES, strict=True))
    ]
    other = write(tmp_path / "other.csv", rows, header, end)
    for split in SPLITS:
        here, there = load(other, split), load(csv, split)
        np.testing.assert_array_equal(pixels(here), pixels(there))
        assert here.ids == there.ids
        assert here.fingerprint == there.fingerprint
        np.testing.assert_array_equal(here.labels["emotion"], there.labels["emotion"])


def test_splits_may_be_mixed_and_the_last_line_open(tmp_path: Path, tiles: Faces) -> None:
    usages = ["PublicTest", "Training", "PublicTest", "PrivateTest"]
    rows = [row(image, 0, usage) for image, usage in zip(tiles, usages, strict=False)]
    path = tmp_path / "mixed.csv"
    path.write_bytes(("emotion,pixels,Usage\n\n" + "\n \n".join(rows)).encode())
    np.testing.assert_array_equal(pixels(load(path)), tiles[[0, 2]])
    assert load(path, BOTH_TESTS).ids == ("PublicTest/00000", "PublicTest/00001", "PrivateTest/00000")


def test_rows_across_blocks(csv: Path, tiles: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in (9_500, 10_007, 16_384, 30_001):
        monkeypatch.setattr(csv_file, "_BLOCK_BYTES", block)
        parsed = np.concatenate([rows.pixels.copy() for rows in CsvReader(csv).rows()])
        np.testing.assert_array_equal(parsed.reshape(-1, 48, 48), tiles)


def edited(csv: Path, line: int, change: Callable[[str], str]) -> Path:
    lines = csv.read_text().splitlines(keepends=True)
    lines[line - 1] = change(lines[line - 1])
    csv.write_bytes("".join(lines).encode())
    return csv


def value(text: str, replacement: str, position: int) -> str:
    """Replace one pixel of a row."""
    emotion, values, usage = text.split(",")
    words = values.split()
    words[position] = replacement
    return f"{emotion},{' '.join(words)},{usage}"


@pytest.mark.parametrize("bad", ["256", "-1", "x", "1.5", "1e2", "99999999999999999999999", "0x10", "12\u00a0"])
@pytest.mark.parametrize("position", [0, 1000, 2303])
def test_a_value_that_is_no_grey_level(csv: Path, bad: str, position: int) -> None:
    before = csv.read_text().splitlines()[6]
    column = len(value(before, "@", position).partition("@")[0]) + 1
    error = refused(edited(csv, 7, lambda text: value(text, bad, position)))
    assert f"line 7, column {column} (pixels): pixel {position + 1} is '{bad[:3].strip()}" in error.message
    assert "0 to 255" in error.message


@pytest.mark.parametrize("count", [2303, 2305, 0, 1, 2400])
def test_a_wrong_number_of_pixels(csv: Path, count: int) -> None:
    def change(text: str) -> str:
        emotion, values, usage = text.split(",")
        return f"{emotion},{' '.join((values.split() * 2)[:count])},{usage}"

    error = refused(edited(csv, 4, change))
    assert re.search(rf"line 4, column \d+ \(pixels\): {count} pixels, but a face has 2304", error.message)


def test_an_unknown_usage(csv: Path) -> None:
    error = refused(edited(csv, 13, lambda text: text.replace("PrivateTest", "Test")))
    assert re.search(r"line 13, column \d+ \(Usage\): unknown Usage 'Test'", error.message)
    assert "PublicTest" in error.hint


@pytest.mark.parametrize("emotion", ["7", "-1", "", "33", "happy"])
def test_an_unknown_emotion(csv: Path, emotion: str) -> None:
    error = refused(edited(csv, 2, lambda text: emotion + text[1:]))
    assert f"line 2, column 1 (emotion): emotion '{emotion}' is none of 0 to 6" in error.message
    assert all(word in error.hint for word in EMOTIONS)


@pytest.mark.parametrize("columns", [["emotion", "pixels"], ["emotion", "Usage"], ["pixels"], ["a", "b", "c"]])
def test_missing_columns(tmp_path: Path, tiles: Faces, columns: list[str]) -> None:
    path = write(tmp_path / "fer2013.csv", [row(tiles[0])], ",".join(columns))
    error = refused(path)
    assert "line 1, column 1: column" in error.message
    for name in {"emotion", "pixels", "Usage"} - set(columns):
        assert name in error.message


def test_headers_that_are_nearly_right(tmp_path: Path, tiles: Faces) -> None:
    assert "semicolons" in refused(write(tmp_path / "a.csv", [row(tiles[0])], "emotion;pixels;Usage")).hint
    assert "carriage returns" in refused(write(tmp_path / "b.csv", [row(tiles[0])], end="\r")).hint
    assert "twice" in refused(write(tmp_path / "c.csv", [], "emotion,pixels,Usage,pixels")).message
    assert "without rows" in refused(write(tmp_path / "d.csv", [])).message
    (tmp_path / "e.csv").write_text("emotion,pixels,Usage")
    assert "without rows" in refused(tmp_path / "e.csv").message


def test_rows_of_another_width(csv: Path) -> None:
    assert "more than 3 columns" in refused(edited(csv, 3, lambda text: text.rstrip() + ",1\n")).message
    error = refused(edited(csv, 3, lambda text: text.rpartition(",")[0].rpartition(",")[0] + "\n"))
    assert re.search(r"line 3, column \d+ \(pixels\)|line 3, column 2 \(emotion\): 1 columns", error.message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"{emotion},{pixels},{usage}', "quote is not closed"),
        ('{emotion},"{pixels},{usage}', "quote is not closed"),
        ('"{emotion}"x,{pixels},{usage}', "'x' where a comma"),
    ],
)
def test_quotes_gone_wrong(tmp_path: Path, tiles: Faces, line: str, message: str) -> None:
    text = line.format(emotion=1, pixels=" ".join(map(str, tiles[0].ravel().tolist())), usage="Training")
    assert message in refused(write(tmp_path / "fer2013.csv", [text]), "Training").message


@pytest.mark.parametrize("kept", [2, 20, 4000, -1, -5, -12, -13])
def test_a_file_cut_off_in_the_middle_of_a_row(csv: Path, kept: int) -> None:
    data = csv.read_bytes().rstrip(b"\n")
    start = data.rindex(b"\n") + 1
    csv.write_bytes(data[: start + kept] if kept > 0 else data[:kept])
    error = refused(csv)
    assert re.search(r"line 13, column \d+", error.message)
    assert "cut off in the middle of a row" in error.message
    assert "incomplete" in error.hint


def test_an_open_last_line_that_is_wrong_is_not_called_cut_off(csv: Path) -> None:
    text = csv.read_text().rstrip("\n")
    csv.write_text(value_in_last_row(text, "256"))
    assert "'256'" in refused(csv).message
    csv.write_text(text.removesuffix("PrivateTest") + "Other")
    assert "unknown Usage 'Other'" in refused(csv).message


def value_in_last_row(text: str, replacement: str) -> str:
    head, _, last = text.rpartition("\n")
    return head + "\n" + value(last, replacement, 500)


def test_what_is_no_csv_at_all(tmp_path: Path, csv: Path) -> None:
    path = tmp_path / "bad.csv"
    for content, word in (
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"\n <!DOCTYPE html>\n<html><body>Sign in</body></html>", "HTML"),
        (b"<html>\n", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 301072766\n", "Git LFS"),
        (gzip.compress(csv.read_bytes()), "gzip"),
        (b"PK\x03\x04\0\0", "zip"),
        (csv.read_text().encode("utf-16"), "UTF-16"),
        (b"\0\0\0\0" * 100, "binary"),
    ):
        path.write_bytes(content)
        assert word in refused(path).message
    assert "no such file" in refused(tmp_path / "missing.csv").message
    assert "does not exist either" in refused(tmp_path / "nowhere" / "missing.csv").hint
    with pytest.raises(BenchboxError, match="not built in"):
        Fer2013().load(None)


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_text("emotion,pixels,Usage\n0,1")
    os.truncate(path, 1 << 30)
    tracemalloc.start()
    error = refused(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "line 2" in error.message
    assert "more than 4 MiB" in error.message
    assert peak < 100 << 20


def test_a_split_that_is_not_there(tmp_path: Path, tiles: Faces) -> None:
    path = write(tmp_path / "fer2013.csv", [row(tiles[0], 0, "Training")])
    error = refused(path)
    assert "no face of split PublicTest" in error.message
    assert "Training (1 faces)" in error.hint
    with pytest.raises(BenchboxError, match="no split 'Publictest'") as caught:
        load(path, "Publictest")
    assert "did you mean 'PublicTest'" in caught.value.hint


def test_skip_bad_goes_on_and_counts(csv: Path, tiles: Faces) -> None:
    edited(csv, 8, lambda text: value(text, "256", 3))
    edited(csv, 10, lambda text: text[:500] + "\n")
    with pytest.raises(BenchboxError):
        load(csv)
    images = load(csv, skip_bad=True)
    np.testing.assert_array_equal(pixels(images), tiles[[5, 7]])
    assert any("damaged: 2 left out" in note and "line 8" in note for note in images.notes)
    with pytest.raises(BenchboxError):
        load(csv)
    assert load(csv, skip_bad=True).notes == images.notes
    assert load(csv, "Training", skip_bad=True).fingerprint == load(csv, "Training", skip_bad=True).fingerprint
    csv.write_text("emotion,pixels,Usage\n1,2,Training\n1,3,Training\n")
    with pytest.raises(BenchboxError, match="none of 2 rows"):
        load(csv, skip_bad=True)


# --- a plain parser beside the compiled one

_BLANK = r"[ \t]*+"
_CONTENT = {
    "pixels": r"([0-9]+(?:[ \t]+[0-9]+)*)",
    "emotion": "([0-6])",
    "usage": "(Training|PublicTest|PrivateTest)",
}


def reference(text: bytes) -> list[tuple[int, str, list[int]]] | None:
    """Parse a csv slowly: one regular expression a row. None where it is refused."""
    header, _, body = text.decode("latin-1").partition("\n")
    names = [name.strip().lower() for name in header.split(",")]
    fields = []
    for name in names:
        if name in _CONTENT:
            content = _CONTENT[name].replace("(", f"(?P<{name}>", 1)
            twin = _CONTENT[name].replace("(", f"(?P<{name}_quoted>", 1)
            fields.append(rf'{_BLANK}(?:{content}|"{_BLANK}{twin}[ \t]*"){_BLANK}')
        else:
            fields.append(rf'{_BLANK}(?:"(?:[^"]|"")*+"{_BLANK}|(?!")[^,]*)')
    pattern = re.compile(",".join(fields))
    found = []
    lines = body.split("\n")
    for line in lines if lines[-1] else lines[:-1]:
        line = line.removesuffix("\r")
        if not line.strip(" \t"):
            continue
        match = pattern.fullmatch(line)
        if match is None:
            return None
        picked = {name: match[name] or match[f"{name}_quoted"] for name in _CONTENT}
        values = [int(word) for word in picked["pixels"].split()]
        if len(values) != 2304 or max(values) > 255:
            return None
        found.append((int(picked["emotion"]), picked["usage"], values))
    return found or None


@st.composite
def csv_texts(draw: st.DrawFn) -> bytes:
    """Csv files that are right in many ways, and wrong in some."""
    columns = draw(
        st.permutations(["emotion", "pixels", "Usage", *draw(st.sampled_from([[], ["id"], ["id", "note"]]))])
    )
    end = draw(st.sampled_from(["\n", "\r\n"]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    blanks = st.sampled_from(["", "", "", " ", "\t", "  "])
    lines = [",".join(draw(st.sampled_from(["", " "])) + name for name in columns)]
    for _ in range(draw(st.integers(1, 4))):
        count = draw(st.sampled_from([2304] * 12 + [2303, 2305]))
        high = draw(st.sampled_from([256] * 8 + [10, 100, 257]))
        parts = {
            "pixels": draw(st.sampled_from([" ", " ", "  ", "\t"])).join(
                map(str, generator.integers(0, high, count).tolist())
            ),
            "emotion": str(draw(st.integers(0, 6))),
            "Usage": draw(st.sampled_from(SPLITS)),
            "id": draw(st.text("a1 \"'.", max_size=4)),
            "note": draw(st.sampled_from(["", '"a,b"', '"a""b"', "plain", '"open'])),
        }
        cells = []
        for name in columns:
            cell = draw(blanks) + parts[name] + draw(blanks)
            if name in ("pixels", "emotion", "Usage") and draw(st.integers(0, 3)) == 0:
                cell = draw(blanks) + f'"{cell}"' + draw(blanks)
            cells.append(cell)
        lines.append(",".join(cells))
        if draw(st.integers(0, 5)) == 0:
            lines.append(draw(blanks))
    text = end.join(lines) + draw(st.sampled_from([end, ""]))
    head = len(lines[0]) + len(end)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        # Near a row's ends as often as in the middle of its pixels.
        edges = [index for index, letter in enumerate(text) if letter in ',"\r\n' and index >= head]
        near = draw(st.booleans()) and bool(edges)
        at = draw(st.sampled_from(edges)) + draw(st.integers(-2, 2)) if near else draw(st.integers(head, len(text)))
        at = min(max(at, head), len(text))
        removed = draw(st.integers(0, 2))
        text = (
            text[:at]
            + draw(st.sampled_from(["", *'0123456789 ,"x-\r\n\t.\0\xe9', "\n\n", "25"]))
            + text[at + removed :]
        )
    return text.encode("latin-1")


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(csv_texts())
def test_the_compiled_parser_agrees_with_a_plain_one(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.mktemp("generated") / "fer2013.csv"
    path.write_bytes(text)
    expected = reference(text)
    reader = CsvReader(path)
    try:
        blocks = [(rows.pixels.copy(), rows.emotion.copy(), rows.usage.copy()) for rows in reader.rows()]
    except BenchboxError as error:
        assert expected is None, error.message
        return
    assert expected is not None
    emotions, usages, values = zip(*expected, strict=True)
    np.testing.assert_array_equal(np.concatenate([block[0] for block in blocks]), np.array(values))
    assert np.concatenate([block[1] for block in blocks]).tolist() == list(emotions)
    assert [SPLITS[code] for code in np.concatenate([block[2] for block in blocks])] == list(usages)


def parsed(path: Path, pixels: bytes) -> NDArray[np.uint8] | None:
    """The one row with these pixels; None where it is refused."""
    path.write_bytes(b"pixels,emotion,Usage\n" + pixels + b",0,Training\n")
    try:
        return np.concatenate([rows.pixels.copy() for rows in CsvReader(path).rows()])
    except BenchboxError:
        return None


@pytest.mark.parametrize("before", [b"7", b"42", b"199"])
@pytest.mark.parametrize("odd", [0, 1])
def test_every_byte_in_place_of_a_blank_or_a_digit(
    tmp_path: Path, before: bytes, odd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_file, "_BLOCK_BYTES", 1 << 15)  # smaller buffers, for there are thousands of files
    words = [b"0", b"31", b"255", b"8"] * 576
    words[600 + odd] = before
    for byte in range(256):
        letter = bytes([byte])
        blank = b" ".join(words[: 601 + odd]) + letter + b" ".join(words[601 + odd :])
        assert (parsed(tmp_path / "a.csv", blank) is not None) == (letter in b" \t")
        changed = [*words]
        for place in range(len(before)):
            changed[600 + odd] = before[:place] + letter + before[place + 1 :]
            text = b" ".join(changed)
            allowed = letter.isdigit() and int(changed[600 + odd]) < 256
            if letter in b" \t":
                # A blank at a number's edge shortens it; in its middle it makes two.
                allowed = len(before) > 1 and place in (0, len(before) - 1)
            assert (parsed(tmp_path / "a.csv", text) is not None) == allowed, (byte, place)


def test_every_value_beside_every_length(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for zeros in (0, 1, 2, 3):
        for _ in range(40):
            values = generator.integers(0, 256, 2304) // 10 ** generator.integers(0, 3, 2304)
            widths = generator.integers(0, zeros + 2, 2304)
            padded = [f"{value:0{width}d}" for value, width in zip(values, widths, strict=True)]
            found = parsed(tmp_path / "a.csv", " ".join(padded).encode())
            assert found is not None
            np.testing.assert_array_equal(found[0], values)


# --- the cache


def warm(path: Path, monkeypatch: pytest.MonkeyPatch, split: str = "") -> ImageSet:
    """Load where parsing is forbidden."""
    with monkeypatch.context() as patch:
        patch.setattr(CsvReader, "rows", _forbidden)
        return load(path, split)


def _forbidden(self: object) -> Iterator[None]:
    raise AssertionError("parsed again")


def test_a_second_load_parses_nothing(csv: Path, tiles: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(csv)
    again = warm(csv, monkeypatch)
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(pixels(again), tiles[5:9])


def test_a_copy_is_known_by_its_content(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(csv)
    copy = csv.with_name("copy.csv")
    copy.write_bytes(csv.read_bytes())
    assert warm(copy, monkeypatch).fingerprint == first.fingerprint


def test_a_change_is_noticed_even_with_the_old_size_and_time(csv: Path) -> None:
    first = load(csv)
    status = csv.stat()
    old = csv.read_text().splitlines()[6].split(",")[1].split()[1200]
    new = str(int(old) // 10) + str((int(old) + 1) % 10) if int(old) > 9 else str((int(old) + 1) % 10)
    assert len(new) == len(old)
    edited(csv, 7, lambda text: value(text, new, 1200))
    os.utime(csv, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert csv.stat().st_size == status.st_size
    second = load(csv)
    assert second.fingerprint != first.fingerprint
    assert pixels(second)[0].ravel()[1200] == int(new)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 6 // 10] ^= 0x10
    path.write_bytes(data)


def extend(path: Path) -> None:
    path.write_bytes(b"\0" * 64 + path.read_bytes())


def remove(path: Path) -> None:
    path.unlink()


def fill(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


@pytest.mark.parametrize("damage", [cut, empty, flip, extend, remove, fill])
@pytest.mark.parametrize("kind", ["v2-*.pixels.npy", "v2-*.labels.npy", "v2-*.json", "seen-*.json"])
def test_a_damaged_cache_is_rebuilt(
    csv: Path, cache: Path, tiles: Faces, kind: str, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(csv)
    (victim,) = cache.glob(kind)
    damage(victim)
    again = load(csv)
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(pixels(again), tiles[5:9])
    assert warm(csv, monkeypatch).fingerprint == first.fingerprint


def test_nothing_is_left_behind_when_parsing_stops(csv: Path, cache: Path) -> None:
    edited(csv, 12, lambda text: value(text, "x", 0))
    refused(csv)
    assert list(cache.iterdir()) == []


def test_a_full_disk_is_said(csv: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BenchboxError, match="No space left") as caught:
            load(csv)
    assert "BENCHBOX_CACHE_DIR" in caught.value.hint
    assert list(cache.iterdir()) == []
    assert len(load(csv)) == 4


def test_a_cache_folder_that_cannot_be_made(csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(csv))
    with pytest.raises(BenchboxError, match="cache folder") as caught:
        load(csv)
    assert "BENCHBOX_CACHE_DIR" in caught.value.hint


def test_abandoned_files_are_swept(csv: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    old, new = cache / "writing-old", cache / "writing-new"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    load(csv)
    assert not old.exists()
    assert new.exists()


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from benchbox.builtin.datasets.fer2013 import Fer2013
images = Fer2013().load(Path(sys.argv[1]), split=sys.argv[2])
print(images.fingerprint, int(np.rint(images.stack(np.arange(len(images))) * 255).sum(dtype=np.float64)))
print(*sorted({"numba", "pandas", "cv2", "skimage", "scipy", "tensorflow"} & set(sys.modules)))
"""


def start(path: Path, split: str = "PublicTest") -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(path), split], stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> list[str]:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output.split("\n")[:2]


def test_two_processes_may_start_at_once(tmp_path: Path, tiles: Faces, cache: Path) -> None:
    rows = [row(image) for image in tiles] * 100
    path = write(tmp_path / "large.csv", rows)
    processes = [start(path) for _ in range(3)]
    lines = [finish(process)[0] for process in processes]
    assert len(set(lines)) == 1
    assert lines[0].split()[1] == str(int(tiles.sum(dtype=np.int64)) * 100)
    assert not list(cache.glob("writing-*"))
    assert len(list(cache.iterdir())) == 4


def test_a_warm_start_imports_nothing_heavy(csv: Path) -> None:
    first = finish(start(csv))
    assert "numba" in first[1].split()
    again = finish(start(csv))
    assert again == [first[0], ""]


# --- the folder edition


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
    assert load(root).split == "PublicTest"


def test_a_test_folder_that_does_not_tell_its_halves(tmp_path: Path, tiles: Faces) -> None:
    root = folder(tmp_path / "faces", tiles, unnamed)
    images = load(root)
    assert images.split == BOTH_TESTS
    assert len(images) == 7
    assert load(root, images.split).fingerprint == images.fingerprint
    assert len(load(root, "Training")) == 5
    error = refused(root, "PublicTest")
    assert "do not tell PublicTest apart" in error.message
    assert BOTH_TESTS in error.hint


def test_one_split_folder_alone(tmp_path: Path, tiles: Faces) -> None:
    root = folder(tmp_path / "faces", tiles, unnamed)
    assert Fer2013().recognises(root / "test")
    assert load(root / "test").split == BOTH_TESTS
    assert len(load(root / "train", "Training")) == 5


def test_a_damaged_picture_of_the_folder(tmp_path: Path, tiles: Faces) -> None:
    root = folder(tmp_path / "faces", tiles, named)
    bad = root / named(6, "PublicTest")
    bad.write_bytes(bad.read_bytes()[:300])
    with pytest.raises(BenchboxError, match=re.escape(str(bad))) as caught:
        load(root)
    assert "--skip-bad" in caught.value.hint
    images = load(root, skip_bad=True)
    assert len(images) == 3
    assert any("damaged: 1 left out" in note and bad.name in note for note in images.notes)
    bad.write_bytes(picture(np.zeros((47, 48), np.uint8)))
    with pytest.raises(BenchboxError, match="48 x 47 pixels"):
        load(root)
    bad.write_bytes(picture(tiles[6]))
    assert len(load(root)) == 4


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
        patch.setattr("benchbox.builtin.datasets.face_folder.decode_files", _forbidden)
        assert load(root).fingerprint == first.fingerprint


def test_faces_of_another_size_are_plain_images(tmp_path: Path, tiles: Faces) -> None:
    root = folder(tmp_path / "faces", np.repeat(tiles, 2, axis=2), named)
    assert not Fer2013().recognises(root)
    assert choose(root, None, known()).name == "images"


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
        assert choose(path, None, known()).name == name
    assert choose(faces, "images", known()).name == "images"


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
            choose(tmp_path / name, None, known())
        assert caught.value.hint
    with pytest.raises(BenchboxError, match="unknown data set 'fer2012'") as caught:
        choose(None, "fer2012", known())
    assert "fer2013" in caught.value.hint


def test_two_data_sets_that_both_recognise(csv: Path) -> None:
    class Other(Fer2013):
        name = "other"

    with pytest.raises(BenchboxError, match="may be fer2013 or other") as caught:
        choose(csv, None, {**known(), "other": Other()})
    assert "--dataset" in caught.value.hint


def drawn(csv: Path, limit: int | None, seed: int = 0) -> ImageSet:
    return open_images(csv, dataset=None, split="Training", limit=limit, seed=seed, skip_bad=False, datasets=known())


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
    assert "6 images asked for, all 5 used" in many.notes
    for limit in (0, -3):
        with pytest.raises(BenchboxError, match="at least one image"):
            drawn(csv, limit)


def test_a_limited_set_reads_the_images_it_names(csv: Path, tiles: Faces) -> None:
    some = drawn(csv, 3)
    order = [int(one[-5:]) for one in some.ids]
    np.testing.assert_array_equal(pixels(some), tiles[order])
    assert some.labels["emotion"].tolist() == order


def test_a_file_that_grows_while_it_is_read(csv: Path) -> None:
    reader = CsvReader(csv)
    rows = reader.rows()
    next(rows)
    with csv.open("ab") as file:
        file.write(b"0,1")
    with pytest.raises(BenchboxError, match=r"changed while it was read|cut off"):
        list(rows)


def test_reading_pixels_takes_no_more_than_is_asked_for(tmp_path: Path, tiles: Faces) -> None:
    path = write(tmp_path / "fer2013.csv", [row(image) for image in tiles] * 200)
    load(path)
    tracemalloc.start()
    images = load(path)
    for first in range(0, len(images), 50):
        images.stack(np.arange(first, first + 50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(images) == 2400
    assert peak < 4 << 20  # 50 faces are 0.46 MB of float32; all pixels as bytes would be 5.5 MB
