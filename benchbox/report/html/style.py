"""How charts look: one colour, marker and dash for each denoiser, told apart without colour too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
    "text.parse_math": False,  # a name may hold dollar signs
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "benchbox",
    "pdf.fonttype": 42,
}


@contextlib.contextmanager
def charts_style() -> Iterator[None]:
    """Make and save figures in the style of the report: text takes its colour when it is made."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        yield


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
    """A look for each denoiser, the same in every chart of a run."""
    return {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[(i // len(COLOURS)) % len(DASHES)])
        for i, name in enumerate(denoisers)
    }
