"""What a TIFF says of itself, and where OpenCV would read other pixels than it stores."""

from __future__ import annotations

import struct
from dataclasses import dataclass

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WIDTH, HEIGHT = 256, 257
_DEPTH, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _CHANNELS, _PLANAR = 258, 259, 262, 274, 277, 284
_TILE_WIDTH, _TILE_HEIGHT, _EXTRA, _FORMAT = 322, 323, 338, 339
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
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


@dataclass(frozen=True)
class Directory:
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


def read_directory(data: bytes) -> Directory:
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
        if field_type not in _TYPES:
            continue
        code = order + _TYPES[field_type]
        values = struct.unpack_from(offset, data, entry + 4)[0]
        place = entry + (12 if big else 8)
        if values * struct.calcsize(code) > struct.calcsize(offset):  # they stand elsewhere
            place = struct.unpack_from(offset, data, place)[0]
        if place + struct.calcsize(code) <= len(data):
            tags[tag], places[tag] = struct.unpack_from(code, data, place)[0], (place, code)
    following = data[start + count * (20 if big else 12) :][: 8 if big else 4]
    return Directory(tags, places, any(following))


def misread(directory: Directory) -> tuple[str, str] | None:
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
    if not data.startswith(STARTS):
        return None
    try:
        tags = read_directory(data).tags
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
    return f"{what} is not supported here; the file may be sound", "convert it to PNG"


def without_turning(data: bytes) -> bytes:
    """A TIFF that OpenCV does not turn or mirror as its tag for display says; other files as they are."""
    return _with_tag(data, _ORIENTATION, _UPRIGHT)


def with_plain_alpha(data: bytes) -> bytes:
    """A TIFF whose colours OpenCV does not multiply by their transparency; other files as they are."""
    return _with_tag(data, _EXTRA, _ASSOCIATED)


def _with_tag(data: bytes, tag: int, value: int) -> bytes:
    if not data.startswith(STARTS):
        return data
    directory = read_directory(data)
    if directory.tags.get(tag, value) == value:
        return data
    place, code = directory.places[tag]
    changed = bytearray(data)
    struct.pack_into(code, changed, place, value)
    return bytes(changed)
