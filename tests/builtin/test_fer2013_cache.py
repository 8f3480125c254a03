"""FER2013 from its cache: parsed once, damaged caches, two processes, memory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_faces import Faces, edited, forbidden, load, pixels, refused, row, value, write

from benchbox import BenchboxError, ImageSet
from benchbox.builtin.datasets.csv_reader import CsvReader

pytestmark = pytest.mark.usefixtures("cache")


def warm(path: Path, monkeypatch: pytest.MonkeyPatch, split: str = "") -> ImageSet:
    """Load where parsing is forbidden."""
    with monkeypatch.context() as patch:
        patch.setattr(CsvReader, "rows", forbidden)
        return load(path, split)


def test_a_second_load_parses_nothing(csv: Path, tiles: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(csv)
    again = warm(csv, monkeypatch)
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(pixels(again), tiles[9:12])


def test_a_copy_is_known_by_its_content(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(csv)
    copy = csv.with_name("copy.csv")
    copy.write_bytes(csv.read_bytes())
    assert warm(copy, monkeypatch).fingerprint == first.fingerprint


def test_a_change_is_noticed_even_with_the_old_size_and_time(csv: Path) -> None:
    first = load(csv, "PublicTest")
    status = csv.stat()
    old = csv.read_text().splitlines()[6].split(",")[1].split()[1200]
    new = str(int(old) // 10) + str((int(old) + 1) % 10) if int(old) > 9 else str((int(old) + 1) % 10)
    assert len(new) == len(old)
    edited(csv, 7, lambda text: value(text, new, 1200))
    os.utime(csv, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert csv.stat().st_size == status.st_size
    second = load(csv, "PublicTest")
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
    np.testing.assert_array_equal(pixels(again), tiles[9:12])
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
    assert len(load(csv)) == 3


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


@pytest.mark.slow
@pytest.mark.process
def test_two_processes_may_start_at_once(tmp_path: Path, tiles: Faces, cache: Path) -> None:
    rows = [row(image) for image in tiles] * 100
    path = write(tmp_path / "large.csv", rows)
    processes = [start(path) for _ in range(3)]
    lines = [finish(process)[0] for process in processes]
    assert len(set(lines)) == 1
    assert lines[0].split()[1] == str(int(tiles.sum(dtype=np.int64)) * 100)
    assert not list(cache.glob("writing-*"))
    assert len(list(cache.iterdir())) == 4


@pytest.mark.slow
@pytest.mark.process
def test_a_warm_start_imports_nothing_heavy(csv: Path) -> None:
    first = finish(start(csv))
    assert "numba" in first[1].split()
    again = finish(start(csv))
    assert again == [first[0], ""]


# --- the folder edition


def test_a_file_that_grows_while_it_is_read(csv: Path) -> None:
    reader = CsvReader(csv)
    rows = reader.rows()
    next(rows)
    with csv.open("ab") as file:
        file.write(b"0,1")
    with pytest.raises(BenchboxError, match=r"changed while it was read|truncated"):
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
