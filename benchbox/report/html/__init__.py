"""A run as one self-contained HTML page, made from stored data alone.

Charts are drawn by matplotlib as SVG and stand in the page itself. The alternatives were weighed by what a reader gets
without JavaScript, on paper, or in ten years: plotly, bokeh and vega draw in the browser, need a script of 1 to 4.5 MB
in every file, and would still need a second, static drawing of each chart. A drawn SVG is 30 to 100 kB, follows the
page's colours in dark mode, prints, and carries its details as tooltips that need no script. The page's own script,
some 100 lines, only sorts and filters tables and enlarges pictures; its content security policy lets nothing else run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchbox.report.board import Leaderboard
    from benchbox.store import RunStore

REPORT = "report.html"


def write_html(store: RunStore, board: Leaderboard) -> Path:
    """Write ``report.html`` into the folder of a run.

    Parameters
    ----------
    store : RunStore
    board : Leaderboard
        Of that run.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    BenchboxError
        A file of the run is damaged, or the page cannot be written.
    """
    from benchbox.report.html.page import render_page

    return store.write_report(REPORT, render_page(store, board))
