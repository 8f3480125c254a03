"""Reads the FER2013 csv: checks its header, parses blocks of rows on several threads, and locates every error."""

from __future__ import annotations

import functools
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
from benchbox.builtin.datasets.faces import EMOTIONS, OTHER_EMOTION, PIXELS, SPLITS, UNNAMED_TEST, Rows
from benchbox.builtin.datasets.opening import DOWNLOAD_AGAIN, open_csv, printable, refuse_known_mistakes

LOOKAHEAD = 8
"""Bytes after the text that the parser may load, but never uses."""

IGNORED, EMOTION, PIXEL, USAGE = 0, 1, 2, 3
"""Content of a column."""

OK, BAD_PIXEL, PIXEL_COUNT, BAD_EMOTION, BAD_USAGE, FIELD_COUNT, STRAY, OPEN_QUOTE = range(8)
"""Reasons to reject a row."""

USAGE_WORDS = {
    **{name: code for code, name in enumerate(SPLITS)},
    **{word: SPLITS.index("Training") for word in ("train", "Train", "training")},
    **{word: SPLITS.index("PublicTest") for word in ("val", "Val", "valid", "Valid", "validation", "Validation")},
    **dict.fromkeys(("test", "Test"), UNNAMED_TEST),
}
"""Values of the column Usage in the challenge's csv and other editions, with their codes."""
_HEAD_BYTES = 1 << 16
_COLUMNS = {"emotion": EMOTION, "pixels": PIXEL, "usage": USAGE}
_BLOCK_BYTES = 4 << 20
_SHORTEST_ROW = 2 * PIXELS
_MAX_THREADS = 4  # the caller's thread reads, hashes and writes, and cannot feed more parsers than that
_LINE_FEED = b"\n"


def refusal(
    path: Path, columns: tuple[str, ...], report: NDArray[np.int64], row: bytes, line: int, last: bool
) -> BenchboxError:
    """Error for a rejected row.

    `report` comes from `csv_kernel.parse_rows`. `row` is the line without its line feed and `line` its number, from 1.
    `last` says that the file ends here without a line feed, so the row may be truncated.
    """
    reason, where, column, count, row_start = (int(value) for value in report[:5])
    offset = where - row_start
    name = columns[column] if column < len(columns) else ""
    place = f"{path}, line {line}, column {offset + 1}" + (f" ({name})" if name else "")
    rest = row[offset:].rstrip()
    token = rest.split(b",")[0].split(b";")[0].strip(b' \t"')[:40]
    if reason in (BAD_PIXEL, STRAY):
        token = token.split()[0] if token.split() else b""
    if last and len(token) == len(rest.strip(b'"')) and _may_be_truncated(reason, token, count):
        progress = f" after {count} of {PIXELS} pixels" if name.lower() == "pixels" else ""
        return BenchboxError(
            f"{place}: the file is truncated in the middle of a row{progress}",
            hint=f"{DOWNLOAD_AGAIN}, or skip the row with --skip-bad",
        )
    if reason == BAD_PIXEL:
        return BenchboxError(
            f"{place}: pixel {count + 1} is '{printable(token)}', not an integer from 0 to 255",
            hint=f"correct the value, {DOWNLOAD_AGAIN}, or skip the row with --skip-bad",
        )
    if reason == PIXEL_COUNT:
        return BenchboxError(
            f"{place}: {count} pixels, but a face has {PIXELS} (48 x 48)",
            hint=f"correct the row, {DOWNLOAD_AGAIN}, or skip it with --skip-bad",
        )
    if reason == BAD_EMOTION:
        names = ", ".join(f"{code} {word}" for code, word in enumerate(EMOTIONS))
        return BenchboxError(
            f"{place}: emotion '{printable(token)}' is not a number from 0 to 9",
            hint=f"correct the row ({names}), or skip it with --skip-bad",
        )
    if reason == BAD_USAGE:
        return BenchboxError(
            f"{place}: unknown Usage '{printable(token)}'",
            hint=f"use {', '.join(SPLITS)}, train, val or test, or skip the row with --skip-bad",
        )
    if reason == FIELD_COUNT:
        fields = f"{column + 1} columns" if column < len(columns) else f"more than {column} columns"
        return BenchboxError(
            f"{place}: {fields}, but the header names {len(columns)} ({', '.join(columns)})",
            hint=f"correct the row, {DOWNLOAD_AGAIN}, or skip it with --skip-bad",
        )
    if reason == OPEN_QUOTE:
        return BenchboxError(f"{place}: a quote is not closed on its line", hint="put both quotes on one line")
    return BenchboxError(
        f"{place}: '{printable(token)}' instead of a comma or the end of the line",
        hint="separate columns by single commas",
    )


def _may_be_truncated(reason: int, token: bytes, count: int) -> bool:
    """Whether a rejected row could become valid if it continued."""
    if reason == BAD_USAGE:
        return any(word.encode().startswith(token) for word in USAGE_WORDS)
    return not token and not (reason == PIXEL_COUNT and count > PIXELS)


