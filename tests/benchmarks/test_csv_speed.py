"""A full-size FER2013 csv: compiled cold parse and warm start beside the usual loop, each alone in a fresh process.

``BENCHBOX_FER2013_CSV`` names a csv to use; otherwise one of 35,887 faces is written, made of the sample's tiles.
Run with ``just bench -k csv_speed``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchbox.builtin.datasets.sample import Sample

pytestmark = pytest.mark.slow

COUNTS = {"Training": 28_709, "PublicTest": 3_589, "PrivateTest": 3_589}

PIXELS = 48 * 48
DISTINCT = 1000

_MEASURE = """
import json, os, sys, time
from pathlib import Path
import numpy as np
path = Path(sys.argv[1])
{before}
wall, processor = time.perf_counter(), time.process_time()
{timed}
wall, processor = time.perf_counter() - wall, time.process_time() - processor
peak = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) * 1024
print(json.dumps([wall, processor, peak, {result}]))
"""
_READ = """
total = 0
with path.open('rb') as file:
    while block := file.read(1 << 22):
        total += len(block)
"""
_LOOP = """
frame = pandas.read_csv(path)
pixels = np.array([[int(one) for one in text.split()] for text in frame['pixels']], dtype=np.uint8)
"""
_LOOP_TOTAL = "int(pixels[frame['Usage'] == 'Training'].sum(dtype=np.int64))"
_IMPORT = """
from benchbox.builtin.datasets.fer2013 import Fer2013
def total(images):
    blocks = np.array_split(np.arange(len(images)), 64)
    return int(sum(np.rint(images.stack(block) * 255).sum(dtype=np.float64) for block in blocks))
"""
# Two rows parsed before bring the machine code from numba's cache into the process.
_READY = (
    _IMPORT
    + """
small = Path(os.environ["BENCHBOX_CACHE_DIR"]) / "small.csv"
small.parent.mkdir(parents=True, exist_ok=True)
with path.open('rb') as file:
    small.write_bytes(b"".join(file.readline() for _ in range(3)))
Fer2013().load(small, split='Training')
"""
)
_ONE_CORE = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
_LOAD = "images = Fer2013().load(path, split='Training')"
WAYS = {
    "read the file": ("", _READ, "total"),
    "pandas, split and int": ("import pandas", _LOOP, _LOOP_TOTAL),
    "cold": (_READY, _LOAD, "total(images)"),
    "cold, one core": (_ONE_CORE + _READY, _LOAD, "total(images)"),
    "cold, with numba's import": (_IMPORT, _LOAD, "total(images)"),
    "warm": (_IMPORT, _LOAD, "total(images)"),
}


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("BENCHBOX_FER2013_CSV")
    if given:
        return Path(given)
    sample = Sample().load(None)
    tiles = np.rint(sample.stack(np.arange(len(sample))) * 255).astype(np.int64)
    path = tmp_path_factory.mktemp("full") / "fer2013.csv"
    generator = np.random.default_rng(0)
    with path.open("w", newline="\n") as file:
        file.write("emotion,pixels,Usage\n")
        images = [
            np.clip(tiles[index % len(tiles)] + generator.integers(-8, 9, (48, 48)), 0, 255)
            for index in range(DISTINCT)
        ]
        pixels = [" ".join(map(str, image.ravel().tolist())) for image in images]
        for usage, count in COUNTS.items():
            file.writelines(f"{index % 7},{pixels[index % DISTINCT]},{usage}\n" for index in range(count))
    return path


def measure(way: str, csv: Path, cache: Path) -> tuple[float, float, int, int]:
    """Wall seconds, processor seconds, peak resident bytes, and a sum over the pixels."""
    before, timed, result = WAYS[way]
    program = _MEASURE.format(before=before, timed=timed, result=result)
    done = subprocess.run(
        [sys.executable, "-c", program, str(csv)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "BENCHBOX_CACHE_DIR": str(cache)},
    )
    wall, processor, peak, value = json.loads(done.stdout)
    return wall, processor, peak, value


@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory from /proc")
def test_csv_speed(csv: Path, tmp_path: Path, measured: bool, capsys: pytest.CaptureFixture[str]) -> None:
    measure("cold", csv, tmp_path / "warm")  # compiles the kernel where nothing has yet, and fills a cache
    found = {}
    for way in WAYS:
        repeats = 5 if measured and not way.startswith("pandas") else 1
        caches = [tmp_path / ("warm" if way == "warm" else f"{way} {repeat}") for repeat in range(repeats)]
        found[way] = min(measure(way, csv, cache) for cache in caches)
    size, loop = csv.stat().st_size, found["pandas, split and int"]
    with csv.open("rb") as file:
        pixel_bytes = PIXELS * (sum(1 for _ in file) - 1)
    with capsys.disabled():
        print(
            f"\n{csv.name}, {size / 1e6:.0f} MB, {pixel_bytes / 1e6:.0f} MB of pixels; "
            f"best of {5 if measured else 1}, the loop once"
        )
        for way, (wall, processor, peak, _) in found.items():
            print(
                f"{way:>26}: {wall:8.3f} s wall, {processor:8.3f} s processor, peak {peak / 1e6:6.0f} MB, "
                f"{loop[0] / wall:6.0f} times the loop's speed"
            )
    assert found["cold"][3] == found["warm"][3] == loop[3]
    assert found["cold"][2] <= size + 2 * pixel_bytes
