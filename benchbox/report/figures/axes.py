"""The look of every chart: colours, markers, axes, labels that do not overlap, and how a figure is saved."""

from __future__ import annotations

import contextlib
import html
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from markupsafe import Markup

from benchbox.report.board import Leaderboard
from benchbox.system.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"
"""Colour of text and axes in a figure; on the page it becomes the colour of the text around it."""
RULE = "#808080"
# Okabe and Ito's palette for colour-blind readers (2008), without its yellow, which is faint on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "p")
DASHES = ("-", "--", "-.", ":")

_SETTINGS = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.alpha": 0.25,
    "grid.color": RULE,
    "legend.frameon": False,
    "text.color": INK,
    "text.parse_math": False,  # names may contain dollar signs
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "benchbox",
    "pdf.fonttype": 42,
}


@contextlib.contextmanager
def charts_style() -> Iterator[None]:
    """Use the style of the report, both when a figure is made and when it is saved."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        yield


def save_figure(figure: Figure, target: Path | IO[Any], **options: Any) -> None:
    """Save a figure with control characters in its text made harmless; options as in `Figure.savefig`.

    Tick labels must have been through `short`, because matplotlib stores them elsewhere.
    """
    make_printable(figure)
    figure.savefig(target, **options)


def make_printable(figure: Figure) -> None:
    """Make control characters in the text of a figure harmless."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text("\n".join(printable(line) for line in text.get_text().split("\n")))


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
    # Without a size of its own the drawing is as wide as its column on the page.
    head, separator, body = text.partition(">")
    head = _SIZE.sub("", head)
    # matplotlib's ids are unique in a figure, but a page has many figures.
    body = re.sub(r'(<[a-zA-Z]+ id=")', rf"\g<1>{prefix}-", body)
    body = body.replace("url(#", f"url(#{prefix}-").replace('xlink:href="#', f'xlink:href="#{prefix}-')
    body = _PATH.sub(lambda path: _DECIMALS.sub(r"\1", path[0]), body)
    for gid, title in titles.items():
        mark = f'<g id="{prefix}-{gid}">'
        body = body.replace(
            mark, f'<g class="point" id="{prefix}-{gid}"><title>{html.escape(printable(title))}</title>', 1
        )
    return Markup(f'<svg role="img" aria-label="{html.escape(printable(alt))}" {head}{separator}{body}')


@dataclass(frozen=True)
class Look:
    """Colour, marker and dash of a denoiser."""

    colour: str
    marker: str
    dash: str

    @property
    def line(self) -> dict[str, Any]:
        """Keywords for a line with markers."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.dash,
            "markersize": 5,
            "linewidth": 1.5,
        }


def looks_of(denoisers: Sequence[str]) -> dict[str, Look]:
    """A look for each denoiser, used in every chart of a run."""
    return {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[(i // len(COLOURS)) % len(DASHES)])
        for i, name in enumerate(denoisers)
    }


WIDTH, HEIGHT = 5.6, 3.9


def new_axes(height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Make a figure with one pair of axes; `height` is in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def unit_of(board: Leaderboard) -> str:
    """The unit of the metric that ranks, after a space; empty if it has none."""
    return f" {board.sort_metric.unit}" if board.sort_metric.unit else ""


def metric_label(board: Leaderboard) -> str:
    """Axis label of the metric that ranks."""
    better = "higher" if board.sort_metric.higher_is_better else "lower"
    unit = f" in {board.sort_metric.unit}" if board.sort_metric.unit else ""
    return f"{board.sort_metric.title}{unit} ({better} is better)"


def lower_is_up(board: Leaderboard, axes: Axes) -> None:
    """Invert the axis if lower is better, so that better is up."""
    if not board.sort_metric.higher_is_better:
        axes.invert_yaxis()


def latencies_along(axes: Axes) -> None:
    """Show milliseconds on a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    # The default labels are formulas, which the style switches off.
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    if high < 30 * low:
        axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}")


def short(name: str, length: int = 26) -> str:
    """Shorten a name to fit beside an axis."""
    name = printable(name)
    return name if len(name) <= length else f"{name[: length - 1]}…"


def legend_below(figure: Figure, axes: Axes) -> None:
    """Set the legend below the axes."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 3 if max(map(len, labels)) < 16 else 2
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def label_points(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Label points, placing each name where it overlaps other names and points least."""
    # Laying out is enough to know where the points are; drawing takes three times as long.
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")
    pixels = 72 / figure.dpi
    places = [axes.transData.transform((x, y)) * pixels for x, y, _ in points]
    frame = axes.get_window_extent()
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    for (x, y, name), (left, bottom) in zip(points, places, strict=True):
        text = short(name, 20)
        # Points per character at 8 points, estimated: exact widths need a renderer.
        width, height = 4.6 * len(text), 9.0
        candidates = [
            (6, -3, "left"),
            (-6, -3, "right"),
            (0, 7, "center"),
            (0, -14, "center"),
            (6, 7, "left"),
            (6, -13, "left"),
            (-6, 7, "right"),
            (-6, -13, "right"),
        ]
        best, least_cost = candidates[0], math.inf
        for across, up, side in candidates:
            start = left + across - {"left": 0.0, "center": width / 2, "right": width}[side]
            box = (start, bottom + up, start + width, bottom + up + height)
            overlap = sum(_overlap(box, area) for area in taken)
            # A point of width beyond the frame costs as much as 20 square points of overlap: cut names are worse.
            outside = max(0.0, frame.x0 * pixels - box[0]) + max(0.0, box[2] - frame.x1 * pixels)
            if overlap + 20 * outside < least_cost:
                best, least_cost, best_box = (across, up, side), overlap + 20 * outside, box
        taken.append(best_box)
        axes.annotate(text, (x, y), xytext=best[:2], textcoords="offset points", ha=best[2], fontsize=8)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    across = min(a[2], b[2]) - max(a[0], b[0])
    up = min(a[3], b[3]) - max(a[1], b[1])
    return across * up if across > 0 and up > 0 else 0.0
