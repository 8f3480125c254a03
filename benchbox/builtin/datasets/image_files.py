"""Decodes image files and refuses damaged, oversized and unsupported ones."""

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
"""Largest picture that is decoded; a small file can claim a size that fills the memory."""

_MAX_BYTES = 8 * MAX_PIXELS
_AHEAD = 64
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}


T = TypeVar("T")


class UnreadableImage(Exception):
    """A picture that cannot be used; the message says why."""


@dataclass(frozen=True)
class Picture:
    """One decoded picture.

    Attributes
    ----------
    grey : ndarray of uint8 or uint16, shape (H, W)
    colour : bool
        Whether `grey` is the luminance of a colour picture.
    alpha : bool
        Whether a transparency channel was dropped.
    paged : bool
        Whether the file has further pages; the first is used.
    """

    grey: NDArray[np.uint8] | NDArray[np.uint16]
    colour: bool
    alpha: bool
    paged: bool


def is_image_name(name: str) -> bool:
    """Whether a file's name ends like that of a picture that can be read."""
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def decode_files(
    root: Path, names: Sequence[str], use: Callable[[Picture], T]
) -> Iterator[tuple[str, T | UnreadableImage]]:
    """Read and decode files on several threads, a bounded number ahead of the caller.

    Parameters
    ----------
    root : Path
    names : sequence of str
        Paths relative to `root`.
    use : callable
        Makes of a picture what is kept; called on the thread, so that no more pictures than threads are in memory.
        May raise `UnreadableImage`.

    Yields
    ------
    tuple of str and what `use` gives, or UnreadableImage
        In the order of `names`.
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
    """Read and decode a file.

    Raises
    ------
    UnreadableImage
    """
    try:
        return decode(read_bounded(path, _MAX_BYTES))
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error


def decode(data: bytes) -> Picture:
    """Decode a PNG, JPEG, TIFF or BMP file.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    Picture
        Colour is turned to luminance, Y = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded to the file's depth.

    Raises
    ------
    UnreadableImage
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
        raise UnreadableImage(f"it claims {width} x {height} pixels; at most {MAX_PIXELS:,} are read")
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-4096:]:
        # Some versions of OpenCV fill what is missing with grey instead of refusing.
        raise UnreadableImage("the file is cut off: no end-of-image marker")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # our error says more, and names the file
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableImage("OpenCV cannot decode it") from error
    if image is None:
        raise UnreadableImage("it is damaged or cut off; OpenCV cannot decode it")
    if image.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(f"its samples are {image.dtype}; 8 or 16 bit whole numbers are read")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels in (3, 4):
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY)
    elif channels <= 2:
        grey = image if image.ndim == 2 else np.ascontiguousarray(image[:, :, 0])
    else:
        raise UnreadableImage(f"it has {channels} channels")
    return Picture(grey, channels >= 3, channels in (2, 4), paged)


def claimed_size(data: bytes) -> tuple[int, int]:
    """Width and height that a picture's header states, without decoding it.

    Raises
    ------
    UnreadableImage
        The content is none of the four formats.
    struct.error, IndexError, KeyError, ValueError, OverflowError
        The header is damaged.
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
    raise UnreadableImage("its content is not PNG, JPEG, TIFF or BMP, whatever its name says")


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
    found: dict[int, int] = {}
    for index in range(count):
        entry = start + index * (20 if big else 12)
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (256, 257):
            found[tag] = struct.unpack_from(order + _TIFF_TYPES[kind], data, entry + (12 if big else 8))[0]
        if len(found) == 2:
            break
    return found[256], found[257]


def _has_second_page(data: bytes) -> bool:
    order, big, start, count = _tiff_directory(data)
    return bool(struct.unpack_from(order + ("Q" if big else "I"), data, start + count * (20 if big else 12))[0])


def _tiff_directory(data: bytes) -> tuple[str, bool, int, int]:
    """Byte order, whether offsets have 64 bits, and place and number of the first directory's entries."""
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in (data[2], data[3])
    start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
    return order, big, start + (8 if big else 2), count
