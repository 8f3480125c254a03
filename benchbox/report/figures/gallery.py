"""The gallery of a noise: images in rows, denoisers in columns, each with error map and scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.report.board import Block, MetricColumn
from benchbox.report.figures.images import data_address, error_png, grey_png
from benchbox.report.rows import column_of
from benchbox.report.words import metric_title, score
from benchbox.store import IMAGE, RunStore, noise_key

Picture = NDArray[np.float32]

CUT = "Of a large image only the middle is shown; its scores are of the whole."

_CAPTIONED = 2
"""Metrics whose scores are written below a picture."""
_LONGEST = 12
"""Characters of a name or unit there."""


@dataclass(frozen=True)
class Stored:
    """The pictures of a noise, as stored.

    Attributes
    ----------
    images, repeats : list of int
        Of each picture.
    why : list of str
    clean, noisy : list of ndarray of float32, each of shape (H, W)
    denoised : dict of str to list of ndarray
        By denoiser, best first.
    cut : bool
        Whether a picture is only the middle of its image.
    floors : frozenset of str
        Denoisers that return their input unchanged.
    """

    images: list[int]
    repeats: list[int]
    why: list[str]
    clean: list[Picture]
    noisy: list[Picture]
    denoised: dict[str, list[Picture]]
    cut: bool
    floors: frozenset[str]


@dataclass(frozen=True)
class Tile:
    """One picture of the gallery.

    Attributes
    ----------
    title, alt : str
    address, error : str
        Data addresses of the picture and its error map; the latter empty where there is none.
    scores : tuple of str
        What stands below it.
    width, height : int
    """

    title: str
    alt: str
    address: str
    error: str
    scores: tuple[str, ...]
    width: int
    height: int


@dataclass(frozen=True)
class Shelf:
    """One image with all that was made of it."""

    title: str
    why: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Gallery:
    """The gallery of a noise.

    Attributes
    ----------
    columns : tuple of str
    shelves : tuple of Shelf
    largest : float
        Error of the brightest colour.
    missing : tuple of str
        Denoisers that have no pictures.
    left_out : int
        Images that the page's size had no room for.
    note : str
        What else a reader must know.
    """

    columns: tuple[str, ...]
    shelves: tuple[Shelf, ...]
    largest: float
    missing: tuple[str, ...]
    left_out: int
    note: str


def read_pictures(store: RunStore, block: Block) -> Stored | None:
    """Read the pictures of a noise; None where the run kept none."""
    columns, pictures = store.previews(noise_key(block.spec))
    if not columns:
        return None
    cells = {cell.denoiser: cell for cell in store.record.cells if cell.noise == block.spec and cell.sigma_factor == 1}
    denoised = {}
    for row in block.rows:
        own, made = store.previews(cells[row.spec].key)
        if own and all(np.array_equal(own[name], columns[name]) for name in (IMAGE, "repeat")):
            denoised[row.denoiser] = made["denoised"]
    images, repeats = columns[IMAGE].tolist(), columns["repeat"].tolist()
    why, clean, noisy = columns["why"].tolist(), pictures["clean"], pictures["noisy"]
    floors = frozenset(row.denoiser for row in block.rows if row.is_floor)
    return Stored(images, repeats, why, clean, noisy, denoised, _is_cut(store.images(), images, clean), floors)


def make_gallery(store: RunStore, block: Block, stored: Stored, room: int) -> Gallery:
    """Lay out the gallery of a noise.

    Parameters
    ----------
    store : RunStore
    block : Block
    stored : Stored
    room : int
        Bytes that it may take on the page; images beyond are left out, the first one never.

    Returns
    -------
    Gallery
    """
    firsts = [place for place, repeat in enumerate(stored.repeats) if repeat == 0]
    largest = common_scale(stored)
    scores = scores_of(store, block, list(stored.denoised))
    ids = store.images()["id"]
    shelves: list[Shelf] = []
    taken = 0
    for place in firsts:
        shelf = _shelf(stored, place, str(ids[stored.images[place]]), largest, scores)
        taken += sum(len(tile.address) + len(tile.error) for tile in shelf.tiles)
        if shelves and taken > room:
            break
        shelves.append(shelf)
    missing = [row.denoiser for row in block.rows if row.scores and row.denoiser not in stored.denoised]
    columns = ("clean", "noisy", *(name for name in stored.denoised))
    left_out = len(firsts) - len(shelves)
    return Gallery(columns, tuple(shelves), largest, tuple(missing), left_out, CUT if stored.cut else "")


def scores_of(store: RunStore, block: Block, denoisers: Sequence[str]) -> dict[str, dict[int, tuple[str, ...]]]:
    """Scores in words, by denoiser and image, with the first noise, in the first metrics that are shown."""
    cells = {cell.denoiser: cell for cell in store.record.cells if cell.noise == block.spec and cell.sigma_factor == 1}
    specs = {row.denoiser: row.spec for row in block.rows}
    columns_shown = [column_of(metric) for metric in store.record.metrics]
    metrics = ([one for one in columns_shown if one.shown] or columns_shown)[:_CAPTIONED]
    found: dict[str, dict[int, tuple[str, ...]]] = {}
    for denoiser in denoisers:
        columns = store.scores(cells[specs[denoiser]].key)
        # Nothing is known of an image whose scores were lost from the run's folder.
        lines: dict[int, tuple[str, ...]] = defaultdict(tuple)
        found[denoiser] = lines
        if not columns:
            continue
        first = columns["repeat"] == 0
        for metric in metrics:
            for image, value in zip(columns[IMAGE][first].tolist(), columns[metric.label][first].tolist(), strict=True):
                lines[image] += (_caption(value, metric),)
    return found


def _caption(value: float, metric: MetricColumn) -> str:
    """A score with its unit, or with its name where it has none; either is cut to what fits below a picture."""
    number = score(value, metric)
    return f"{number} {_cut(metric.unit)}" if metric.unit else f"{_cut(metric_title(metric))} {number}"


def _cut(word: str) -> str:
    return word if len(word) <= _LONGEST else f"{word[: _LONGEST - 1]}…"


def common_scale(stored: Stored) -> float:
    """Error of the brightest colour: 99 % of the pixels of all results err less; to two digits."""
    errors = [
        np.abs(one - stored.clean[place]).ravel()
        for name, pictures in stored.denoised.items()
        if name not in stored.floors
        for place, one in enumerate(pictures)
    ]
    everything = np.concatenate(errors) if errors else np.zeros(1)
    return max(float(f"{np.percentile(everything, 99):.1e}"), 1e-3)


def _is_cut(whole: Mapping[str, NDArray[Any]], images: Sequence[int], pictures: Sequence[Picture]) -> bool:
    """Whether a picture is smaller than its image, as far as the sizes of images are recorded."""
    shapes = np.array([picture.shape for picture in pictures])
    return any(
        bool((shapes[:, axis] < whole[name][images]).any())
        for axis, name in enumerate(("height", "width"))
        if name in whole and whole[name].dtype.kind in "iu"
    )


def _shelf(
    stored: Stored,
    place: int,
    name: str,
    largest: float,
    scores: Mapping[str, Mapping[int, tuple[str, ...]]],
) -> Shelf:
    clean, noisy, image = stored.clean[place], stored.noisy[place], stored.images[place]
    tiles = [_tile("clean", f"{name}, clean", clean, None, ())]
    tiles.append(_tile("noisy", f"{name}, noisy", noisy, (noisy - clean, largest), ()))
    for denoiser, pictures in stored.denoised.items():
        made = pictures[place]
        alt = f"{name}, denoised by {denoiser}"
        tiles.append(_tile(denoiser, alt, made, (made - clean, largest), scores[denoiser][image]))
    return Shelf(name, stored.why[place], tuple(tiles))


def _tile(title: str, alt: str, picture: Picture, error: tuple[Picture, float] | None, scores: tuple[str, ...]) -> Tile:
    height, width = picture.shape
    error_address = data_address(error_png(*error)) if error else ""
    return Tile(title, alt, data_address(grey_png(picture)), error_address, scores, width, height)
