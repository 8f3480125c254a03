"""Any folder of images: any sizes, 8 or 16 bit, grey or colour, decoded on demand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.api.dataset import Dataset, ImageSet, fingerprint_of
from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.image_files import Picture, UnreadableImage, decode_file, decode_files, is_image_name
from benchbox.builtin.datasets.sniff import require_exists
from benchbox.system.cache import CacheFolder
from benchbox.system.text import filename_text, unique_ids

_KEPT_BYTES = 64 << 20
_FORMAT = 1
_FACE = (48, 48)
_NOISY = frozenset({"noisy", "input", "input_crops", "lq", "real", "raw", "low"})
_CLEAN = frozenset({"clean", "gt", "gt_crops", "target", "target_crops", "reference", "mean", "original", "hr"})


@dataclass
class _Scan:
    """What a first pass over all pictures found; lists have one entry a picture that decodes."""

    names: list[str] = field(default_factory=list)
    shapes: list[tuple[int, int]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    colour: int = 0
    alpha: int = 0
    paged: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Finding:
    """What the first pass keeps of a picture."""

    shape: tuple[int, int]
    digest: str
    colour: bool
    alpha: bool
    paged: bool


class ImageFolder(Dataset):
    """A picture, or all pictures of a folder and the folders in it: PNG, JPEG, TIFF or BMP.

    Grey levels become float32 by division by 255 (8 bit) or 65535 (16 bit). Colour becomes luminance, Y = 0.299 R +
    0.587 G + 0.114 B (ITU-R BT.601). An image's id is its path relative to the folder. The first call decodes every
    picture to find damaged ones; what it learns is cached, the pixels are not.
    """

    name = "images"
    summary = "a folder of PNG, JPEG, TIFF or BMP files, 8 or 16 bit, grey or colour, of any sizes"

    def recognises(self, path: Path) -> bool:
        """Whether `path` is a picture or a folder with one, however deep."""
        if path.is_file():
            return is_image_name(path.name)
        return next(_pictures(path), None) is not None

    def load(self, path: Path | None, *, split: str = "", skip_bad: bool = False) -> ImageSet:
        """Open a folder.

        Parameters
        ----------
        path : Path
            Folder or single picture.
        split : str
            Empty; there are no splits.
        skip_bad : bool
            Leave out pictures that do not decode.

        Returns
        -------
        ImageSet

        Raises
        ------
        BenchboxError
            There is no picture, or one does not decode.
        """
        if path is None:
            raise BenchboxError("images needs a folder", hint="give one: --data FOLDER")
        if split:
            raise BenchboxError(
                f"images has no split '{split}'", hint="give the folder of that split as --data instead"
            )
        require_exists(path)
        root = path if path.is_dir() else path.parent
        files = sorted(_pictures(path)) if path.is_dir() else [_listed(path, path.name)]
        _refuse_pairs(root, [name for name, *_ in files])
        if not files:
            raise BenchboxError(
                f"{path}: no image in this folder or below it",
                hint="files are taken whose names end in .png, .jpg, .jpeg, .tif, .tiff or .bmp",
            )
        scan = _scan(root, files, skip_bad)
        shapes = np.array(scan.shapes, dtype=np.int64)
        ids = unique_ids(scan.names)
        return ImageSet(
            dataset=self.name,
            split="",
            ids=ids,
            shapes=shapes,
            fingerprint=fingerprint_of(ids, scan.digests),
            read=_Reader(root, tuple(scan.names), shapes),
            notes=tuple(_notes(scan)),
        )


class _Reader:
    """Decodes pictures when asked, and keeps a bounded number of bytes of those last used."""

    def __init__(self, root: Path, names: tuple[str, ...], shapes: NDArray[np.int64]) -> None:
        self._root = root
        self._names = names
        self._shapes = shapes
        self._kept: dict[int, NDArray[np.uint8] | NDArray[np.uint16]] = {}
        self._bytes = 0

    def __call__(self, indices: NDArray[np.intp]) -> Images:
        """Give images of one size as float32 in [0, 1]."""
        height, width = self._shapes[indices[0]] if len(indices) else (0, 0)
        images = np.empty((len(indices), height, width), dtype=np.float32)
        for image, index in zip(images, indices.tolist(), strict=True):
            picture = self._picture(index)
            np.divide(picture, np.float32(np.iinfo(picture.dtype).max), out=image, dtype=np.float32)
        return images

    def _picture(self, index: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        picture = self._kept.pop(index, None)
        if picture is None:
            path = self._root / self._names[index]
            try:
                picture = decode_file(path).grey
                if picture.shape != tuple(self._shapes[index]):
                    raise UnreadableImage("its size is another one than before")
            except UnreadableImage as problem:
                raise BenchboxError(
                    f"{path}: {problem}", hint="the file changed during the run; start again"
                ) from problem
            self._bytes += picture.nbytes
        self._kept[index] = picture
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.pop(next(iter(self._kept))).nbytes
        return picture


def _pictures(
    folder: Path, below: str = "", above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, int, int, int]]:
    """Relative path, size and times of change of each picture; hidden folders and links that lead back are left out."""
    try:
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    if not entry.name.startswith("."):
                        yield from _pictures(Path(entry.path), f"{below}{entry.name}/", above | {here})
                elif is_image_name(entry.name):
                    yield _listed(Path(entry.path), below + entry.name)
    except OSError as error:
        raise BenchboxError(f"{folder}: {error.strerror}", hint="check the folder and its permissions") from error


def _listed(path: Path, name: str) -> tuple[str, int, int, int]:
    status = path.stat(follow_symlinks=True) if path.exists() else path.lstat()
    return name, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _refuse_pairs(root: Path, names: list[str]) -> None:
    """Refuse a folder with noisy pictures beside their clean ones: noise would be added to what is noisy already."""
    folders = {name.rpartition("/")[0] for name in names if "/" in name}
    noisy, clean = (
        sorted(folder for folder in folders if folder.rpartition("/")[2].lower() in words) for words in (_NOISY, _CLEAN)
    )
    if noisy and clean:
        raise BenchboxError(
            f"{root} holds noisy pictures in {filename_text(noisy[0])}/ "
            f"beside clean ones in {filename_text(clean[0])}/",
            hint=f"give the clean ones alone: --data {root / clean[0]}",
        )


def _scan(root: Path, files: list[tuple[str, int, int, int]], skip_bad: bool) -> _Scan:
    """Decode every picture once, or recall what an earlier pass over the same files found."""
    import xxhash

    hasher = xxhash.xxh3_128(f"{_FORMAT} {root.resolve()}\n".encode("utf-8", "surrogateescape"))
    for one in files:
        hasher.update(("\0".join(map(str, one)) + "\n").encode("utf-8", "surrogateescape"))
    cache = CacheFolder("images")
    entry = f"{hasher.hexdigest()}.json"
    known = cache.read_json(entry)
    scan = _Scan(**known) if known is not None else _first_scan(root, [name for name, *_ in files])
    if known is None:
        cache.write_json(entry, asdict(scan))
    if scan.skipped and not skip_bad:
        name, problem = next(iter(scan.skipped.items()))
        others = f" ({len(scan.skipped) - 1} more are bad)" if len(scan.skipped) > 1 else ""
        raise BenchboxError(f"{root / name}: {problem}{others}", hint="replace the file, or go on without: --skip-bad")
    if not scan.names:
        raise BenchboxError(
            f"{root}: none of {len(files)} images decodes",
            hint="; ".join(map(": ".join, [*(scan.skipped or {}).items()][:1])),
        )
    return scan


def _first_scan(root: Path, names: list[str]) -> _Scan:
    scan = _Scan()
    for name, found in decode_files(root, names, _look_at):
        if isinstance(found, UnreadableImage):
            scan.skipped[name] = str(found)
            continue
        scan.names.append(name)
        scan.shapes.append(found.shape)
        scan.digests.append(found.digest)
        scan.colour += found.colour
        scan.alpha += found.alpha
        scan.paged += found.paged
    return scan


def _look_at(picture: Picture) -> _Finding:
    import xxhash

    grey = np.ascontiguousarray(picture.grey)
    height, width = grey.shape
    digest = xxhash.xxh3_128_hexdigest(grey.data)
    return _Finding(
        (height, width), f"{grey.dtype} {height}x{width} {digest}", picture.colour, picture.alpha, picture.paged
    )


def _notes(scan: _Scan) -> Iterator[str]:
    total = len(scan.names)
    if scan.colour:
        yield f"colour: {scan.colour} of {total} images; their luminance (ITU-R BT.601) is used"
    if scan.alpha:
        yield f"transparency: {scan.alpha} of {total} images; it is ignored"
    if scan.paged:
        yield f"several pages: {scan.paged} of {total} images; the first page is used"
    if scan.shapes and set(map(tuple, scan.shapes)) == {_FACE}:
        yield (
            "all images are 48x48 like the faces of FER2013, but their folders do not tell its splits: "
            "networks that were trained on it may have seen them"
        )
    if scan.skipped:
        name, problem = next(iter(scan.skipped.items()))
        bad = len(scan.skipped)
        yield f"damaged: {bad} of {total + bad} images left out, the first {filename_text(name)}: {problem}"
