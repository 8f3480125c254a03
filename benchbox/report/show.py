"""Shows the pictures of a noise in the terminal, as half-block characters, or as a figure for a paper."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.builtin.channels import CHANNELS, luminance
from benchbox.report.board import Block, Leaderboard
from benchbox.report.figures import gallery
from benchbox.report.figures.axes import charts_style, looks_of, make_printable, save_figure
from benchbox.report.figures.charts import noise_charts, read_noise
from benchbox.report.figures.overview import protocol_charts, run_charts
from benchbox.report.terminal import line
from benchbox.report.whatif import build_whatif
from benchbox.report.words import count
from benchbox.store import RunStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = NDArray[np.float32]

NARROWEST_TILE = 24
DPI = 300
TITLE_WIDTH = 17
_RAMP = " .:-=+*#%@"
_GAP = 2


@dataclass(frozen=True)
class Shown:
    """The images of one noise to show.

    Attributes
    ----------
    names, why : tuple of str
        Name and reason for the selection of each image.
    titles : tuple of str
        Column titles: clean, noisy, then denoisers, best first.
    pictures : tuple of tuple of ndarray of float32, each of shape (H, W) or (H, W, 3)
        Pictures by image and column.
    captions : tuple of tuple of str
        Scores by image and column; may be empty.
    largest : float
        Error shown in the brightest colour.
    note : str
        A further remark; may be empty.
    """

    noise: str
    names: tuple[str, ...]
    why: tuple[str, ...]
    titles: tuple[str, ...]
    pictures: tuple[tuple[Picture, ...], ...]
    captions: tuple[tuple[str, ...], ...]
    largest: float
    note: str


@dataclass(frozen=True)
class TerminalGallery:
    """A gallery that rich can print: half blocks, or characters without colour.

    Several images are shrunk and show as many columns as fit; a single image shows all of them, pixel by pixel.
    """

    shown: Shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the pictures out for the available width."""
        shown, width = self.shown, options.max_width
        colour = console.color_system is not None and not console.no_color
        alone = len(shown.names) == 1
        widest = max(picture.shape[1] for pictures in shown.pictures for picture in pictures)
        tile = min(width, widest if alone else min(widest, NARROWEST_TILE))
        fitting = max(1, (width + _GAP) // (tile + _GAP))
        columns = len(shown.titles) if alone else min(fitting, len(shown.titles))
        yield line(f"{shown.noise}, images selected by score", style="bold")
        if shown.note:
            yield line(shown.note)
        for name, why, pictures, captions in zip(shown.names, shown.why, shown.pictures, shown.captions, strict=True):
            yield Text()
            yield line(f"{name}, {why}")
            for start in range(0, columns, fitting):
                part = slice(start, min(start + fitting, columns))
                yield _line(shown.titles[part], tile)
                yield from _beside([_half_blocks(shrink(picture, tile), colour) for picture in pictures[part]], tile)
                yield _line(captions[part], tile)
        if columns < len(shown.titles):
            left = ", ".join(shown.titles[columns:])
            yield Text()
            yield line(f"hidden at this width: {left} (use --image {shown.names[0]} to see everything)", style="dim")


def read_shown(store: RunStore, board: Leaderboard, noise: str, image: str) -> Shown:
    """Read the pictures to show.

    `noise` is a label or canonical specification; empty means the first noise. `image` is a name or a unique part;
    empty means every stored image. Raises `BenchboxError` if the run has no such noise or pictures.
    """
    block = find_block(board, noise)
    stored = gallery.read_pictures(store, block)
    if stored is None or not stored.denoised:
        hint = "run again with --previews 4" if board.header.has_clean else "without clean images, none are kept"
        raise BenchboxError(f"run {store.record.run_id} has no pictures of {block.noise}", hint=hint)
    firsts = [place for place, repeat in enumerate(stored.repeats) if repeat == 0]
    ids = store.images()["id"]
    names = {place: str(ids[stored.images[place]]) for place in firsts}
    if image:
        fitting = [place for place in firsts if names[place] == image] or [
            place for place in firsts if image in names[place]
        ]
        if len(fitting) != 1:
            known = ", ".join(names.values())
            raise BenchboxError(
                f"'{image}' matches {count(len(fitting), 'image')} with stored pictures",
                hint=f"choose one of {known}, or run again with more --previews",
            )
        firsts = fitting
    scores = gallery.scores_of(store, block, list(stored.denoised))
    seen = gallery.classes_seen(store, block, stored)

    def captions(image: int) -> tuple[str, ...]:
        """Captions of a row: the class first, because a narrow caption is cut, then scores."""
        lines = ((), (), *(scores[name][image] for name in stored.denoised))
        words = ((classes.get(image, ""), *line) for classes, line in zip(seen, lines, strict=True))
        return tuple(", ".join(filter(None, line)) for line in words)

    return Shown(
        noise=block.noise,
        names=tuple(names[place] for place in firsts),
        why=tuple(stored.why[place] for place in firsts),
        titles=("clean", "noisy", *(name for name in stored.denoised)),
        pictures=tuple(_pictures(stored, place) for place in firsts),
        captions=tuple(captions(stored.images[place]) for place in firsts),
        largest=gallery.common_scale(stored),
        note=gallery.CROPPED_NOTE if stored.cropped else "",
    )


def has_pictures(store: RunStore, board: Leaderboard, noise: str) -> bool:
    """Whether the run kept pictures of a noise; those of the first noise if it is empty."""
    stored = gallery.read_pictures(store, find_block(board, noise))
    return stored is not None and bool(stored.denoised)


def draw_grid(shown: Shown) -> Figure:
    """Draw a figure for a paper: images down, denoisers across, each result above its error map."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows, columns = 2 * len(shown.names), len(shown.titles)
    with charts_style():
        titles = [_wrapped(title) for title in shown.titles]
        size = (0.95 * columns, 1.05 * rows + 0.1 * max(title.count("\n") for title in titles))
        layout = ConstrainedLayoutEngine(h_pad=0.05, w_pad=0.03)
        figure = Figure(figsize=size, layout=layout)
        grid = figure.subplots(rows, columns, squeeze=False)
        for row, (pictures, captions) in enumerate(zip(shown.pictures, shown.captions, strict=True)):
            clean = pictures[0]
            for column, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
                above, below = grid[2 * row][column], grid[2 * row + 1][column]
                for axes in (above, below):
                    axes.set_axis_off()
                above.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                if row == 0:
                    above.set_title(titles[column], fontsize=6)
                if column:
                    error = gallery.error_of(picture, clean)
                    below.imshow(error, cmap="cividis", vmin=0, vmax=shown.largest, interpolation="nearest")
                    below.text(0.5, -0.04, caption, fontsize=5, ha="center", va="top", transform=below.transAxes)
        note = f"{shown.noise}; below: absolute error from 0 (dark) to {shown.largest:g} or more (bright). {shown.note}"
        figure.supxlabel(textwrap.fill(note, 15 * columns), fontsize=7)
        # Drawing lays it out again. In matplotlib 3.9 and 3.10 once is not enough for titles of many lines: pictures
        # keep their aspect, so each pass changes the room that is left.
        make_printable(figure)  # layout measures text, and fonts lack control characters
        layout.execute(figure)
    return figure


_METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
"""Entries to omit from each file format, so that the same figure gives the same bytes."""


def write_pictures(shown: Shown, folder: Path, form: str) -> Path:
    """Write the figure of `draw_grid` as ``pictures.png``, ``.svg`` or ``.pdf`` into a folder."""
    (file,) = _write_figures([("pictures", draw_grid(shown))], folder, form)
    return file


def write_charts(store: RunStore, board: Leaderboard, folder: Path, form: str) -> list[Path]:
    """Write every chart of the report as a PNG, SVG or PDF file for a paper, with text as text in the latter two."""
    looks = looks_of([denoiser.label for denoiser in store.record.denoisers])
    figures = [
        (f"{number}-{chart.name}", chart.figure)
        for number, block in enumerate(board.blocks, start=1)
        for chart in noise_charts(board, read_noise(store, block), looks)
    ]
    if store.has_rescored:
        whatif = build_whatif(store, sort=board.sort)
        figures += [
            (f"{number}-{chart.name}", chart.figure)
            for number, block in enumerate(board.blocks, start=1)
            for chart in protocol_charts(whatif.on(block.noise), looks)
        ]
    figures += [
        (f"all-{chart.name}-{number}", chart.figure) for number, chart in enumerate(run_charts(board, looks), start=1)
    ]
    return _write_figures(figures, folder, form)


def _write_figures(figures: Sequence[tuple[str, Figure]], folder: Path, form: str) -> list[Path]:
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures:
            file = folder / f"{name}.{form}"
            with charts_style():
                background = "white" if form == "png" else "none"
                save_figure(figure, file, format=form, dpi=DPI, facecolor=background, metadata=_METADATA[form])
            files.append(file)
    except OSError as error:
        raise BenchboxError(
            f"cannot write to {folder}: {error.strerror}", hint="choose another folder with --output"
        ) from error
    return files


def shrink(picture: Picture, width: int) -> Picture:
    """Shrink a picture to at most `width` pixels wide, by averaging areas."""
    height, before = picture.shape[:2]
    if before <= width:
        return picture
    import cv2

    size = (width, max(2, round(height * width / before)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def find_block(board: Leaderboard, noise: str) -> Block:
    """The block of a noise, given by label or canonical specification; the first if it is empty."""
    if not noise:
        return board.blocks[0]
    blocks = {block.spec: block for block in board.blocks} | {block.noise: block for block in board.blocks}
    if noise not in blocks:
        raise BenchboxError(
            f"the run has no noise '{noise}'", hint=did_you_mean(noise, [block.noise for block in board.blocks])
        )
    return blocks[noise]


def _pictures(stored: gallery.StoredPictures, place: int) -> tuple[Picture, ...]:
    return (stored.clean[place], stored.noisy[place], *(made[place] for made in stored.denoised.values()))


def _half_blocks(picture: Picture, colour: bool) -> list[Text]:
    """Two rows of pixels per line: the upper one in the foreground colour, the lower one in the background."""
    if picture.ndim == 3 and not colour:
        picture = luminance(picture)
    levels = np.rint(np.clip(picture, 0, 1) * 255).astype(int)
    # A character holds two rows of pixels, so an odd last row is shown twice.
    if len(levels) % 2:
        levels = np.concatenate([levels, levels[-1:]])
    if colour:
        levels = np.broadcast_to(levels.reshape(*levels.shape[:2], -1), (*levels.shape[:2], CHANNELS))
    lines = []
    for upper, lower in zip(levels[::2].tolist(), levels[1::2].tolist(), strict=True):
        line = Text(no_wrap=True, overflow="ignore")
        for top, bottom in zip(upper, lower, strict=True):
            if colour:
                line.append("▀", Style(color=_hex(top), bgcolor=_hex(bottom)))
            else:
                line.append(_RAMP[(top + bottom) * (len(_RAMP) - 1) // 510])
        lines.append(line)
    return lines


def _hex(pixel: Sequence[int]) -> str:
    return "#" + "".join(f"{level:02x}" for level in pixel)


def _beside(tiles: Sequence[list[Text]], width: int) -> list[Text]:
    height = max(len(tile) for tile in tiles)
    lines = []
    for row in range(height):
        line = Text(no_wrap=True, overflow="ignore")
        for tile in tiles:
            part = tile[row] if row < len(tile) else Text()
            line.append_text(part)
            line.append(" " * (width - part.cell_len + _GAP))
        line.rstrip()
        lines.append(line)
    return lines


def _wrapped(title: str) -> str:
    """Wrap a title to the width of a tile, between options if possible."""
    lines = [""]
    for part in re.findall(rf"[^:,]{{1,{TITLE_WIDTH - 1}}}[:,]?|[:,]", title):
        if len(lines[-1]) + len(part) > TITLE_WIDTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _line(words: Sequence[str], width: int) -> Text:
    safe = [line(word).plain for word in words]
    cut = (word if len(word) <= width else f"{word[: width - 1]}…" for word in safe)
    return Text((" " * _GAP).join(f"{word:<{width}}" for word in cut).rstrip(), no_wrap=True, overflow="ignore")
