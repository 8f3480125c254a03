"""Reads the challenge's csv in blocks, parses them on threads, and gives the rows in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError
from benchbox.api.threads import threads
from benchbox.builtin.datasets.csv_header import read_header
from benchbox.builtin.datasets.faces import PIXELS, SPLITS, Rows
from benchbox.builtin.datasets.sniff import AGAIN

_BLOCK_BYTES = 4 << 20
_SHORTEST_ROW = 2 * PIXELS
_MOST_THREADS = 4  # reading, hashing and writing on the caller's thread keep up with no more
_LINE_FEED = b"\n"


class _Block:
    """Buffers for one block of text and its rows; used again and again."""

    def __init__(self, lookahead: int) -> None:
        capacity = (_BLOCK_BYTES + 1) // _SHORTEST_ROW + 2
        self.text = np.zeros(_BLOCK_BYTES + 1 + lookahead, dtype=np.uint8)
        self.pixels = np.empty((capacity, PIXELS), dtype=np.uint8)
        self.emotion = np.empty(capacity, dtype=np.uint8)
        self.usage = np.empty(capacity, dtype=np.uint8)
        self.report = np.zeros(6, dtype=np.int64)
        self.stop = 0  # where its complete lines end
        self.rest = b""  # what follows them; belongs to the next block
        self.last = False  # whether the file ends here
        self.open = False  # whether the file ends without a line feed

    def fill(self, file: Any, rest: bytes, hasher: Any) -> None:
        """Read on, after the bytes that the block before left over."""
        view = self.text.data
        view[: len(rest)] = rest
        filled = len(rest)
        got = -1
        while got and filled < _BLOCK_BYTES:
            got = file.readinto(view[filled:_BLOCK_BYTES])
            hasher.update(view[filled : filled + got])
            filled += got
        self.last = not got
        self.stop = _last_line_feed(self.text, filled) + 1
        self.open = self.last and self.stop < filled
        if self.open:
            self.text[filled] = ord(_LINE_FEED)
            self.stop = filled + 1
        self.rest = self.text[self.stop : filled].tobytes()


@dataclass
class CsvReader:
    """One pass over a csv.

    Attributes
    ----------
    path : Path
    skip_bad : bool
        Leave out rows that cannot be read instead of refusing the file.
    skipped : dict of str to str
        What was left out ('line 7') and why; complete after the pass.
    digest : str
        xxh3-128 of the file's bytes; complete after the pass.
    """

    path: Path
    skip_bad: bool = False
    skipped: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    _line: int = field(default=2, init=False)
    _columns: tuple[str, ...] = field(default=(), init=False)

    def rows(self) -> Iterator[Rows]:
        """Parse the file.

        Yields
        ------
        Rows
            Valid only until the next one is asked for, for the buffers are used again.

        Raises
        ------
        BenchboxError
            A row is damaged (and `skip_bad` is False), or nothing is left; names file, line and column.
        """
        import xxhash

        from benchbox.builtin.datasets.csv_kernel import LOOKAHEAD

        header = read_header(self.path)
        self._columns = header.names
        self._line = 2
        hasher = xxhash.xxh3_128()
        workers = min(threads(), _MOST_THREADS)
        free = deque(_Block(LOOKAHEAD) for _ in range(workers + 1))
        waiting: deque[tuple[_Block, Future[int]]] = deque()
        found = 0
        with self.path.open("rb") as file, ThreadPoolExecutor(workers) as pool:
            before = os.fstat(file.fileno())
            hasher.update(file.read(header.length))
            rest, ended = b"", False
            while waiting or not ended:
                while free and not ended:
                    block = free.popleft()
                    block.fill(file, rest, hasher)
                    # A line that fills a whole block is no row; what comes after it is not looked at.
                    rest, ended = block.rest, block.last or not block.stop
                    waiting.append((block, pool.submit(self._parse, block, 0)))
                block, parsed = waiting.popleft()
                for rows in self._checked(block, parsed.result()):
                    found += len(rows.pixels)
                    yield rows
                free.append(block)
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise BenchboxError(f"{self.path} changed while it was read", hint="wait until it is complete; run again")
        if not found:
            what = f"none of {len(self.skipped)} rows can be read" if self.skipped else "a header without rows"
            raise BenchboxError(f"{self.path}, line 2, column 1: {what}", hint=AGAIN)
        self.digest = hasher.hexdigest()

    def _parse(self, block: _Block, start: int) -> int:
        """Parse from byte `start` of a block up to its end or the first bad row; give the number of rows."""
        from benchbox.builtin.datasets import csv_kernel as kernel

        kinds = {"emotion": kernel.EMOTION, "pixels": kernel.PIXEL, "usage": kernel.USAGE}
        columns = np.array([kinds.get(name.lower(), kernel.IGNORED) for name in self._columns], dtype=np.int64)
        text, stop = block.text[start:], block.stop - start
        rows = (block.pixels, block.emotion, block.usage)
        return int(kernel.parse_rows(text, stop, columns, *_split_names(), *rows, block.report))

    def _checked(self, block: _Block, count: int) -> Iterator[Rows]:
        """Give the parsed rows of a block, and refuse or leave out bad ones."""
        from benchbox.builtin.datasets import csv_kernel as kernel
        from benchbox.builtin.datasets.csv_refusal import refusal

        start = 0
        while True:
            if count:
                yield Rows(block.pixels[:count], block.emotion[:count], block.usage[:count])
            self._line += int(block.report[5])
            if block.report[0] == kernel.OK:
                break
            start += int(block.report[4])
            row = _line_at(block.text, start)
            after = start + len(row) + 1
            error = refusal(
                self.path, self._columns, block.report, row, self._line, last=block.open and after == block.stop
            )
            if not self.skip_bad:
                raise error
            self.skipped[f"line {self._line}"] = error.message
            self._line += 1
            start = after
            count = self._parse(block, start)
        if not block.stop and not block.last:
            raise BenchboxError(
                f"{self.path}, line {self._line}, column {_BLOCK_BYTES}: a line of more than {_BLOCK_BYTES >> 20} MiB, "
                "so no row of FER2013",
                hint="a row ends with a line feed; " + AGAIN,
            )


def _split_names() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    names = np.zeros((len(SPLITS), max(map(len, SPLITS))), dtype=np.uint8)
    for row, name in enumerate(SPLITS):
        names[row, : len(name)] = np.frombuffer(name.encode(), dtype=np.uint8)
    return names, np.array([len(name) for name in SPLITS], dtype=np.int64)


def _line_at(text: NDArray[np.uint8], start: int) -> bytes:
    """The line that begins at `start`, without its line feed; there is one."""
    length = 1 << 14
    while _LINE_FEED not in (piece := text[start : start + length].tobytes()):
        length *= 2
    return piece.partition(_LINE_FEED)[0]


def _last_line_feed(buffer: NDArray[np.uint8], filled: int) -> int:
    """Position of the last line feed; -1 where there is none."""
    stop = filled
    while stop > 0:
        start = max(0, stop - (1 << 16))
        found = buffer[start:stop].tobytes().rfind(b"\n")
        if found >= 0:
            return start + found
        stop = start
    return -1
