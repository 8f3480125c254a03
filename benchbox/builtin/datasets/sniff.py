"""Recognises what a file really is, for the error message when it is not the expected data."""

from __future__ import annotations

from pathlib import Path

from benchbox.api.errors import BenchboxError
from benchbox.system.files import open_regular

AGAIN = "download or copy the file again"
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"7z\xbc\xaf": "a 7z archive"}


def require_exists(path: Path) -> None:
    """Refuse a path that leads nowhere.

    Raises
    ------
    BenchboxError
    """
    if not path.exists():
        parent = path.parent
        hint = f"the folder {parent} does not exist either" if not parent.exists() else f"look into {parent}"
        raise BenchboxError(f"{path}: no such file or folder", hint=f"check the path; {hint}")


def read_head(path: Path, length: int = 4096) -> bytes:
    """Read a file's first bytes.

    Raises
    ------
    BenchboxError
        The file cannot be read.
    """
    try:
        with open_regular(path) as file:
            return file.read(length)
    except OSError as error:
        raise BenchboxError(f"{path}: {error.strerror or error}", hint="check the path and its permissions") from error


def refuse_known_mistakes(path: Path, head: bytes) -> None:
    """Refuse a file whose first bytes show a common mistake.

    Parameters
    ----------
    path : Path
    head : bytes
        First bytes of the file.

    Raises
    ------
    BenchboxError
        The file is empty, an HTML page, a Git LFS pointer, an archive or not 8-bit text.
    """
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:512].lower()
    if not start:
        raise BenchboxError(f"{path}, line 1, column 1: the file is empty", hint=AGAIN)
    if start.startswith(b"version https://git-lfs"):
        raise BenchboxError(
            f"{path}, line 1, column 1: a Git LFS pointer, not the data", hint="run 'git lfs pull' in its repository"
        )
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise BenchboxError(
            f"{path}, line 1, column 1: a web page (HTML) saved under this name, not the data",
            hint="the download was answered with a log-in or error page; sign in, then " + AGAIN,
        )
    for magic, what in _ARCHIVES.items():
        if head.startswith(magic):
            raise BenchboxError(f"{path}: {what}, not the data itself", hint="unpack it and give what is inside")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BenchboxError(f"{path}, line 1, column 1: text in UTF-16", hint="save it as UTF-8 or plain ASCII")


def printable(text: bytes) -> str:
    """Make a piece of a damaged file fit for a message."""
    letters = text.decode("ascii", errors="replace").replace("\ufffd", "?")
    return "".join(letter if letter.isprintable() else "?" for letter in letters)
