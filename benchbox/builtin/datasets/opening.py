"""Opens the files of a user: says what is not the expected data, and reads a csv in a zip, gzip or tar archive."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from benchbox.api.errors import BenchboxError
from benchbox.system.files import open_regular

DOWNLOAD_AGAIN = "download or copy the file again"
_PACKED = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"7z\xbc\xaf": "a 7z archive"}
ARCHIVES = (".zip", ".gz", ".tgz", ".tar")
_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"
_TAR, _TAR_OFFSET = b"ustar", 257
_KNOWN_NAMES = ("fer2013.csv", "icml_face_data.csv")
_MAX_BYTES = 4 << 30
"""Most text that is read from an archive, because a small archive can unpack to any amount."""


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
    for magic, kind in _PACKED.items():
        if head.startswith(magic):
            raise BenchboxError(f"{path}: {kind}, not the data itself", hint="unpack it and give its content")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BenchboxError(f"{path}, line 1, column 1: text in UTF-16", hint="save it as UTF-8 or plain ASCII")


def printable(text: bytes) -> str:
    """Make part of a damaged file safe for a message."""
    characters = text.decode("ascii", errors="replace").replace("\ufffd", "?")
    return "".join(character if character.isprintable() else "?" for character in characters)


@contextlib.contextmanager
def open_csv(path: Path) -> Iterator[BinaryIO]:
    """Open a csv, or the only csv in a zip, gzip or tar archive, detected by its first bytes and not by its name.

    The file can be read once, from its start. Raises `BenchboxError` if it cannot be read, or if the archive is damaged
    or encrypted or does not contain exactly one csv.
    """
    head = read_head(path)
    try:
        with contextlib.ExitStack() as stack:
            yield _open(path, head, stack)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise BenchboxError(f"{path}: the archive is damaged: {error}", hint=DOWNLOAD_AGAIN) from error
    except OSError as error:
        raise BenchboxError(f"{path}: {error.strerror or error}", hint="check the path and its permissions") from error


def _open(path: Path, head: bytes, stack: contextlib.ExitStack) -> BinaryIO:
    if head.startswith(_ZIP):
        archive = stack.enter_context(zipfile.ZipFile(path))
        name = _only_csv(path, [entry.filename for entry in archive.infolist() if not entry.is_dir()])
        if archive.getinfo(name).flag_bits & 1:
            raise BenchboxError(f"{path}: {name} is encrypted", hint="unpack it with its password and give the csv")
        return _bounded(path, stack.enter_context(archive.open(name)))
    if head.startswith(_GZIP):
        unpacked = stack.enter_context(gzip.GzipFile(path))
        if unpacked.read(_TAR_OFFSET + len(_TAR))[_TAR_OFFSET:] != _TAR:
            unpacked.seek(0)
            return _bounded(path, unpacked)
    elif not head[_TAR_OFFSET:].startswith(_TAR):
        return stack.enter_context(path.open("rb"))
    tar = stack.enter_context(tarfile.TarFile.open(path))
    member = tar.extractfile(_only_csv(path, [entry.name for entry in tar.getmembers() if entry.isfile()]))
    if member is None:
        raise BenchboxError(f"{path}: its csv is a link", hint="unpack the archive and give the csv")
    return _bounded(path, stack.enter_context(member))


def _only_csv(path: Path, names: Sequence[str]) -> str:
    csvs = [name for name in names if name.lower().endswith(".csv") and not name.startswith("__MACOSX/")]
    candidates = [name for name in csvs if name.rpartition("/")[2].lower() in _KNOWN_NAMES] or csvs
    if not candidates:
        raise BenchboxError(
            f"{path}: the archive contains no csv", hint="give the csv, or the folder with the unpacked images"
        )
    if len(candidates) > 1:
        raise BenchboxError(
            f"{path}: the archive contains {len(candidates)} csv files: {', '.join(candidates[:5])}",
            hint="unpack it and give one of them",
        )
    return candidates[0]


class _Bounded(io.RawIOBase):
    """A stream that raises an error once it has returned more than `_MAX_BYTES`."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        self._left = _MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        content = self._stream.read(len(view))
        self._left -= len(content)
        if self._left < 0:
            raise BenchboxError(
                f"{self._path}: the archive unpacks to more than {_MAX_BYTES >> 30} GiB, but FER2013 is 0.3 GB",
                hint="give the original FER2013 archive",
            )
        view[: len(content)] = content
        return len(content)


def _bounded(path: Path, stream: object) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Bounded(path, cast(BinaryIO, stream))))
