"""What image files say of themselves, and where OpenCV would read other pixels than they store."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

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

# Tags of a TIFF, and the types of their values.
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WIDTH, _HEIGHT = 256, 257
_DEPTH, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _CHANNELS, _PLANAR = 258, 259, 262, 274, 277, 284
_TILE_WIDTH, _TILE_HEIGHT, _EXTRA, _FORMAT = 322, 323, 338, 339
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_COMPRESSIONS = {
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG",
    34925: "LZMA",
    50000: "zstd",
    50001: "WebP",
    50002: "JPEG XL",
}
# OpenCV would take their channels for red, green, blue and transparency.
_COLOUR_SPACES = {5: "CMYK", 8: "CIELab", 9: "CIELab", 10: "CIELab"}
_TILE_STEP = 32
_UPRIGHT = 1
_WHITE_IS_ZERO = 0
_SEPARATE = 2
_ASSOCIATED, _UNASSOCIATED = 1, 2

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
    if data.startswith(_TIFF_STARTS):
        directory = _tiff_directory(data)
        if wrong := _misread(directory):
            raise UnreadableImage(*wrong)
        width, height = (directory.tags[tag] for tag in (_WIDTH, _HEIGHT))
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


@dataclass(frozen=True)
class _TiffDirectory:
    """The first directory of a TIFF."""

    tags: dict[int, int]
    """The first whole number of each tag."""
    places: dict[int, tuple[int, str]]
    """Where this number is in the file, and its format for `struct`."""
    is_followed: bool
    """Whether there is another directory, which holds another page."""

    @property
    def has_transparency(self) -> bool:
        """Whether a channel beyond grey or red, green and blue is stored."""
        return self.tags.get(_CHANNELS, 1) in (2, 4) and self.tags.get(_EXTRA, 0) in (0, _ASSOCIATED, _UNASSOCIATED)


def _tiff_directory(data: bytes) -> _TiffDirectory:
    """Read the first directory of a file or of its first bytes; raises `struct.error` or `IndexError` if damaged."""
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in (data[2], data[3])  # BigTIFF: offsets have 64 bits
    offset = order + ("Q" if big else "I")
    start = struct.unpack_from(offset, data, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
    start += 8 if big else 2
    tags: dict[int, int] = {}
    places: dict[int, tuple[int, str]] = {}
    for entry in range(start, start + count * (20 if big else 12), 20 if big else 12):
        tag, field_type = struct.unpack_from(order + "HH", data, entry)
        if field_type not in _TIFF_TYPES:
            continue
        code = order + _TIFF_TYPES[field_type]
        values = struct.unpack_from(offset, data, entry + 4)[0]
        place = entry + (12 if big else 8)
        if values * struct.calcsize(code) > struct.calcsize(offset):  # they stand elsewhere
            place = struct.unpack_from(offset, data, place)[0]
        if place + struct.calcsize(code) <= len(data):
            tags[tag], places[tag] = struct.unpack_from(code, data, place)[0], (place, code)
    following = data[start + count * (20 if big else 12) :][: 8 if big else 4]
    return _TiffDirectory(tags, places, any(following))


def _misread(directory: _TiffDirectory) -> tuple[str, str] | None:
    """Why OpenCV would return other pixels than are stored, without saying so, and what to do; None if it does not."""
    tags = directory.tags
    channels, photometric = tags.get(_CHANNELS, 1), tags.get(_PHOTOMETRIC)
    if space := _COLOUR_SPACES.get(photometric or 0):
        return f"its colours are {space}; only grey and RGB are read", "convert it to RGB"
    what = ""
    if tags.get(_DEPTH) == 16:
        if channels > 1 and tags.get(_PLANAR) == _SEPARATE:
            what = "TIFF of 16 bits with channels apart (planar)"
        elif channels == 2:
            what = "grey TIFF of 16 bits with transparency"
        elif photometric == _WHITE_IS_ZERO:
            what = "TIFF of 16 bits in which 0 is white"
    return _unsupported(what) if what else None


def undecodable(data: bytes) -> tuple[str, str] | None:
    """Why OpenCV cannot decode a TIFF that may be sound, and what to do; None if it is no TIFF, or nothing says so."""
    if not data.startswith(_TIFF_STARTS):
        return None
    try:
        tags = _tiff_directory(data).tags
    except (struct.error, IndexError, OverflowError):
        return None
    tile = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0)
    what = ""
    if tags.get(_COMPRESSION) in _COMPRESSIONS:
        what = f"TIFF with {_COMPRESSIONS[tags[_COMPRESSION]]} compression"
    elif tags.get(_CHANNELS, 1) > 4:
        what = f"TIFF with {tags[_CHANNELS]} channels"
    elif tags.get(_FORMAT, 1) > 2:
        what = "TIFF whose samples are not whole numbers"
    elif any(side % _TILE_STEP for side in tile):
        what = f"TIFF with tiles of {tile[0]} x {tile[1]} pixels"
    return _unsupported(what) if what else None


def _unsupported(what: str) -> tuple[str, str]:
    return f"{what} is not supported here; the file may be sound", _CONVERT


def without_turning(data: bytes) -> bytes:
    """A TIFF that OpenCV does not turn or mirror as its tag for display says; other files as they are."""
    return _with_tag(data, _ORIENTATION, _UPRIGHT)


def with_plain_alpha(data: bytes) -> bytes:
    """A TIFF whose colours OpenCV does not multiply by their transparency; other files as they are."""
    return _with_tag(data, _EXTRA, _ASSOCIATED)


def _with_tag(data: bytes, tag: int, value: int) -> bytes:
    if not data.startswith(_TIFF_STARTS):
        return data
    directory = _tiff_directory(data)
    if directory.tags.get(tag, value) == value:
        return data
    place, code = directory.places[tag]
    changed = bytearray(data)
    struct.pack_into(code, changed, place, value)
    return bytes(changed)
