"""Reads the challenge's csv in blocks, hands them to the compiled pass, and words what is wrong with a row."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.faces import EMOTIONS, PIXELS, SPLITS, Rows
from benchbox.builtin.datasets.sniff import read_head, refuse_known_mistakes

COLUMNS = ("emotion", "pixels", "Usage")
_BLOCK_BYTES = 4 << 20
_ROW_BYTES = 1 << 20  # a row takes about 9 kB; what is longer is no row, and must not fill the memory
_SHORTEST_ROW = 2 * PIXELS
_DOWNLOAD = "download or copy the file again"


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

        from benchbox.builtin.datasets import csv_kernel

        header = read_header(self.path)
        kinds = {"emotion": csv_kernel.EMOTION, "pixels": csv_kernel.PIXEL, "usage": csv_kernel.USAGE}
        columns = np.array([kinds.get(name.lower(), csv_kernel.IGNORED) for name in header.names], dtype=np.int64)
        names, lengths = _split_names()
        capacity = (_BLOCK_BYTES + 1) // _SHORTEST_ROW + 2
        pixels = np.empty((capacity, PIXELS), dtype=np.uint8)
        emotion = np.empty(capacity, dtype=np.uint8)
        usage = np.empty(capacity, dtype=np.uint8)
        report = np.zeros(6, dtype=np.int64)
        buffer = np.zeros(_BLOCK_BYTES + 1 + csv_kernel.LOOKAHEAD, dtype=np.uint8)
        hasher = xxhash.xxh3_128()
        self._line = 2
        found = 0
        with self.path.open("rb") as file:
            before = os.fstat(file.fileno())
            hasher.update(file.read(header.length))
            for text, stop, cut in self._blocks(file, buffer, hasher):
                start = 0
                while start < stop:
                    count = csv_kernel.parse_rows(
                        text[start:], stop - start, columns, names, lengths, pixels, emotion, usage, report
                    )
                    found += count
                    if count:
                        yield Rows(pixels[:count], emotion[:count], usage[:count])
                    self._line += int(report[5])
                    if report[0] == csv_kernel.OK:
                        break
                    row = text[start + report[4] : stop].tobytes()
                    row = row[: row.index(b"\n")]
                    error = self._error(header, report, row, cut and start + report[4] + len(row) + 1 == stop)
                    if not self.skip_bad:
                        raise error
                    self.skipped[f"line {self._line}"] = error.message
                    start += int(report[4]) + len(row) + 1
                    self._line += 1
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise BenchboxError(
                f"{self.path} changed while it was read", hint="wait until it is complete, then run again"
            )
        if not found:
            what = f"none of {len(self.skipped)} rows can be read" if self.skipped else "a header without rows"
            raise BenchboxError(f"{self.path}, line 2, column 1: {what}", hint=_DOWNLOAD)
        self.digest = hasher.hexdigest()

    def _blocks(
        self, file: Any, buffer: NDArray[np.uint8], hasher: Any
    ) -> Iterator[tuple[NDArray[np.uint8], int, bool]]:
        """Give complete lines: the text, its length, and whether the file ends without a line feed."""
        view = buffer.data
        kept = 0
        while True:
            got = file.readinto(view[kept:_BLOCK_BYTES])
            hasher.update(view[kept : kept + got])
            filled = kept + got
            if not got:
                if kept:
                    buffer[kept] = 10
                    yield buffer, kept + 1, True
                return
            end = _last_line_feed(buffer, filled) + 1
            if end:
                yield buffer, end, False
            kept = filled - end
            if kept > _ROW_BYTES:
                raise BenchboxError(
                    f"{self.path}, line {self._line}, column {_ROW_BYTES}: a line of more than {_ROW_BYTES >> 20} MiB, "
                    "so no row of FER2013",
                    hint="a row ends with a line feed; " + _DOWNLOAD,
                )
            buffer[:kept] = buffer[end:filled].copy()

    def _error(self, header: Header, report: NDArray[np.int64], row: bytes, last: bool) -> BenchboxError:
        """Word why a row was refused; `last` for the last line of a file that does not end with a line feed."""
        from benchbox.builtin.datasets import csv_kernel as kernel

        reason, where, column, count, row_start = (int(value) for value in report[:5])
        offset = where - row_start
        name = header.names[column] if column < len(header.names) else ""
        place = f"{self.path}, line {self._line}, column {offset + 1}" + (f" ({name})" if name else "")
        rest = row[offset:].rstrip()
        token = rest.split(b",")[0].strip(b' \t"')[:40]
        if reason in (kernel.BAD_PIXEL, kernel.STRAY):
            token = token.split()[0] if token.split() else b""
        if last and len(token) == len(rest.strip(b'"')) and _may_be_cut(kernel, reason, token, count):
            so_far = f" after {count} of {PIXELS} pixels" if name.lower() == "pixels" else ""
            return BenchboxError(
                f"{place}: the file is cut off in the middle of a row{so_far}",
                hint=f"it is incomplete; {_DOWNLOAD}, or leave the row out with --skip-bad",
            )
        if reason == kernel.BAD_PIXEL:
            return BenchboxError(
                f"{place}: pixel {count + 1} is '{_text(token)}', not a whole number from 0 to 255",
                hint=f"correct that value, {_DOWNLOAD}, or leave the row out with --skip-bad",
            )
        if reason == kernel.PIXEL_COUNT:
            return BenchboxError(
                f"{place}: {count} pixels, but a face has {PIXELS} (48 x 48)",
                hint=f"correct the row, {_DOWNLOAD}, or leave the row out with --skip-bad",
            )
        if reason == kernel.BAD_EMOTION:
            names = ", ".join(f"{code} {word}" for code, word in enumerate(EMOTIONS))
            return BenchboxError(f"{place}: emotion '{_text(token)}' is none of 0 to 6", hint=f"emotions are {names}")
        if reason == kernel.BAD_USAGE:
            return BenchboxError(
                f"{place}: unknown Usage '{_text(token)}'",
                hint=f"it is one of {', '.join(SPLITS)}, spelled like this; leave the row out with --skip-bad",
            )
        if reason == kernel.FIELD_COUNT:
            fields = f"{column + 1} columns" if column < len(header.names) else f"more than {column} columns"
            return BenchboxError(
                f"{place}: {fields}, but the header names {len(header.names)} ({', '.join(header.names)})",
                hint=f"correct the row, {_DOWNLOAD}, or leave the row out with --skip-bad",
            )
        if reason == kernel.OPEN_QUOTE:
            return BenchboxError(f"{place}: a quote is not closed on its line", hint="put both quotes into one line")
        return BenchboxError(
            f"{place}: '{_text(token)}' where a comma or the line's end should be",
            hint="columns are separated by single commas",
        )


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
            f"the line reads '{_text(found[:120].encode())}{'...' if len(found) > 120 else ''}'",
            hint=hint,
        )
    twice = [name for name in COLUMNS if known.count(name.lower()) > 1]
    if twice:
        raise BenchboxError(f"{path}, line 1, column 1: column {twice[0]} stands there twice", hint="remove one")
    if not feed:
        raise BenchboxError(f"{path}, line 1, column {len(line) + 1}: a header without rows", hint=_DOWNLOAD)
    return Header(names, len(line) + 1)


def looks_like_header(head: bytes) -> bool:
    """Whether first bytes are those of a FER2013 csv."""
    line = head.partition(b"\n")[0].decode("utf-8-sig", errors="replace").lower()
    names = {name.strip().strip('"').strip() for name in line.split(",")}
    return "pixels" in names and bool(names & {"emotion", "usage"})


def _may_be_cut(kernel: ModuleType, reason: int, token: bytes, count: int) -> bool:
    """Whether a refused row would be sound if it went on."""
    if reason == kernel.BAD_USAGE:
        return any(name.encode().startswith(token) for name in SPLITS)
    return not token and not (reason == kernel.PIXEL_COUNT and count > PIXELS)


def _split_names() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    names = np.zeros((len(SPLITS), max(map(len, SPLITS))), dtype=np.uint8)
    for row, name in enumerate(SPLITS):
        names[row, : len(name)] = np.frombuffer(name.encode(), dtype=np.uint8)
    return names, np.array([len(name) for name in SPLITS], dtype=np.int64)


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


def _text(token: bytes) -> str:
    """Make a piece of a damaged file printable."""
    letters = token.decode("ascii", errors="replace").replace("\ufffd", "?")
    return "".join(letter if letter.isprintable() else "?" for letter in letters)
