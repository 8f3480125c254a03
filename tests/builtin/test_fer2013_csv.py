"""The csv of FER2013: each split, each mistake; a plain parser beside the compiled one."""

from __future__ import annotations

import gzip
import os
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_faces import USAGES, Faces, edited, load, pixels, reference, refused, row, value, write
from numpy.typing import NDArray

from benchbox import BenchboxError, ImageSet
from benchbox.builtin.datasets import csv_reader as csv_file
from benchbox.builtin.datasets.csv_reader import CsvReader
from benchbox.builtin.datasets.faces import BOTH_TESTS, EMOTIONS, SPLITS
from benchbox.builtin.datasets.fer2013 import Fer2013

pytestmark = pytest.mark.usefixtures("cache")


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
    assert load(csv).split == "PrivateTest"
    assert load(csv).notes == ()


def test_the_default_is_the_first_split_that_is_there(csv: Path) -> None:
    lines = csv.read_text().splitlines()

    def only(*usages: str) -> ImageSet:
        part = csv.with_name(f"{len(usages)}.csv")
        part.write_text("\n".join([lines[0], *[line for line in lines if line.endswith(usages)], ""]))
        return load(part)

    both = only("Training", "PublicTest")
    assert (both.split, len(both)) == ("PublicTest", 4)
    assert both.notes == (
        "the data have no PrivateTest: PublicTest is scored, on which the networks' weights were chosen",
    )
    alone = only("Training")
    assert (alone.split, len(alone)) == ("Training", 5)
    assert alone.notes == ("the data have no test split, so the Training faces are scored",)


def test_pixels_are_255ths_in_float32(csv: Path, tiles: Faces) -> None:
    stack = load(csv, "PublicTest").stack(np.array([2, 0], dtype=np.intp))
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
    np.testing.assert_array_equal(pixels(load(path, "PublicTest")), tiles[[0, 2]])
    assert load(path, BOTH_TESTS).ids == ("PublicTest/00000", "PublicTest/00001", "PrivateTest/00000")


def test_rows_across_blocks(csv: Path, tiles: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in (9_500, 10_007, 16_384, 30_001):
        monkeypatch.setattr(csv_file, "_BLOCK_BYTES", block)
        parsed = np.concatenate([rows.pixels.copy() for rows in CsvReader(csv).rows()])
        np.testing.assert_array_equal(parsed.reshape(-1, 48, 48), tiles)


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
    error = refused(edited(csv, 13, lambda text: text.replace("PrivateTest", "Exam")))
    assert re.search(r"line 13, column \d+ \(Usage\): unknown Usage 'Exam'", error.message)
    assert "PublicTest" in error.hint


@pytest.mark.parametrize("emotion", ["-1", "", "33", "happy"])
def test_an_unknown_emotion(csv: Path, emotion: str) -> None:
    error = refused(edited(csv, 2, lambda text: emotion + text[1:]))
    assert f"line 2, column 1 (emotion): emotion '{emotion}' is not a number from 0 to 9" in error.message
    assert all(word in error.hint for word in EMOTIONS)


@pytest.mark.parametrize("columns", [["emotion", "Usage"], ["a", "b", "c"], ["emotion\tpixels"]])
def test_missing_columns(tmp_path: Path, tiles: Faces, columns: list[str]) -> None:
    path = write(tmp_path / "fer2013.csv", [row(tiles[0])], ",".join(columns))
    error = refused(path)
    assert "line 1, column 1: there is no column pixels" in error.message
    assert ("not by tabs" if "\t" in columns[0] else "emotion, pixels and Usage") in error.hint


def test_headers_that_are_nearly_right(tmp_path: Path, tiles: Faces) -> None:
    assert "carriage returns" in refused(write(tmp_path / "b.csv", [row(tiles[0])], end="\r")).message
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
        ('"{emotion}"x,{pixels},{usage}', "'x' instead of a comma"),
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
    assert "truncated in the middle of a row" in error.message
    assert "copy the file again" in error.hint


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
        (gzip.compress(csv.read_bytes())[:-40], "archive is damaged"),
        (b"PK\x03\x04\0\0", "archive is damaged"),
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
    assert "longer than 4 MiB" in error.message
    assert peak < 100 << 20


def test_a_split_that_is_not_there(tmp_path: Path, tiles: Faces) -> None:
    path = write(tmp_path / "fer2013.csv", [row(tiles[0], 0, "Training")])
    error = refused(path, "PublicTest")
    assert "no faces in split PublicTest" in error.message
    assert "Training (1 faces)" in error.hint
    with pytest.raises(BenchboxError, match="no split 'Publictest'") as caught:
        load(path, "Publictest")
    assert "did you mean 'PublicTest'" in caught.value.hint


def test_skip_bad_goes_on_and_counts(csv: Path, tiles: Faces) -> None:
    edited(csv, 8, lambda text: value(text, "256", 3))
    edited(csv, 10, lambda text: text[:500] + "\n")
    with pytest.raises(BenchboxError):
        load(csv)
    images = load(csv, "PublicTest", skip_bad=True)
    np.testing.assert_array_equal(pixels(images), tiles[[5, 7]])
    assert any("damaged: 2 faces skipped" in note and "line 8" in note for note in images.notes)
    with pytest.raises(BenchboxError):
        load(csv)
    assert load(csv, "PublicTest", skip_bad=True).notes == images.notes
    assert load(csv, "Training", skip_bad=True).fingerprint == load(csv, "Training", skip_bad=True).fingerprint
    csv.write_text("emotion,pixels,Usage\n1,2,Training\n1,3,Training\n")
    with pytest.raises(BenchboxError, match="all 2 rows"):
        load(csv, skip_bad=True)


# --- a plain parser beside the compiled one


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


@settings(suppress_health_check=list(HealthCheck))
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
    assert [(*SPLITS, "Test")[code] for code in np.concatenate([block[2] for block in blocks])] == list(usages)


def parsed(path: Path, pixels: bytes) -> NDArray[np.uint8] | None:
    """The one row with these pixels; None where it is refused."""
    path.write_bytes(b"pixels,emotion,Usage\n" + pixels + b",0,Training\n")
    try:
        return np.concatenate([rows.pixels.copy() for rows in CsvReader(path).rows()])
    except BenchboxError:
        return None


@pytest.mark.slow
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
