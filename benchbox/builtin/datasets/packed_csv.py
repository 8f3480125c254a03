"""Opens a csv, also inside a zip, gzip or tar archive, without unpacking it to disk."""

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
from benchbox.builtin.datasets.sniff import AGAIN, read_head

ARCHIVES = (".zip", ".gz", ".tgz", ".tar")
_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"
_TAR, _TAR_AT = b"ustar", 257
_USUAL = ("fer2013.csv", "icml_face_data.csv")
_MOST_BYTES = 4 << 30
"""Text that is read from an archive at most; a small archive can claim to hold any amount."""


@contextlib.contextmanager
def open_csv(path: Path) -> Iterator[BinaryIO]:
    """Open a csv, or the one csv that an archive holds.

    Parameters
    ----------
    path : Path
        A csv, ``.csv.gz``, ``.zip``, ``.tar`` or ``.tar.gz``; told apart by the first bytes, not by the name.

    Yields
    ------
    binary file
        The text of the csv, to be read once from its start.

    Raises
    ------
    BenchboxError
        The file cannot be read, the archive is damaged or encrypted, or holds no csv or several.
    """
    head = read_head(path)
    try:
        with contextlib.ExitStack() as stack:
            yield _opened(path, head, stack)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise BenchboxError(f"{path}: the archive is damaged: {error}", hint=AGAIN) from error
    except OSError as error:
        raise BenchboxError(f"{path}: {error.strerror or error}", hint="check the path and its permissions") from error


def _opened(path: Path, head: bytes, stack: contextlib.ExitStack) -> BinaryIO:
    if head.startswith(_ZIP):
        archive = stack.enter_context(zipfile.ZipFile(path))
        name = _only_csv(path, [one.filename for one in archive.infolist() if not one.is_dir()])
        if archive.getinfo(name).flag_bits & 1:
            raise BenchboxError(f"{path}: {name} is encrypted", hint="unpack it with its password and give the csv")
        return _bounded(path, stack.enter_context(archive.open(name)))
    if head.startswith(_GZIP):
        unpacked = stack.enter_context(gzip.GzipFile(path))
        if unpacked.read(_TAR_AT + len(_TAR))[_TAR_AT:] != _TAR:
            unpacked.seek(0)
            return _bounded(path, unpacked)
    elif head[_TAR_AT:].startswith(_TAR):
        pass
    else:
        return stack.enter_context(path.open("rb"))
    tar = stack.enter_context(tarfile.TarFile.open(path))
    member = tar.extractfile(_only_csv(path, [one.name for one in tar.getmembers() if one.isfile()]))
    if member is None:
        raise BenchboxError(f"{path}: its csv is a link", hint="unpack the archive and give the csv")
    return _bounded(path, stack.enter_context(member))


def _only_csv(path: Path, names: Sequence[str]) -> str:
    found = [name for name in names if name.lower().endswith(".csv") and not name.startswith("__MACOSX/")]
    usual = [name for name in found if name.rpartition("/")[2].lower() in _USUAL]
    chosen = usual or found
    if not chosen:
        raise BenchboxError(f"{path}: the archive holds no csv", hint="give the csv, or the folder with its pictures")
    if len(chosen) > 1:
        raise BenchboxError(
            f"{path}: the archive holds {len(chosen)} csv files: {', '.join(chosen[:5])}",
            hint="unpack it and give one of them",
        )
    return chosen[0]


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than a bound."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        self._left = _MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        content = self._stream.read(len(view))
        self._left -= len(content)
        if self._left < 0:
            raise BenchboxError(
                f"{self._path}: the archive unpacks to more than {_MOST_BYTES >> 30} GiB", hint="no FER2013 is so large"
            )
        view[: len(content)] = content
        return len(content)


def _bounded(path: Path, stream: object) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Bounded(path, cast(BinaryIO, stream))))
