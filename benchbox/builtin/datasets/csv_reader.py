"""Reads the FER2013 csv: its header, blocks of rows on several threads, and precise errors."""

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
from benchbox.builtin.datasets.faces import EMOTIONS, PIXELS, SPLITS, Rows
from benchbox.builtin.datasets.sniff import AGAIN, printable, read_head, refuse_known_mistakes

COLUMNS = ("emotion", "pixels", "Usage")


@dataclass(frozen=True)
class Header:
    """The first line of a csv.

    Attributes
    ----------
    names : tuple of str
        Column names without blanks and quotes.
    length : int
        Bytes up to and with the line feed.
    """

    names: tuple[str, ...]
    length: int


def read_header(path: Path) -> Header:
    """Read and check the column names.

    Raises
    ------
    BenchboxError
        The file is empty, is no csv, or lacks a column.
    """
    head = read_head(path, 1 << 16)
    refuse_known_mistakes(path, head)
    line, feed, _ = head.partition(b"\n")
    if b"\0" in line:
        raise BenchboxError(
            f"{path}, line 1, column {line.index(0) + 1}: binary data, not a csv", hint="give the csv of FER2013"
        )
    text = line.decode("utf-8-sig", errors="replace").rstrip("\r")
    names = tuple(name.strip().strip('"').strip() for name in text[:4096].split(","))
    known = [name.lower() for name in names]
    missing = [name for name in COLUMNS if name.lower() not in known]
    if missing:
        found = ", ".join(names)
        hint = "the first line names the columns emotion, pixels and Usage, in any order"
        if "\r" in text:
            hint = "lines end with carriage returns only; save the file with Unix or Windows line ends"
        elif ";" in text or "\t" in text:
            hint = "separate columns by commas, not by semicolons or tabs"
        raise BenchboxError(
            f"{path}, line 1, column 1: column {' and '.join(missing)} missing; "
            f"the line reads '{printable(found[:120].encode())}{'...' if len(found) > 120 else ''}'",
            hint=hint,
        )
    twice = [name for name in COLUMNS if known.count(name.lower()) > 1]
    if twice:
        raise BenchboxError(f"{path}, line 1, column 1: column {twice[0]} stands there twice", hint="remove one")
    if not feed:
        raise BenchboxError(f"{path}, line 1, column {len(line) + 1}: a header without rows", hint=AGAIN)
    return Header(names, len(line) + 1)


def looks_like_header(head: bytes) -> bool:
    """Whether first bytes are those of a FER2013 csv."""
    line = head.partition(b"\n")[0].decode("utf-8-sig", errors="replace").lower()
    names = {name.strip().strip('"').strip() for name in line.split(",")}
    return "pixels" in names and bool(names & {"emotion", "usage"})


def refusal(
    path: Path, columns: tuple[str, ...], report: NDArray[np.int64], row: bytes, line: int, last: bool
) -> BenchboxError:
    """Word a refusal.

    Parameters
    ----------
    path : Path
    columns : tuple of str
        Names in the header.
    report : ndarray of int64, shape (6,)
        What `csv_kernel.parse_rows` reported.
    row : bytes
        The refused line, without its line feed.
    line : int
        Its number, from 1.
    last : bool
        Whether it is the last line of a file that does not end with a line feed, so that it may be cut off.

    Returns
    -------
    BenchboxError
    """
    from benchbox.builtin.datasets import csv_kernel as kernel

    reason, where, column, count, row_start = (int(value) for value in report[:5])
    offset = where - row_start
    name = columns[column] if column < len(columns) else ""
    place = f"{path}, line {line}, column {offset + 1}" + (f" ({name})" if name else "")
    rest = row[offset:].rstrip()
    token = rest.split(b",")[0].strip(b' \t"')[:40]
    if reason in (kernel.BAD_PIXEL, kernel.STRAY):
        token = token.split()[0] if token.split() else b""
    if last and len(token) == len(rest.strip(b'"')) and _may_be_cut(reason, token, count):
        so_far = f" after {count} of {PIXELS} pixels" if name.lower() == "pixels" else ""
        return BenchboxError(
            f"{place}: the file is cut off in the middle of a row{so_far}",
            hint=f"it is incomplete; {AGAIN}, or leave the row out with --skip-bad",
        )
    if reason == kernel.BAD_PIXEL:
        return BenchboxError(
            f"{place}: pixel {count + 1} is '{printable(token)}', not a whole number from 0 to 255",
            hint=f"correct that value, {AGAIN}, or leave the row out with --skip-bad",
        )
    if reason == kernel.PIXEL_COUNT:
        return BenchboxError(
            f"{place}: {count} pixels, but a face has {PIXELS} (48 x 48)",
            hint=f"correct the row, {AGAIN}, or leave the row out with --skip-bad",
        )
    if reason == kernel.BAD_EMOTION:
        names = ", ".join(f"{code} {word}" for code, word in enumerate(EMOTIONS))
        return BenchboxError(f"{place}: emotion '{printable(token)}' is none of 0 to 6", hint=f"emotions are {names}")
    if reason == kernel.BAD_USAGE:
        return BenchboxError(
            f"{place}: unknown Usage '{printable(token)}'",
            hint=f"it is one of {', '.join(SPLITS)}, spelled like this; leave the row out with --skip-bad",
        )
    if reason == kernel.FIELD_COUNT:
        fields = f"{column + 1} columns" if column < len(columns) else f"more than {column} columns"
        return BenchboxError(
            f"{place}: {fields}, but the header names {len(columns)} ({', '.join(columns)})",
            hint=f"correct the row, {AGAIN}, or leave the row out with --skip-bad",
        )
    if reason == kernel.OPEN_QUOTE:
        return BenchboxError(f"{place}: a quote is not closed on its line", hint="put both quotes into one line")
    return BenchboxError(
        f"{place}: '{printable(token)}' where a comma or the line's end should be",
        hint="columns are separated by single commas",
    )


def _may_be_cut(reason: int, token: bytes, count: int) -> bool:
    """Whether a refused row would be sound if it went on."""
    from benchbox.builtin.datasets import csv_kernel as kernel

    if reason == kernel.BAD_USAGE:
        return any(name.encode().startswith(token) for name in SPLITS)
    return not token and not (reason == kernel.PIXEL_COUNT and count > PIXELS)


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
