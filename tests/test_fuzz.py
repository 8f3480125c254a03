"""Mutated csv files and run folders: each is read as it was, or refused by name; no crash, no hang, no wrong number.

``BENCHBOX_FUZZ_S`` gives the seconds for each (8 by default), ``BENCHBOX_FUZZ_SEED`` where to begin.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_faces import reference
from rich.console import Console

from benchbox import BenchboxError
from benchbox.builtin.datasets.csv_reader import CsvReader
from benchbox.builtin.datasets.faces import OTHER_EMOTION, SPLITS
from benchbox.builtin.datasets.sample import Sample
from benchbox.engine.merge import merge_runs
from benchbox.engine.plan import make_shards
from benchbox.notebook import run
from benchbox.report import FORMATS, render
from benchbox.report.build import build_leaderboard
from benchbox.report.compare import compare_runs
from benchbox.report.html.page import write_html
from benchbox.report.terminal import TerminalLeaderboard
from benchbox.store import RunStore, set_aside_foreign_files

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("BENCHBOX_FUZZ_S", "8"))
SEED = int(os.environ.get("BENCHBOX_FUZZ_SEED", "0"))
HANGS_S = 30
WORDS = [
    b"",
    b",",
    b'"',
    b"\n",
    b"\r\n",
    b" ",
    b"0",
    b"255",
    b"256",
    b"-1",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"{",
    b"[",
]
WORDS += [b"}", b"null", b"NaN", b"1e999", b"true", b'""', b"../", b"PAR1", b"99999999999999999999"]


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Change, insert, repeat, swap or cut some bytes."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        at, other = (draw.randrange(len(data) + 1) for _ in range(2))
        match draw.randrange(7):
            case 0 if at < len(data):
                data[at] = draw.randrange(256)
            case 1 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 2:
                data[at:at] = draw.choice(WORDS)
            case 3:
                data[at : at + draw.choice((1, 2, 8, 64))] = draw.choice(WORDS)
            case 4:
                data[at:at] = data[other : other + draw.choice((1, 16, 300))]
            case 5 if draw.randrange(4) == 0:
                del data[at:]
            case 6:
                del data[at : at + draw.choice((1, 2, 16))]
    return bytes(data)


VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**70,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../x",
    "median",
    [],
    {},
    [1],
    {"a": 1},
]


def mutate_json(content: bytes, draw: random.Random) -> bytes:
    """Put another value into some places of a JSON object, or take one out."""
    whole = json.loads(content)
    for _ in range(draw.choice((1, 1, 2))):
        here: Any = whole
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            if not keys:
                break
            key = draw.choice(keys)
            if isinstance(here[key], (dict, list)) and here[key] and draw.randrange(6):
                here = here[key]
                continue
            if draw.randrange(4) == 0:
                del here[key]
            else:
                here[key] = draw.choice(VALUES)
            break
    return json.dumps(whole).encode()


def mutate_table(content: bytes, draw: random.Random) -> bytes:
    """A sound Parquet file whose table is another one."""
    table = pq.ParquetFile(pa.BufferReader(content)).read()
    place = draw.randrange(table.num_columns)
    name = table.column_names[place]
    match draw.randrange(6):
        case 0:
            table = table.drop_columns([name])
        case 1:
            table = table.set_column(place, name, pa.array(["x"] * table.num_rows))
        case 2:
            table = table.set_column(place, name, pa.nulls(table.num_rows, table.column(place).type))
        case 3:
            table = table.slice(draw.randrange(table.num_rows + 1))
        case 4:
            table = pa.concat_tables([table, table])
        case 5:
            numbers = pa.array([draw.choice((-1, 0, 10**9, 3))] * table.num_rows, pa.int32())
            table = table.set_column(place, name, numbers)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    result: bytes = sink.getvalue().to_pybytes()
    return result


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Not more than 2 GiB beyond what is taken already, and `HANGS_S` for each case."""

    def hangs(number: int, frame: object) -> None:
        raise AssertionError(f"no answer in {HANGS_S} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (2 << 30), hard))
    before = signal.signal(signal.SIGALRM, hangs)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def fuzz(case: Callable[[random.Random], object], keep: Callable[[], str]) -> None:
    """Run cases until the time is up; the seed of one that fails, and what it was about, stand in the failure."""
    end = time.monotonic() + SECONDS
    done = 0
    with bounded():
        while time.monotonic() < end:
            signal.alarm(HANGS_S)
            try:
                case(random.Random(SEED + done))
            except Exception as error:
                raise AssertionError(f"BENCHBOX_FUZZ_SEED={SEED + done}: {keep()}") from error
            done += 1
    print(f"{done} cases")
    assert done > 10


def test_mutated_csv_files(tmp_path: Path) -> None:
    images = Sample().load(None)
    faces = np.rint(images.stack(np.arange(3)) * 255).astype(np.uint8)
    rows = [f"{index},{' '.join(map(str, face.ravel()))},{SPLITS[index]}" for index, face in enumerate(faces)]
    whole = "\n".join(["emotion,pixels,Usage", *rows, ""]).encode()
    head = whole.index(b"\n") + 1
    path = tmp_path / "fer2013.csv"

    def case(draw: random.Random) -> None:
        # The header stays: the plain parser knows none but this.
        text = whole[:head] + mutate(whole[head:], draw)
        path.write_bytes(text)
        try:
            blocks = [(one.pixels.copy(), one.emotion.copy(), one.usage.copy()) for one in CsvReader(path).rows()]
        except BenchboxError as error:
            assert reference(text) is None, f"refused: {error.message}"
            assert str(path) in error.message
            return
        expected = reference(text)
        assert expected is not None, "taken, but the plain parser refuses it"
        found = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        np.testing.assert_array_equal(found[0], np.array([one[2] for one in expected]))
        assert found[1].tolist() == [one[0] for one in expected]
        assert [(*SPLITS, "Test")[code] for code in found[2]] == [one[1] for one in expected]

    fuzz(case, lambda: str(path))


def test_mutated_headers(tmp_path: Path) -> None:
    """The first 200 bytes of anything: some words, or a refusal that names the file."""
    face = " ".join(["7"] * 2304)
    whole = f"emotion,pixels,Usage\n3,{face},Training\n".encode()
    path = tmp_path / "fer2013.csv"

    def case(draw: random.Random) -> None:
        path.write_bytes(mutate(whole[:60], draw) + whole[60:])
        try:
            for rows in CsvReader(path).rows():
                assert rows.pixels.shape == (len(rows.emotion), 2304)
                assert rows.emotion.max() <= OTHER_EMOTION
        except BenchboxError as error:
            assert str(path) in error.message
            assert error.hint

    fuzz(case, lambda: str(path))


def test_mutated_run_folders(tmp_path: Path) -> None:
    folder = run(["identity", "median"], results=tmp_path, limit=6, jobs=2).store.folder
    store = RunStore.open(folder)
    whole = {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    names = sorted(name for name in whole if name.suffix in (".json", ".parquet"))
    scores = {cell.key: store.scores(cell.key) for cell in store.record.cells}
    copy = tmp_path / "mutated" / folder.name
    chosen = names[0]

    def case(draw: random.Random) -> None:
        nonlocal chosen
        shutil.rmtree(copy.parent, ignore_errors=True)
        for name, content in whole.items():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(content)
        chosen = draw.choice(names)
        structure = draw.randrange(2) == 0
        if structure:
            change = mutate_json if chosen.suffix == ".json" else mutate_table
            (copy / chosen).write_bytes(change(whole[chosen], draw))
        else:
            (copy / chosen).write_bytes(mutate(whole[chosen], draw))
        with contextlib.suppress(BenchboxError):
            read = RunStore.open(copy)
            for cell in read.record.cells:
                for column, values in read.scores(cell.key).items():
                    if cell.key in scores and not structure:
                        np.testing.assert_array_equal(values, scores[cell.key][column])
        use = draw.choice((_show, _compare, _merge, _html, _set_aside))
        with contextlib.suppress(BenchboxError):
            use(RunStore.open(copy), store)

    fuzz(case, lambda: str(copy / chosen))


def _show(read: RunStore, store: RunStore) -> None:
    board = build_leaderboard(read)
    Console(file=io.StringIO(), width=100).print(TerminalLeaderboard(board), crop=False)
    for form in FORMATS:
        render(board, form)


def _compare(read: RunStore, store: RunStore) -> None:
    compare_runs(store, read)


def _merge(read: RunStore, store: RunStore) -> None:
    merge_runs([read, store], read.folder.parent, "merge")


def _html(read: RunStore, store: RunStore) -> None:
    write_html(read, build_leaderboard(read))


def _set_aside(read: RunStore, store: RunStore) -> None:
    shapes = np.column_stack([store.images()[name] for name in ("height", "width")]).astype(np.int64)
    shards = make_shards(shapes, store.record.protocol.repeats)
    set_aside_foreign_files(read, {(one.start, one.stop): (one.indices, one.repeat) for one in shards})
    _show(read, store)
