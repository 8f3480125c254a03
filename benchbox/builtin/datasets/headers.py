"""Reads the first bytes of files: the size, pages and depth of images, and what is not the expected data."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets import tiff
from benchbox.system.files import open_regular

READ = "PNG, JPEG, TIFF, BMP, WebP, PGM, PPM or PBM"
"""The formats that are read, for messages."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
# In compressed data, a marker is FF and a byte that is neither 00 nor a restart; FF may be repeated before it.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_PNM_NUMBER = rb"(?:\s|#[^\n]*\n)+(\d{1,9})"
_PNM = re.compile(rb"P[2356]" + _PNM_NUMBER * 3 + rb"\s")
_PBM = re.compile(rb"P[14]" + _PNM_NUMBER * 2 + rb"\s")
_CONVERT = "convert it to PNG"
DOWNLOAD_AGAIN = "download or copy the file again"
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"7z\xbc\xaf": "a 7z archive"}


DAMAGED = struct.error, IndexError, KeyError, ValueError, OverflowError
"""What `read_header` raises for a damaged header."""


class UnreadableImage(Exception):
    """An image file cannot be used; the message says why, and `remedy` what to do about it."""

    def __init__(self, problem: str, remedy: str = "replace the file") -> None:
        super().__init__(problem)
        self.remedy = remedy


@dataclass(frozen=True)
class ImageHeader:
    """What the header of an image file claims."""

    width: int
    height: int
    paged: bool = False
    """Whether the file has more pages or frames."""
    white: int = 0
    """Grey level of white if the file states it; 0 if it is the largest of its depth."""
    has_transparency: bool = False
    """Whether the file states a channel of transparency, which decoding may drop."""


def read_header(data: bytes) -> ImageHeader:
    """Read an image file's header; `data` may be its first bytes only, but then `paged` is unknown.

    Raises `UnreadableImage` for other formats and for TIFFs that are not read as stored, one of `DAMAGED` for a damaged
    header.
    """
    if data.startswith(_PNG):
        return ImageHeader(*struct.unpack_from(">II", data, 16))
    if data.startswith(b"\xff\xd8"):
        return _jpeg_header(data)
    if data.startswith(b"BM"):
        if struct.unpack_from("<I", data, 14)[0] == 12:
            return ImageHeader(*struct.unpack_from("<HH", data, 18))
        width, height = struct.unpack_from("<ii", data, 18)
        return ImageHeader(width, abs(height))
    if data.startswith(tiff.STARTS):
        directory = tiff.read_directory(data)
        if wrong := tiff.misread(directory):
            raise UnreadableImage(*wrong)
        width, height = (directory.tags[tag] for tag in (tiff.WIDTH, tiff.HEIGHT))
        return ImageHeader(width, height, directory.is_followed, has_transparency=directory.has_transparency)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_header(data)
    if data[:1] == b"P" and data[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6"):
        return _pnm_header(data)
    raise _not_an_image(data)


def _not_an_image(data: bytes) -> UnreadableImage:
    start = data.lstrip()[:64].lower()
    if start.startswith(b"version https://git-lfs"):
        return UnreadableImage("a Git LFS pointer, not the image", "run 'git lfs pull' in its repository")
    if start.startswith((b"<!doctype", b"<html", b"<head")):
        return UnreadableImage("a web page (HTML) saved under this name, not the image", "download it again")
    if data[4:8] == b"ftyp":
        kind = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"avif": "AVIF"}.get(data[8:12], "video or HEIF")
        return UnreadableImage(f"its content is {kind}, not {READ}, despite its name", _CONVERT)
    return UnreadableImage(f"its content is not {READ}, despite its name")


def _jpeg_header(data: bytes) -> ImageHeader:
    position = 2
    while True:
        if data[position] != 0xFF:
            raise ValueError("no marker")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return ImageHeader(width, height)
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]


def is_whole_jpeg(data: bytes) -> bool:
    """Whether a JPEG has its end-of-image marker; anything may follow it, such as the video of a motion photo."""
    position = 2
    while found := _JPEG_MARKER.search(data, position):
        if data[found.start() + 1] == _JPEG_END:
            return True
        # The segment of a marker may contain a thumbnail, with markers of its own.
        length = data[found.end() : found.end() + 2]
        position = found.end() + max(2, int.from_bytes(length, "big"))
    return False


def without_profile(data: bytes) -> bytes:
    """A PNG without its colour profile, which nothing applies; other data as they are.

    libpng writes to standard error what it thinks of a profile, which many pictures have from old programs.
    """
    place, kept = len(_PNG), [data[: len(_PNG)]]
    while data.startswith(_PNG) and place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length  # with its checksum
        if kind == b"iCCP":
            return b"".join([*kept, data[end:]])  # there is only one
        if kind == b"IDAT":  # a profile comes before the pixels
            break
        kept.append(data[place:end])
        place = end
    return data


def _webp_header(data: bytes) -> ImageHeader:
    chunk = data[12:16]
    if chunk == b"VP8X":  # bit 1 of the flags: animation
        width, height = (int.from_bytes(data[start : start + 3], "little") + 1 for start in (24, 27))
        return ImageHeader(width, height, bool(data[20] & 2))
    if chunk == b"VP8L":
        sides = struct.unpack_from("<I", data, 21)[0]
        return ImageHeader((sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1)
    if chunk != b"VP8 ":
        raise ValueError("no image chunk")
    width, height = struct.unpack_from("<HH", data, 26)
    return ImageHeader(width & 0x3FFF, height & 0x3FFF)


def _pnm_header(data: bytes) -> ImageHeader:
    found = (_PBM if data[1:2] in b"14" else _PNM).match(data)
    if found is None:
        raise ValueError("no numbers")
    width, height, *white = map(int, found.groups())
    if white and not 1 <= white[0] <= 65535:
        raise ValueError("no grey level of white")
    return ImageHeader(width, height, white=white[0] if white else 0)


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