@dataclass(frozen=True)
class Header:
    """The first line of a csv."""

    names: tuple[str, ...]
    """Column names without spaces and quotes."""
    length: int
    """Bytes up to and including the line feed."""
    separator: str
    """Comma or semicolon."""

    @property
    def usage(self) -> int:
        """Code of the split of all rows if there is no column Usage.

        The challenge published its training faces with emotions and its test faces without.
        """
        return SPLITS.index("Training") if self.has("emotion") else UNNAMED_TEST

    def has(self, column: str) -> bool:
        """Whether there is a column of this name, in any case."""
        return column in map(str.lower, self.names)


def read_header(path: Path) -> Header:
    """Read and check the column names; raises `BenchboxError` if the file is empty, not a csv or has no pixels."""
    with open_csv(path) as file:
        head = file.read(_HEAD_BYTES)
    refuse_known_mistakes(path, head)
    line, feed, _ = head.partition(b"\n")
    if b"\0" in line:
        raise BenchboxError(
            f"{path}, line 1, column {line.index(0) + 1}: binary data, not a csv", hint="give the csv of FER2013"
        )
    names, separator = _names(line)
    header = Header(names, len(line) + 1, separator)
    if b"\r" in line.rstrip(b"\r"):
        raise BenchboxError(
            f"{path}, line 1, column {line.index(13) + 1}: lines end with carriage returns only",
            hint="save the file with Unix or Windows line ends",
        )
    if not header.has("pixels"):
        columns = ", ".join(header.names)
        hint = "name the columns emotion, pixels and Usage in the first line, in any order"
        if b"\t" in line:
            hint = "separate columns by commas or semicolons, not by tabs"
        raise BenchboxError(
            f"{path}, line 1, column 1: there is no column pixels; "
            f"the line is '{printable(columns[:120].encode())}{'...' if len(columns) > 120 else ''}'",
            hint=hint,
        )
    known = [name.lower() for name in header.names]
    for name in ("emotion", "pixels", "Usage"):
        if known.count(name.lower()) > 1:
            raise BenchboxError(f"{path}, line 1, column 1: column {name} appears twice", hint="remove one of them")
    if not feed:
        raise BenchboxError(f"{path}, line 1, column {len(line) + 1}: a header without rows", hint=DOWNLOAD_AGAIN)
    return header


def looks_like_header(head: bytes) -> bool:
    """Whether these first bytes are those of a FER2013 csv."""
    names = {name.lower() for name in _names(head.partition(b"\n")[0])[0]}
    return "pixels" in names and bool(names & {"emotion", "usage"})


def _names(line: bytes) -> tuple[tuple[str, ...], str]:
    """Column names of a header, and their separator."""
    text = line.decode("utf-8-sig", errors="replace").rstrip("\r")[:4096]
    separator = ";" if ";" in text and "," not in text else ","
    return tuple(name.strip().strip('"').strip() for name in text.split(separator)), separator


class _Block:
    """Reusable buffers for one block of text and its rows."""

    def __init__(self) -> None:
        capacity = (_BLOCK_BYTES + 1) // _SHORTEST_ROW + 2
        self.text = np.zeros(_BLOCK_BYTES + 1 + LOOKAHEAD, dtype=np.uint8)
        self.pixels = np.empty((capacity, PIXELS), dtype=np.uint8)
        self.emotion = np.empty(capacity, dtype=np.uint8)
        self.usage = np.empty(capacity, dtype=np.uint8)
        self.report = np.zeros(6, dtype=np.int64)
        self.stop = 0  # end of the complete lines
        self.rest = b""  # the incomplete line after them, which belongs to the next block
        self.last = False  # whether the file ends in this block
        self.open = False  # whether the file ends without a line feed

    def fill(self, file: Any, rest: bytes, hasher: Any) -> None:
        """Read the next block, which starts with `rest` of the previous one."""
        view = self.text.data
        view[: len(rest)] = rest
        filled = len(rest)
        count = -1
        # A read may return fewer bytes than were asked for; none means that the file has ended.
        while count and filled < _BLOCK_BYTES:
            count = file.readinto(view[filled:_BLOCK_BYTES])
            hasher.update(view[filled : filled + count])
            filled += count
        self.last = not count
        self.stop = _last_line_feed(self.text, filled) + 1
        self.open = self.last and self.stop < filled
        if self.open:
            # The parser looks for a line feed instead of checking for the end of the text.
            self.text[filled] = ord(_LINE_FEED)
            self.stop = filled + 1
        self.rest = self.text[self.stop : filled].tobytes()


