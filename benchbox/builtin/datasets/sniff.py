"""Recognises files that cannot be the expected data, so that the error says what they really are."""

from __future__ import annotations

from pathlib import Path

from benchbox.api.errors import BenchboxError
from benchbox.system.files import open_regular

DOWNLOAD_AGAIN = "download or copy the file again"
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"7z\xbc\xaf": "a 7z archive"}


def require_exists(path: Path) -> None:
    """Raise `BenchboxError` if `path` does not exist."""
    if not path.exists():
        parent = path.parent
        hint = f"look into {parent}" if parent.exists() else f"the folder {parent} does not exist either"
        raise BenchboxError(f"{path}: no such file or folder", hint=f"check the path; {hint}")


def read_head(path: Path, length: int = 4096) -> bytes:
    """Read a file's first bytes; raises `BenchboxError` if it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(length)
    except OSError as error:
        raise BenchboxError(f"{path}: {error.strerror or error}", hint="check the path and its permissions") from error


def refuse_known_mistakes(path: Path, head: bytes) -> None:
    """Raise `BenchboxError` if a file's first bytes are empty, HTML, a Git LFS pointer, an archive or UTF-16 text."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:512].lower()
    if not start:
        raise BenchboxError(f"{path}, line 1, column 1: the file is empty", hint=DOWNLOAD_AGAIN)
    if start.startswith(b"version https://git-lfs"):
        raise BenchboxError(
            f"{path}, line 1, column 1: a Git LFS pointer, not the data", hint="run 'git lfs pull' in its repository"
        )
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise BenchboxError(
            f"{path}, line 1, column 1: a web page (HTML) saved under this name, not the data",
            hint="the server returned a login or error page; sign in, then " + DOWNLOAD_AGAIN,
        )
    for magic, kind in _ARCHIVES.items():
        if head.startswith(magic):
            raise BenchboxError(f"{path}: {kind}, not the data itself", hint="unpack it and give its content")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BenchboxError(f"{path}, line 1, column 1: text in UTF-16", hint="save it as UTF-8 or plain ASCII")


def printable(text: bytes) -> str:
    """Make part of a damaged file safe for a message."""
    characters = text.decode("ascii", errors="replace").replace("\ufffd", "?")
    return "".join(character if character.isprintable() else "?" for character in characters)
