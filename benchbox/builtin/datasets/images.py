"""A folder of images of any size, 8 or 16 bit, grey or colour, decoded on demand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.api.dataset import Dataset, ImageSet, fingerprint_of
from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.headers import READ, UnreadableImage
from benchbox.builtin.datasets.image_files import (
    Picture,
    decode_file,
    decode_files,
    is_image_name,
    is_other_image_name,
    unread_files,
    unread_note,
)
from benchbox.builtin.datasets.opening import require_exists
from benchbox.records.options import Color
from benchbox.system.files import CacheFolder
from benchbox.system.text import filename_text, unique_ids

_KEPT_BYTES = 64 << 20
_FORMAT = 4
_DEEP = 65535
_DEPTHS = (8, 10, 12, 14)
_FACE = (48, 48)
_Pixels: TypeAlias = "NDArray[np.uint8] | NDArray[np.uint16]"


@dataclass
class Scan:
    """Result of the first pass over all images; lists have one entry per image that decodes."""

    names: list[str] = field(default_factory=list)
    shapes: list[tuple[int, int]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    """Digest of the grey levels."""
    colours: list[str] = field(default_factory=list)
    """Digest of the colours, empty if an image is grey."""
    peaks: list[int] = field(default_factory=list)
    """Largest level of each 16-bit image, 0 of the others."""
    alpha: int = 0
    paged: int = 0
    skipped: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What is wrong with an image, and what to do about it."""


@dataclass(frozen=True)
class _ImageFacts:
    """What the first pass keeps of one image."""

    shape: tuple[int, int]
    digest: str
    colours: str
    peak: int
    alpha: bool
    paged: bool


class ImageFolder(Dataset):
    """One PNG, JPEG, TIFF, BMP, WebP, PGM, PPM or PBM file, or all of them in a folder and its subfolders.

    Grey levels are divided by 255 (8 bit), 65535 (16 bit), or what the header of a PGM or PPM file states; `white`
    replaces 65535. Colour is kept if all images have it, and otherwise converted to luminance, Y = 0.299 R + 0.587 G +
    0.114 B (ITU-R BT.601); `color` changes this. An image's id is its path relative to the folder. The first call
    decodes every image to find damaged ones; the result of this check is cached, the pixels are not.
    """

    name = "images"
    named_by_path = True
    catch_all = True
    summary = "a folder of PNG, JPEG, TIFF, BMP, WebP or PNM files, 8 or 16 bit, grey or colour, any size"

    def __init__(self, white: int = _DEEP, color: Color = "auto") -> None:
        self._white = white
        self._color = color

    def scaled(self, white: int) -> ImageFolder:
        """See `Dataset.scaled`; for 16-bit files."""
        return ImageFolder(white, self._color)

    def colored(self, color: Color) -> ImageFolder:
        """See `Dataset.colored`."""
        return ImageFolder(self._white, color)

    def recognises(self, path: Path) -> bool:
        """Whether `path` is an image or a folder with at least one, at any depth, even in a format that is not read."""
        if path.is_file():
            return _is_image(path.name)
        return next(list_images(path), None) is not None

    def load(self, path: Path | None, *, split: str = "", skip_bad: bool = False) -> ImageSet:
        """Open a folder or a single image; it has no splits."""
        if path is None:
            raise BenchboxError("images needs a folder", hint="give one with --data FOLDER")
        if split:
            raise BenchboxError(
                f"images has no split '{split}'", hint="give the folder of that split with --data instead"
            )
        require_exists(path)
        root = path if path.is_dir() else path.parent
        found = sorted(list_images(path)) if path.is_dir() else [entry_of(path, path.name)]
        others = [name for name, *_ in found if is_other_image_name(name.rpartition("/")[2])]
        files = [file for file in found if file[0] not in {*others}]
        if not files and others:
            raise BenchboxError(
                f"{path}: {unread_files(others)} in formats that are not read, and no other image",
                hint=f"convert them to PNG; benchbox reads {READ}",
            )
        if not files:
            raise BenchboxError(
                f"{path}: no image in this folder or its subfolders", hint=f"give a folder with {READ} files"
            )
        images = self.open_scan(root, scan_images(root, files, skip_bad))
        return replace(images, notes=(*images.notes, unread_note(others))) if others else images

    def open_scan(self, root: Path, scan: Scan) -> ImageSet:
        """Open the images of a scan."""
        self._require_white(root, scan)
        rgb = self._is_rgb(root, scan)
        shapes = np.array(scan.shapes, dtype=np.int64)
        ids = unique_ids(scan.names)
        scale = (f"white: grey level {self._white} of 16-bit images (--white)",) if self._white != _DEEP else ()
        return ImageSet(
            dataset=self.name,
            split="",
            ids=ids,
            shapes=shapes,
            fingerprint=fingerprint_of(ids, [*(scan.colours if rgb else scan.digests), *scale]),
            read=_Reader(root, tuple(scan.names), shapes, self._white, rgb),
            channels=3 if rgb else 1,
            notes=(*_notes(scan, self._white, rgb), *scale),
        )

    def _is_rgb(self, root: Path, scan: Scan) -> bool:
        """Whether colour is kept; raises `BenchboxError` if it is asked for and an image has none."""
        grey = [name for name, colours in zip(scan.names, scan.colours, strict=True) if not colours]
        if self._color == "rgb" and grey:
            some = "it has" if len(grey) == 1 else f"{len(grey):,} of {len(scan.names):,} images have"
            raise BenchboxError(
                f"--color rgb: {root / grey[0]} is grey; {some} no colour",
                hint="remove the grey images, or turn all into luminance with --color grey",
            )
        return self._color != "grey" and not grey

    def _require_white(self, root: Path, scan: Scan) -> None:
        """Refuse a grey level of white that does not fit the files."""
        if self._white == _DEEP:
            return
        highest = max(scan.peaks)
        if not highest:
            raise BenchboxError(f"--white {self._white}: {root} has no 16-bit image", hint="omit --white")
        if highest > self._white:
            name = scan.names[scan.peaks.index(highest)]
            raise BenchboxError(
                f"--white {self._white}: {root / name} has grey level {highest}",
                hint="give the grey level of white, such as 4095 for 12-bit data",
            )


