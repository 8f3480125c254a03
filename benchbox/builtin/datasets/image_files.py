"""Decodes image files and rejects damaged, oversized and unsupported ones."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchbox.api.threads import threads
from benchbox.builtin.datasets.headers import (
    DAMAGED,
    UnreadableImage,
    is_whole_jpeg,
    read_header,
    undecodable,
    with_plain_alpha,
    without_profile,
    without_turning,
)
from benchbox.system.files import read_bounded

_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".pgm", ".ppm", ".pbm",
    ".pnm",
})  # fmt: skip
_NOT_READ = frozenset({
    ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".gif", ".psd", ".svg", ".exr", ".hdr", ".pfm",
    ".pam", ".tga", ".ico", ".eps", ".dcm", ".fits", ".mat", ".npy", ".npz", ".dng", ".cr2", ".cr3", ".crw", ".nef",
    ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw", ".x3f", ".3fr", ".iiq", ".raw",
})  # fmt: skip
HEADER_BYTES = 1 << 16
MAX_PIXELS = 100_000_000
"""Largest image that is decoded, because the header of a small file can claim a size that exhausts memory."""

_MAX_BYTES = 8 * MAX_PIXELS
_AHEAD = 64


T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """One decoded image file."""

    grey: NDArray[np.uint8] | NDArray[np.uint16]
    """Grey levels, shape (H, W); of a colour image, its luminance."""
    rgb: NDArray[np.uint8] | NDArray[np.uint16] | None
    """Red, green and blue, shape (H, W, 3); None if the image is grey."""
    alpha: bool
    """Whether a transparency channel was dropped."""
    paged: bool
    """Whether the file has more pages; only the first is used."""
    white: int
    """Grey level of white, of this depth or as the file states it."""


def is_image_name(name: str) -> bool:
    """Whether a file name has the suffix of a supported image format and is not hidden."""
    return Path(name).suffix.lower() in _SUFFIXES and not name.startswith(".")


def is_other_image_name(name: str) -> bool:
    """Whether a file name has the suffix of an image format that is not read and is not hidden."""
    return Path(name).suffix.lower() in _NOT_READ and not name.startswith(".")


def unread_files(names: Sequence[str]) -> str:
    """Count files in formats that are not read, the most frequent first: ``12 files (10 .heic, 2 .cr2)``."""
    counts = Counter(Path(name).suffix.lower() for name in names).most_common()
    files = "1 file" if len(names) == 1 else f"{len(names):,} files"
    return f"{files} ({', '.join(f'{count:,} {suffix}' for suffix, count in counts)})"


def unread_note(names: Sequence[str]) -> str:
    """Note of a run about files in formats that are not read."""
    return f"left out: {unread_files(names)} in formats that are not read; to include them, convert them to PNG"


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
    """Decode the bytes of an image file; raises `UnreadableImage`.

    Luminance is Y = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded to the file's depth. Colour is as stored: no
    colour profile is applied. Pixels are where the file has them: an orientation for display is ignored.
    """
    import cv2

    if not data:
        raise UnreadableImage("the file is empty")
    try:
        header = read_header(data)
    except DAMAGED as error:
        raise UnreadableImage("its header is damaged") from error
    width, height = header.width, header.height
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise UnreadableImage(f"its header claims {width} x {height} pixels; the limit is {MAX_PIXELS:,}")
    if data.startswith(b"\xff\xd8") and not is_whole_jpeg(data):
        # Some versions of OpenCV fill the missing part with grey instead of failing.
        raise UnreadableImage("the file is truncated: it has no end-of-image marker")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the error below names the file, OpenCV's not
    try:
        plain = np.frombuffer(with_plain_alpha(without_turning(without_profile(data))), dtype=np.uint8)
        image = cv2.imdecode(plain, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableImage(*(undecodable(data) or ("OpenCV cannot decode it",))) from error
    if image is None:
        raise UnreadableImage(*(undecodable(data) or ("it is damaged or truncated; OpenCV cannot decode it",)))
    if image.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(
            f"its samples are {image.dtype}; only 8-bit and 16-bit integers are supported",
            "convert it to 16-bit integers",
        )
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels in (3, 4):
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY)
    elif channels <= 2:
        grey = image if image.ndim == 2 else np.ascontiguousarray(image[:, :, 0])
    else:
        raise UnreadableImage(f"it has {channels} channels; at most 4 are supported")
    white = header.white or int(np.iinfo(grey.dtype).max)
    if data[:2] in (b"P2", b"P3") and grey.dtype == np.uint8:
        white = 255  # OpenCV has scaled these itself
    # WebP and many programs store grey as three equal channels.
    colour = channels >= 3 and not (np.array_equal(grey, image[:, :, 0]) and np.array_equal(grey, image[:, :, 2]))
    rgb = np.ascontiguousarray(image[:, :, 2::-1]) if colour else None
    highest = (grey if rgb is None else rgb).max()
    if highest > white:
        raise UnreadableImage(f"it has grey level {highest}, above the {white} that its header states for white")
    return Picture(grey, rgb, channels in (2, 4) or header.has_transparency, header.paged, white)
