"""A finished run as a leaderboard, report or comparison, in every output format.

Everything is computed from the stored run. This room must not measure anything, load a plugin, or print.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchbox.api.errors import BenchboxError, did_you_mean

if TYPE_CHECKING:
    from benchbox.report.board import Leaderboard
    from benchbox.store import RunStore

FORMATS = ("markdown", "csv", "json", "latex")
REPORT = "leaderboard.md"


def render(board: Leaderboard, format: str) -> str:
    """Render a leaderboard in one of `FORMATS`."""
    if format == "markdown":
        from benchbox.report import export as markdown

        return markdown.render(board)
    from benchbox.report import export as tabular

    if format == "csv":
        return tabular.render_csv(board)
    if format == "json":
        return tabular.render_json(board)
    if format == "latex":
        return tabular.render_latex(board)
    raise BenchboxError(f"there is no format '{format}'", hint=did_you_mean(format, FORMATS))


def write_leaderboard(store: RunStore, board: Leaderboard) -> Path:
    """Write ``leaderboard.md`` into the folder of a run and return its path."""
    return store.write_report(REPORT, render(board, "markdown"))
