"""Pictures side by side: the gallery of a noise, with error maps and scores, and contact sheets of duplicates."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.records.run import MetricRecord
from benchbox.report.board import Block
from benchbox.report.words import score
from benchbox.store import IMAGE, RunStore, class_columns, noise_key

Picture = NDArray[np.float32]

CROPPED_NOTE = "Large images are cropped to where they have most detail; their scores cover the whole image."

_CAPTIONED = 2
"""Number of metrics in the caption of a picture."""
_LONGEST = 13
"""Longest name or unit in a caption, in characters."""
STEPS = 16
"""Colours of an error map."""
THUMB = 64
MEMBERS = 8
GROUPS = 400
"""Most images per group and most groups in a contact sheet."""

_WIDTH = 1600
_LABEL = 12
_GAP = 6


@dataclass(frozen=True)
class StoredPictures:
    """The stored pictures of a noise.

    Attributes
    ----------
    images, repeats : list of int
        Image index and repeat of each picture.
    denoised : dict of str to list of ndarray
        By denoiser, best first.
    cropped : bool
        Whether a picture shows only a part of its image.
    floors : frozenset of str
        Denoisers that return their input unchanged.
    """

    images: list[int]
    repeats: list[int]
    why: list[str]
    clean: list[Picture]
    noisy: list[Picture]
    denoised: dict[str, list[Picture]]
    cropped: bool
    floors: frozenset[str]


@dataclass(frozen=True)
class Tile:
    """One picture of the gallery.

    Attributes
    ----------
    address, error : str
        Data URLs of the picture and its error map; the latter may be empty.
    scores : tuple of str
        Caption.
    """

    title: str
    alt: str
    address: str
    error: str
    scores: tuple[str, ...]
    width: int
    height: int


@dataclass(frozen=True)
class GalleryRow:
    """One image in all its versions: clean, noisy, and denoised."""

    title: str
    why: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Gallery:
    """The gallery of a noise.

    Attributes
    ----------
    largest : float
        Error shown in the brightest colour.
    missing : tuple of str
        Denoisers without pictures.
    left_out : int
        Number of images omitted to limit the size of the page.
    note : str
        A remark below the gallery; may be empty.
    """

    columns: tuple[str, ...]
    rows: tuple[GalleryRow, ...]
    largest: float
    missing: tuple[str, ...]
    left_out: int
    note: str


def read_pictures(store: RunStore, block: Block) -> StoredPictures | None:
    """Read the pictures of a noise; None if the run kept none."""
    columns, pictures = store.previews(noise_key(block.spec))
    if not columns:
        return None
    cells = store.record.cells_on(block.spec)
    denoised = {}
    for row in block.rows:
        own, made = store.previews(cells[row.spec].key)
        if own and all(np.array_equal(own[name], columns[name]) for name in (IMAGE, "repeat")):
            denoised[row.denoiser] = made["denoised"]
    images, repeats = columns[IMAGE].tolist(), columns["repeat"].tolist()
    why, clean, noisy = columns["why"].tolist(), pictures["clean"], pictures["noisy"]
    floors = frozenset(row.denoiser for row in block.rows if row.is_floor)
    cropped = _is_cropped(store.images(), images, clean)
    return StoredPictures(images, repeats, why, clean, noisy, denoised, cropped, floors)


def make_gallery(store: RunStore, block: Block, stored: StoredPictures, max_bytes: int) -> Gallery:
    """Lay out the gallery of a noise in at most `max_bytes`; images beyond that are omitted, but never the first."""
    firsts = [place for place, repeat in enumerate(stored.repeats) if repeat == 0]
    largest = common_scale(stored)
    scores = scores_of(store, block, list(stored.denoised))
    seen = classes_seen(store, block, stored)
    ids = store.images()["id"]
    rows: list[GalleryRow] = []
    size = 0
    for place in firsts:
        row = _gallery_row(stored, place, str(ids[stored.images[place]]), largest, scores, seen)
        size += sum(len(tile.address) + len(tile.error) for tile in row.tiles)
        if rows and size > max_bytes:
            break
        rows.append(row)
    missing = [row.denoiser for row in block.rows if row.scores and row.denoiser not in stored.denoised]
    columns = ("clean", "noisy", *(name for name in stored.denoised))
    left_out = len(firsts) - len(rows)
    return Gallery(columns, tuple(rows), largest, tuple(missing), left_out, CROPPED_NOTE if stored.cropped else "")


def scores_of(store: RunStore, block: Block, denoisers: Sequence[str]) -> dict[str, dict[int, tuple[str, ...]]]:
    """Captions by denoiser and image: scores of the first repeat in the first shown metrics."""
    cells = store.record.cells_on(block.spec)
    specs = {row.denoiser: row.spec for row in block.rows}
    shown = tuple(metric for metric in store.record.metrics if metric.shown)
    metrics = (shown or store.record.metrics)[:_CAPTIONED]
    captions: dict[str, dict[int, tuple[str, ...]]] = {}
    for denoiser in denoisers:
        columns = store.scores(cells[specs[denoiser]].key)
        # Images with missing scores get an empty caption.
        lines: dict[int, tuple[str, ...]] = defaultdict(tuple)
        captions[denoiser] = lines
        if not columns:
            continue
        first = columns["repeat"] == 0
        for metric in metrics:
            for image, value in zip(columns[IMAGE][first].tolist(), columns[metric.spec][first].tolist(), strict=True):
                lines[image] += (_caption(value, metric),)
    return captions


def classes_seen(store: RunStore, block: Block, stored: StoredPictures) -> list[dict[int, str]]:
    """What the first classifier of a run sees in the first repeat of each image: clean, noisy, and by denoiser."""
    clean: dict[int, str] = {}
    noisy: dict[int, str] = {}
    seen: dict[str, dict[int, str]] = {name: {} for name in stored.denoised}
    cells = store.record.cells_on(block.spec)
    for row in block.rows if block.recognition else ():
        asked = block.recognition[0]
        columns = store.scores(cells[row.spec].key) if row.denoiser in seen else {}
        found = []
        for column in class_columns(asked.metric):
            if column in columns and columns[column].dtype.kind in "iu":
                first = columns["repeat"] == 0
                numbers = zip(columns[IMAGE][first].tolist(), columns[column][first].tolist(), strict=True)
                found.append(
                    {image: asked.classes[number] for image, number in numbers if 0 <= number < len(asked.classes)}
                )
        if len(found) == 2:
            clean, seen[row.denoiser] = found
            noisy = seen[row.denoiser] if row.is_floor else noisy
    return [clean, noisy, *seen.values()]


def _caption(value: float, metric: MetricRecord) -> str:
    """A score with the unit or, without one, the title of its metric, shortened to fit below a picture."""
    number = score(value, metric)
    return f"{number} {_cut(metric.unit)}" if metric.unit else f"{_cut(metric.title)} {number}"


def _cut(word: str) -> str:
    return word if len(word) <= _LONGEST else f"{word[: _LONGEST - 1]}…"


def common_scale(stored: StoredPictures) -> float:
    """Error shown in the brightest colour: the 99th percentile over all results, to two digits."""
    errors = [
        error_of(picture, stored.clean[place]).ravel()
        for name, pictures in stored.denoised.items()
        if name not in stored.floors
        for place, picture in enumerate(pictures)
    ]
    # Neither a floor, whose error is the noise itself, nor a single pixel should make all other maps dark.
    everything = np.concatenate(errors) if errors else np.zeros(1)
    return max(float(f"{np.percentile(everything, 99):.1e}"), 1e-3)


def _is_cropped(whole: Mapping[str, NDArray[Any]], images: Sequence[int], pictures: Sequence[Picture]) -> bool:
    """Whether a picture is smaller than its image, if image sizes are recorded."""
    shapes = np.array([picture.shape[:2] for picture in pictures])
    return any(
        bool((shapes[:, axis] < whole[name][images]).any())
        for axis, name in enumerate(("height", "width"))
        if name in whole and whole[name].dtype.kind in "iu"
    )


def _gallery_row(
    stored: StoredPictures,
    place: int,
    name: str,
    largest: float,
    scores: Mapping[str, Mapping[int, tuple[str, ...]]],
    seen: Sequence[Mapping[int, str]],
) -> GalleryRow:
    clean, noisy, image = stored.clean[place], stored.noisy[place], stored.images[place]
    of_clean, of_noisy, *of_denoised = [(f"seen: {words[image]}",) if image in words else () for words in seen]
    tiles = [_tile("clean", f"{name}, clean", clean, None, of_clean)]
    tiles.append(_tile("noisy", f"{name}, noisy", noisy, (error_of(noisy, clean), largest), of_noisy))
    for (denoiser, pictures), of_this in zip(stored.denoised.items(), of_denoised, strict=True):
        made = pictures[place]
        alt = f"{name}, denoised by {denoiser}"
        captions = (*scores[denoiser][image], *of_this)
        tiles.append(_tile(denoiser, alt, made, (error_of(made, clean), largest), captions))
    return GalleryRow(name, stored.why[place], tuple(tiles))


def _tile(title: str, alt: str, picture: Picture, error: tuple[Picture, float] | None, scores: tuple[str, ...]) -> Tile:
    height, width = picture.shape[:2]
    error_address = data_address(error_png(*error)) if error else ""
    return Tile(title, alt, data_address(png_of(picture)), error_address, scores, width, height)


def png_of(picture: NDArray[np.float32]) -> bytes:
    """Encode an image, grey or RGB, clipped to [0, 1], as an 8-bit PNG."""
    from PIL import Image

    sink = io.BytesIO()
    pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(sink, format="PNG", optimize=True)
    return sink.getvalue()


def error_of(picture: NDArray[np.float32], clean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Size of the error of each pixel, shape (H, W); in colour, the root mean square over the channels."""
    error: NDArray[np.float32] = np.abs(picture - clean)
    return error if error.ndim == 2 else np.sqrt(np.square(error).mean(axis=2))


