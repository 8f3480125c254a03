"""The built-in sample: 48x48 tiles of photographs that ship with scikit-image, in grey or in colour."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.api.dataset import Dataset, ImageSet, fingerprint_of
from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.faces import SIDE
from benchbox.records.options import Color
from benchbox.system.files import CacheFolder

_WHITE = np.float32(255)
_VERSION = 1
"""Of the tiles in the cache folder; to be increased when they are computed in another way."""


@dataclass(frozen=True)
class _Photograph:
    """A grid of adjacent tiles in a photograph."""

    file: str
    """PNG in scikit-image's data folder; decoders disagree on JPEGs."""
    shrink: int
    """Side of the pixel blocks that are averaged first, so that a tile shows about as much as a FER2013 face."""
    top: int
    left: int
    """Corner of the first tile in the shrunken photograph."""
    rows: int
    columns: int
    colour: bool = True


_PHOTOGRAPHS = (
    _Photograph("astronaut.png", 3, 10, 51, 1, 1),  # her face
    _Photograph("astronaut.png", 2, 8, 8, 5, 5),
    _Photograph("camera.png", 2, 8, 8, 5, 5, colour=False),
    _Photograph("chelsea.png", 2, 3, 16, 3, 4),
    _Photograph("coffee.png", 2, 4, 6, 4, 6),
    _Photograph("coins.png", 2, 3, 0, 3, 4, colour=False),
    _Photograph("motorcycle_left.png", 2, 5, 17, 5, 7),
    _Photograph("brick.png", 4, 16, 16, 2, 2, colour=False),
    _Photograph("gravel.png", 4, 16, 16, 2, 2, colour=False),
)


class Sample(Dataset):
    """48x48 tiles of eight photographs in scikit-image's wheel; the first is the astronaut's face.

    In colour, only tiles of colour photographs. Otherwise these are converted to luminance (ITU-R BT.601). Photographs
    are averaged over blocks of 2x2 pixels (3x3 for the face, 4x4 for the two textures), rounded to 8 bits and cut at
    fixed positions. The sample shows that benchbox works and roughly how denoisers rank; use a real data set for
    results that you publish.
    """

    name = "sample"
    built_in = True
    summary = "built-in 48x48 tiles of scikit-image's photographs, grey, or with --color rgb in colour"
    caveat = "The data are the built-in sample of photographs, which is not an established benchmark."
    reference = "van der Walt et al. 2014, doi:10.7717/peerj.453"

    def __init__(self, color: Color = "auto") -> None:
        self._rgb = color == "rgb"

    def colored(self, color: Color) -> Sample:
        """See `Dataset.colored`; 'auto' is grey, because some of the photographs are."""
        return Sample(color)

    def recognises(self, path: Path) -> bool:
        """Return False: no path is the built-in sample."""
        return False

    def load(self, path: Path | None, *, split: str = "", skip_bad: bool = False) -> ImageSet:
        """Open the sample; raises `BenchboxError` if a path or split is given or scikit-image lacks a photograph."""
        if path is not None:
            raise BenchboxError(f"sample is built in and does not read {path}", hint="omit --dataset or --data")
        if split:
            raise BenchboxError(f"sample has no split '{split}'", hint="omit --split")
        ids, tiles = _tiles(self._rgb)

        def read(indices: NDArray[np.intp]) -> Images:
            return np.divide(tiles[indices], _WHITE, dtype=np.float32)

        return ImageSet(
            dataset=self.name,
            split="",
            ids=ids,
            shapes=np.full((len(ids), 2), SIDE, dtype=np.int64),
            fingerprint=fingerprint_of(ids, [xxhash.xxh3_128_hexdigest(tiles.tobytes())]),
            read=read,
            channels=3 if self._rgb else 1,
            notes=(
                f"built-in sample: {len(ids)} {'colour ' if self._rgb else ''}tiles of scikit-image's photographs; "
                "for the faces of FER2013 add --data fer2013.csv",
            ),
        )


@functools.cache
def _tiles(rgb: bool) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Ids and pixels; the pixels have shape (N, 48, 48), or (N, 48, 48, 3) for the tiles in colour."""
    places = [
        (photograph, photograph.top + row * SIDE, photograph.left + column * SIDE)
        for photograph in _PHOTOGRAPHS
        if photograph.colour or not rgb
        for row in range(photograph.rows)
        for column in range(photograph.columns)
    ]
    ids = tuple(
        f"{photograph.file.removesuffix('.png')}/{photograph.shrink}/{top}-{left}" for photograph, top, left in places
    )
    # Every worker opens the sample, and decoding takes longer than most filters on all of its tiles, so they are kept.
    cache, entry = CacheFolder("sample"), _entry(rgb)
    if (kept := cache.read(entry)) is not None:
        return ids, np.frombuffer(kept, np.uint8).reshape(len(ids), SIDE, SIDE, *(3,) * rgb)
    tiles = np.stack(
        [
            _shrunken(photograph.file, photograph.shrink, rgb)[top : top + SIDE, left : left + SIDE]
            for photograph, top, left in places
        ]
    )
    with contextlib.suppress(BenchboxError):  # a cache folder that cannot be written costs time only
        cache.write(entry, tiles.tobytes())
    return ids, tiles


def _entry(rgb: bool) -> str:
    """Name of the kept tiles: another one for other photographs, or another choice of tiles."""
    folder, states = _data_folder(), []
    for file in sorted({photograph.file for photograph in _PHOTOGRAPHS}):
        with contextlib.suppress(OSError):  # decoding says what is wrong with it
            state = (folder / file).stat()
            states.append((file, state.st_size, state.st_mtime_ns))
    return xxhash.xxh3_128_hexdigest(repr((_VERSION, rgb, _PHOTOGRAPHS, states)).encode())


@functools.cache
def _shrunken(file: str, shrink: int, rgb: bool = False) -> NDArray[np.uint8]:
    """Luminance or colour of a photograph averaged over blocks, in integers, so the same on every machine."""
    import cv2

    data = _data_folder() / file
    try:
        image: Any = cv2.imdecode(np.fromfile(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        raise BenchboxError(
            f"{data}: {error.strerror or error}",
            hint="reinstall scikit-image: pip install --force-reinstall scikit-image",
        ) from error
    blue, green, red = (image[:, :, channel].astype(np.int64) for channel in range(3))
    thousandths = 1000 * np.stack([red, green, blue], axis=2) if rgb else 299 * red + 587 * green + 114 * blue
    height, width = (side // shrink for side in thousandths.shape[:2])
    whole_blocks = thousandths[: height * shrink, : width * shrink]
    blocks = whole_blocks.reshape(height, shrink, width, shrink, *thousandths.shape[2:]).sum(axis=(1, 3))
    whole = 1000 * shrink * shrink
    shrunken: NDArray[np.uint8] = ((blocks + whole // 2) // whole).astype(np.uint8)
    return shrunken


def _data_folder() -> Path:
    """Folder of scikit-image's photographs, found without importing the package."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise BenchboxError("scikit-image is not installed", hint="pip install scikit-image")
    return Path(spec.submodule_search_locations[0]) / "data"