class _Reader:
    """Decodes images on demand and keeps the most recently used ones, up to `_KEPT_BYTES`."""

    def __init__(self, root: Path, names: tuple[str, ...], shapes: NDArray[np.int64], white: int, rgb: bool) -> None:
        self._root = root
        self._white = white
        self._names = names
        self._shapes = shapes
        self._rgb = rgb
        self._kept: dict[int, tuple[_Pixels, int]] = {}
        self._bytes = 0

    def __call__(self, indices: NDArray[np.intp]) -> Images:
        """Return images of one size as float32 in [0, 1]."""
        size = self._shapes[indices[0]] if len(indices) else (0, 0)
        images = np.empty((len(indices), *size, 3) if self._rgb else (len(indices), *size), dtype=np.float32)
        for image, index in zip(images, indices.tolist(), strict=True):
            pixels, white = self._pixels(index)
            np.divide(pixels, np.float32(self._white if white == _DEEP else white), out=image, dtype=np.float32)
        return images

    def _pixels(self, index: int) -> tuple[_Pixels, int]:
        """Pixels of an image, and its grey level of white."""
        kept = self._kept.pop(index, None)
        if kept is None:
            path = self._root / self._names[index]
            try:
                picture = decode_file(path)
                if picture.grey.shape != tuple(self._shapes[index]):
                    raise UnreadableImage("its size has changed")
                if self._rgb and picture.rgb is None:
                    raise UnreadableImage("it has lost its colour")
            except UnreadableImage as problem:
                raise BenchboxError(
                    f"{path}: {problem}", hint="the file changed during the run; start the run again"
                ) from problem
            kept = picture.rgb if self._rgb and picture.rgb is not None else picture.grey, picture.white
            self._bytes += kept[0].nbytes
        self._kept[index] = kept
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.pop(next(iter(self._kept)))[0].nbytes
        return kept


def _is_image(name: str) -> bool:
    """Whether a name has the suffix of any image format."""
    return is_image_name(name) or is_other_image_name(name)


def list_images(
    folder: Path, prefix: str = "", parents: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, int, int, int]]:
    """Relative path, size and timestamps of each image, without hidden folders and symbolic links to a parent."""
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in parents:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    if not entry.name.startswith("."):
                        yield from list_images(Path(entry.path), f"{prefix}{entry.name}/", parents | {identity})
                elif _is_image(entry.name):
                    yield entry_of(Path(entry.path), prefix + entry.name)
    except OSError as error:
        raise BenchboxError(f"{folder}: {error.strerror}", hint="check the folder and its permissions") from error


