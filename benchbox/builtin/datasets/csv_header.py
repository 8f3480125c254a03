"""The first line of a FER2013 csv: which columns there are, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchbox.api.errors import BenchboxError
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
