"""Decodes image files and rejects damaged, oversized and unsupported ones."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchbox.api.threads import threads
from benchbox.system.files import read_bounded

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
HEADER_BYTES = 1 << 16
MAX_PIXELS = 100_000_000
"""Largest image that is decoded, because the header of a small file can claim a size that exhausts memory."""

_MAX_BYTES = 8 * MAX_PIXELS
_AHEAD = 64
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}


T = TypeVar("T")


class UnreadableImage(Exception):
    """An image file cannot be used; the message says why."""


@dataclass(frozen=True)
class Picture:
    """One decoded image file."""

    grey: NDArray[np.uint8] | NDArray[np.uint16]
    """Grey levels, shape (H, W)."""
    colour: bool
    """Whether `grey` is the luminance of a colour image."""
    alpha: bool
    """Whether a transparency channel was dropped."""
    paged: bool
    """Whether the file has more pages; only the first is used."""


def is_image_name(name: str) -> bool:
    """Whether a file name has the suffix of a supported image format and is not hidden."""
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def decode_files(
    root: Path, names: Sequence[str], use: Callable[[Picture], T]
) -> Iterator[tuple[str, T | UnreadableImage]]:
    """Decode files on several threads and yield, in the order of `names`, what `use` returns for each or the error.

    `names` are relative to `root`. `use` runs on the decoding thread and should return only what is kept, so that no
    more pictures than threads are in memory; it may raise `UnreadableImage`.
    """

    def attempt(name: str) -> T | UnreadableImage:
        try:
            return use(decode_file(root / name))
        except UnreadableImage as problem:
            return problem

    with ThreadPoolExecutor(threads()) as pool:
        waiting: deque[Future[T | UnreadableImage]] = deque()
        for position in range(len(names) + _AHEAD):
            if position < len(names):
                waiting.append(pool.submit(attempt, names[position]))
            if position >= _AHEAD:
                yield names[position - _AHEAD], waiting.popleft().result()


def decode_file(path: Path) -> Picture:
    """Read and decode a file; see `decode`."""
    try:
        return decode(read_bounded(path, _MAX_BYTES))
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error


def decode(data: bytes) -> Picture:
    """Decode the bytes of a PNG, JPEG, TIFF or BMP file; raises `UnreadableImage`.

    Colour is converted to luminance, Y = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded to the file's depth.
    """
    import cv2

    if not data:
        raise UnreadableImage("the file is empty")
    try:
        width, height = claimed_size(data)
        paged = data[:2] in (b"II", b"MM") and _has_second_page(data)
    except (struct.error, IndexError, KeyError, ValueError, OverflowError) as error:
        raise UnreadableImage("its header is damaged") from error
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise UnreadableImage(f"its header claims {width} x {height} pixels; the limit is {MAX_PIXELS:,}")
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-4096:]:
        # Some versions of OpenCV fill the missing part with grey instead of failing.
        raise UnreadableImage("the file is truncated: it has no end-of-image marker")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the error below names the file, OpenCV's not
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableImage("OpenCV cannot decode it") from error
    if image is None:
        raise UnreadableImage("it is damaged or truncated; OpenCV cannot decode it")
    if image.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(f"its samples are {image.dtype}; only 8-bit and 16-bit integers are supported")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels in (3, 4):
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY)
    elif channels <= 2:
        grey = image if image.ndim == 2 else np.ascontiguousarray(image[:, :, 0])
    else:
        raise UnreadableImage(f"it has {channels} channels; at most 4 are supported")
    return Picture(grey, channels >= 3, channels in (2, 4), paged)


def claimed_size(data: bytes) -> tuple[int, int]:
    """Width and height in an image file's header, read without decoding it.

    Raises `UnreadableImage` for other formats. A damaged header raises `struct.error`, `IndexError`, `KeyError`,
    `ValueError` or `OverflowError`.
    """
    if data.startswith(_PNG):
        return struct.unpack_from(">II", data, 16)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data.startswith(b"BM"):
        if struct.unpack_from("<I", data, 14)[0] == 12:
            return struct.unpack_from("<HH", data, 18)
        width, height = struct.unpack_from("<ii", data, 18)
        return width, abs(height)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff_size(data)
    raise UnreadableImage("its content is not PNG, JPEG, TIFF or BMP, despite its name")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    position = 2
    while True:
        if data[position] != 0xFF:
            raise ValueError("no marker")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]


def _tiff_size(data: bytes) -> tuple[int, int]:
    order, big, start, count = _tiff_directory(data)
    sides: dict[int, int] = {}
    for index in range(count):
        entry = start + index * (20 if big else 12)
        tag, field_type = struct.unpack_from(order + "HH", data, entry)
        if tag in (256, 257):  # ImageWidth, ImageLength
            sides[tag] = struct.unpack_from(order + _TIFF_TYPES[field_type], data, entry + (12 if big else 8))[0]
        if len(sides) == 2:
            break
    return sides[256], sides[257]


def _has_second_page(data: bytes) -> bool:
    order, big, start, count = _tiff_directory(data)
    return bool(struct.unpack_from(order + ("Q" if big else "I"), data, start + count * (20 if big else 12))[0])


def _tiff_directory(data: bytes) -> tuple[str, bool, int, int]:
    """Byte order, whether offsets have 64 bits (BigTIFF), and position and number of the first directory's entries."""
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in (data[2], data[3])
    start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
    return order, big, start + (8 if big else 2), count