def error_png(error: NDArray[np.float32], largest: float) -> bytes:
    """Encode an error map from 0 (dark) to `largest` or more (bright) in the colour map cividis."""
    from PIL import Image

    sink = io.BytesIO()
    step = np.minimum(error / largest * STEPS, STEPS - 1).astype(np.uint8)
    image = Image.fromarray(step, mode="P")
    image.putpalette(_palette())
    image.save(sink, format="PNG", optimize=True, bits=4)
    return sink.getvalue()


def data_address(png: bytes) -> str:
    """A data URL of a PNG."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def scale_css() -> str:
    """The colour scale of error maps as a CSS gradient."""
    colours = np.reshape(_palette(), (-1, 3))
    return f"linear-gradient(to right, {', '.join(f'rgb({r} {g} {b})' for r, g, b in colours.tolist())})"


def _palette() -> list[int]:
    from matplotlib import colormaps

    colours = colormaps["cividis"](np.linspace(0, 1, STEPS))[:, :3]
    return [int(value) for value in np.rint(colours * 255).astype(np.uint8).ravel()]


def write_contact_sheet(path: Path, sets: Sequence[ImageSet], groups: Sequence[tuple[str, Sequence[int]]]) -> int:
    """Draw groups of images into a PNG file and return the number of groups drawn.

    Each group has an ASCII label and the indices of its images, counted across all sets. At most `GROUPS` groups and
    `MEMBERS` images per group are drawn.
    """
    import cv2

    drawn = groups[:GROUPS]
    lines = list(_lines([_group(sets, label, members) for label, members in drawn]))
    sheet = np.concatenate(lines) if lines else np.full((THUMB, THUMB, 3), 255, dtype=np.uint8)
    try:
        path.write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())  # OpenCV's order is blue, green, red
    except OSError as error:
        raise BenchboxError(f"cannot write {path}: {error.strerror}", hint="choose another file") from error
    return len(drawn)


def _group(sets: Sequence[ImageSet], label: str, members: Sequence[int]) -> NDArray[np.uint8]:
    import cv2

    thumbnails = np.concatenate([_thumbnail(sets, member) for member in members[:MEMBERS]], axis=1)
    drawn = np.full((THUMB + _LABEL + _GAP, thumbnails.shape[1] + _GAP, 3), 255, dtype=np.uint8)
    drawn[_LABEL : _LABEL + THUMB, : thumbnails.shape[1]] = thumbnails
    cv2.putText(drawn, label, (0, _LABEL - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (0, 0, 0), 1, cv2.LINE_AA)
    return drawn


def _thumbnail(sets: Sequence[ImageSet], place: int) -> NDArray[np.uint8]:
    import cv2

    for images in sets:
        if place < len(images):
            image = images.stack(np.array([place]))[0]
            scaled = cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
            levels = np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
            return levels if levels.ndim == 3 else np.repeat(levels[..., np.newaxis], 3, axis=2)
        place -= len(images)
    raise IndexError(place)


def _lines(drawn: Sequence[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Arrange the groups side by side in lines."""
    line: list[NDArray[np.uint8]] = []
    for image in [*drawn, None]:
        used = sum(group.shape[1] for group in line)
        if line and (image is None or used + image.shape[1] > _WIDTH):
            yield np.pad(np.concatenate(line, axis=1), ((0, 0), (0, _WIDTH - used), (0, 0)), constant_values=255)
            line = []
        if image is not None:
            line.append(image)