def entry_of(path: Path, name: str) -> tuple[str, int, int, int]:
    """A file for `scan_images`: its name, size and timestamps."""
    status = path.stat(follow_symlinks=True) if path.exists() else path.lstat()
    return name, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def scan_images(root: Path, files: list[tuple[str, int, int, int]], skip_bad: bool) -> Scan:
    """Decode every image once, or load the cached result of an earlier pass over the same, unchanged files."""
    import xxhash

    hasher = xxhash.xxh3_128(f"{_FORMAT} {root.resolve()}\n".encode("utf-8", "surrogateescape"))
    for file in files:
        hasher.update(("\0".join(map(str, file)) + "\n").encode("utf-8", "surrogateescape"))
    cache = CacheFolder("images")
    entry = f"{hasher.hexdigest()}.json"
    cached = cache.read_json(entry)
    scan = Scan(**cached) if cached is not None else _first_scan(root, [name for name, *_ in files])
    if cached is None:
        cache.write_json(entry, asdict(scan))
    if scan.skipped and not skip_bad:
        name, (problem, remedy) = next(iter(scan.skipped.items()))
        more = f" ({len(scan.skipped) - 1} more cannot be read)" if len(scan.skipped) > 1 else ""
        raise BenchboxError(f"{root / name}: {problem}{more}", hint=f"{remedy}, or skip it with --skip-bad")
    if not scan.names:
        name, (problem, remedy) = next(iter(scan.skipped.items()))
        raise BenchboxError(
            f"{root}: no image of {len(files)} can be decoded, the first, {name}, because {problem}", hint=remedy
        )
    return scan


def _first_scan(root: Path, names: list[str]) -> Scan:
    scan = Scan()
    for name, facts in decode_files(root, names, _facts_of):
        if isinstance(facts, UnreadableImage):
            scan.skipped[name] = (str(facts), facts.remedy)
            continue
        scan.names.append(name)
        scan.shapes.append(facts.shape)
        scan.digests.append(facts.digest)
        scan.colours.append(facts.colours)
        scan.peaks.append(facts.peak)
        scan.alpha += facts.alpha
        scan.paged += facts.paged
    return scan


def _facts_of(picture: Picture) -> _ImageFacts:
    height, width = picture.grey.shape
    stored = picture.grey if picture.rgb is None else picture.rgb
    peak = int(stored.max()) if picture.white == _DEEP else 0
    colours = "" if picture.rgb is None else _content_of(picture.rgb, picture.white)
    grey = _content_of(picture.grey, picture.white)
    return _ImageFacts((height, width), grey, colours, peak, picture.alpha, picture.paged)


def _content_of(pixels: _Pixels, white: int) -> str:
    """Digest of an image's pixels, with all that decides what they mean."""
    import xxhash

    shape = "x".join(map(str, pixels.shape))
    content = f"{pixels.dtype} {shape} {xxhash.xxh3_128_hexdigest(np.ascontiguousarray(pixels).data)}"
    return content if white in (_DEEP, 255) else f"{content} {white}"


def _notes(scan: Scan, white: int, rgb: bool) -> Iterator[str]:
    total = len(scan.names)
    highest = max(scan.peaks)
    depth = next((bits for bits in _DEPTHS if highest < 1 << bits), 0)
    if highest and depth and white == _DEEP:
        yield (
            f"dark: the largest grey level of the 16-bit images is {highest:,} of 65,535; "
            f"if they hold {depth}-bit data, score them with --white {(1 << depth) - 1}"
        )
    coloured = total - scan.colours.count("")
    if coloured and not rgb:
        first = next(name for name, colours in zip(scan.names, scan.colours, strict=True) if colours)
        mixed = f" (first {filename_text(first)})", ", because the others are grey"
        which, why = mixed if coloured < total else ("", "")
        yield f"colour: {coloured:,} of {total:,} images{which}, converted to luminance (ITU-R BT.601){why}"
    if scan.alpha:
        yield f"transparency: {scan.alpha} of {total} images; it is ignored"
    if scan.paged:
        yield f"several pages: {scan.paged} of {total} images; only the first page is used"
    if scan.shapes and set(map(tuple, scan.shapes)) == {_FACE}:
        yield (
            "all images are 48x48 like FER2013 faces, but their folders do not name its splits: "
            "networks trained on FER2013 may have seen them"
        )
    if scan.skipped:
        name, (problem, _) = next(iter(scan.skipped.items()))
        bad = len(scan.skipped)
        yield f"skipped: {bad} of {total + bad} images, first {filename_text(name)}: {problem}"
