"""Images for a page or file: PNG data URLs, inline SVG, contact sheets of duplicates."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.report.figures.axes import INK, charts_style, save_figure
from benchbox.system.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = 16


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


_START = re.compile(r".*?<svg ", re.DOTALL)
_SIZE = re.compile(r' (?:height|width)="[0-9.]+pt"')
_FONT = re.compile(r"(font: [0-9.]+px|font-family:) [^;\"]*")
_INDENT = re.compile(r">\n +<")
_UNUSED_ID = re.compile(r'(<g) id="[A-Za-z0-9.]+_\d+"')
"""matplotlib numbers every group, and refers to none of them."""
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_PATH = re.compile(r' d="[^"]+"')
_DECIMALS = re.compile(r"(\.\d\d)\d+")
"""Of six decimals, two are a hundredth of a pixel."""
_COMMENT = re.compile(r"<!--.*?-->\s*", re.DOTALL)


def inline_svg(figure: Figure, prefix: str, alt: str, titles: Mapping[str, str]) -> Markup:
    """Render a figure as an SVG element.

    `prefix` starts every id in it and must be unique in the page; `titles` maps the `gid` of a part to its tooltip.
    """
    sink = io.StringIO()
    with charts_style():
        save_figure(figure, sink, format="svg", metadata={"Date": None, "Creator": None})
    text = _COMMENT.sub("", _METADATA.sub("", sink.getvalue()))
    text = _START.sub("", text, count=1)
    text = text.replace(INK, "currentColor")
    text = _UNUSED_ID.sub(r"\1", _INDENT.sub(">\n<", _FONT.sub(r"\1 sans-serif", text)))
    head, separator, body = text.partition(">")
    head = _SIZE.sub("", head)
    body = re.sub(r'(<[a-zA-Z]+ id=")', rf"\g<1>{prefix}-", body)
    body = body.replace("url(#", f"url(#{prefix}-").replace('xlink:href="#', f'xlink:href="#{prefix}-')
    body = _PATH.sub(lambda path: _DECIMALS.sub(r"\1", path[0]), body)
    for gid, title in titles.items():
        mark = f'<g id="{prefix}-{gid}">'
        body = body.replace(
            mark, f'<g class="point" id="{prefix}-{gid}"><title>{html.escape(printable(title))}</title>', 1
        )
    return Markup(f'<svg role="img" aria-label="{html.escape(printable(alt))}" {head}{separator}{body}')


THUMB = 64
MEMBERS = 8
GROUPS = 400
"""Most images per group and most groups in a contact sheet."""

_WIDTH = 1600
_LABEL = 12
_GAP = 6


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