@dataclass
class CsvReader:
    """One pass over a csv.

    With `skip_bad`, damaged rows are skipped instead of raising an error. After the pass, `skipped` maps each of them
    ('line 7') to the reason, and `digest` is the xxh3-128 of the file's bytes.
    """

    path: Path
    skip_bad: bool = False
    skipped: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    _line: int = field(default=2, init=False)
    _header: Header = field(default=Header((), 0, ","), init=False)

    def rows(self) -> Iterator[Rows]:
        """Parse the file; each block of rows is valid only until the next one, because buffers are reused.

        Raises `BenchboxError` with file, line and column if a row is damaged and `skip_bad` is off, or if no row is
        left.
        """
        import xxhash

        header = self._header = read_header(self.path)
        self._line = 2
        hasher = xxhash.xxh3_128()
        workers = min(threads(), _MAX_THREADS)
        free = deque(_Block() for _ in range(workers + 1))
        waiting: deque[tuple[_Block, Future[int]]] = deque()
        total = 0
        before = self.path.stat()
        with open_csv(self.path) as file, ThreadPoolExecutor(workers) as pool:
            hasher.update(file.read(header.length))
            rest, ended = b"", False
            while waiting or not ended:
                while free and not ended:
                    block = free.popleft()
                    block.fill(file, rest, hasher)
                    # A line that fills a whole block cannot be a row: stop there, `_checked` raises the error.
                    rest, ended = block.rest, block.last or not block.stop
                    waiting.append((block, pool.submit(self._parse, block, 0)))
                block, parsed = waiting.popleft()
                for rows in self._checked(block, parsed.result()):
                    total += len(rows.pixels)
                    yield rows
                free.append(block)
        after = self.path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise BenchboxError(f"{self.path} changed while it was read", hint="wait until it is complete, then rerun")
        if not total:
            reason = f"all {len(self.skipped)} rows are damaged" if self.skipped else "a header without rows"
            raise BenchboxError(f"{self.path}, line 2, column 1: {reason}", hint=DOWNLOAD_AGAIN)
        self.digest = hasher.hexdigest()

    def _parse(self, block: _Block, start: int) -> int:
        """Parse from byte `start` of a block to its end or the first bad row, and return the number of rows."""
        # Imported here because numba takes as long to import as everything else, and a warm cache needs no parser.
        from benchbox.builtin.datasets.csv_kernel import parse_rows

        columns = [_COLUMNS.get(name.lower(), IGNORED) for name in self._header.names]
        text, stop = block.text[start:], block.stop - start
        words, lengths, codes = _usage_words()
        layout = (ord(self._header.separator), np.array(columns, dtype=np.int64), words, lengths)
        rows = (block.pixels, block.emotion, block.usage)
        count = int(parse_rows(text, stop, *layout, *rows, block.report))
        if EMOTION not in columns:
            block.emotion[:count] = OTHER_EMOTION
        block.usage[:count] = codes[block.usage[:count]] if USAGE in columns else self._header.usage
        return count

    def _checked(self, block: _Block, count: int) -> Iterator[Rows]:
        """Yield the parsed rows of a block; raise an error for bad rows, or skip them."""
        start = 0
        while True:
            if count:
                yield Rows(block.pixels[:count], block.emotion[:count], block.usage[:count])
            self._line += int(block.report[5])
            if block.report[0] == OK:
                break
            start += int(block.report[4])
            row = _line_at(block.text, start)
            after = start + len(row) + 1
            error = refusal(
                self.path, self._header.names, block.report, row, self._line, last=block.open and after == block.stop
            )
            if not self.skip_bad:
                raise error
            self.skipped[f"line {self._line}"] = error.message
            self._line += 1
            start = after
            count = self._parse(block, start)
        if not block.stop and not block.last:
            raise BenchboxError(
                f"{self.path}, line {self._line}, column {_BLOCK_BYTES}: the line is longer than "
                f"{_BLOCK_BYTES >> 20} MiB, so it is not a row of FER2013",
                hint="end every row with a line feed, or " + DOWNLOAD_AGAIN,
            )


@functools.cache
def _usage_words() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8]]:
    """Values of the column Usage as padded rows of bytes, their lengths and their codes."""
    texts = [word.encode() for word in USAGE_WORDS]
    words = np.zeros((len(texts), max(map(len, texts))), dtype=np.uint8)
    for row, text in zip(words, texts, strict=True):
        row[: len(text)] = np.frombuffer(text, dtype=np.uint8)
    return words, np.array([len(text) for text in texts]), np.array([*USAGE_WORDS.values()], dtype=np.uint8)


def _line_at(text: NDArray[np.uint8], start: int) -> bytes:
    """The line that starts at `start`, without its line feed, which must exist."""
    length = 1 << 14
    while _LINE_FEED not in (piece := text[start : start + length].tobytes()):
        length *= 2
    return piece.partition(_LINE_FEED)[0]


def _last_line_feed(buffer: NDArray[np.uint8], filled: int) -> int:
    """Position of the last line feed; -1 if there is none."""
    stop = filled
    while stop > 0:
        start = max(0, stop - (1 << 16))
        position = buffer[start:stop].tobytes().rfind(_LINE_FEED)
        if position >= 0:
            return start + position
        stop = start
    return -1
