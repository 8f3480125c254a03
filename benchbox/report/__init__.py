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
    from benchbox.report import export

    renderers = {
        "markdown": export.render_markdown,
        "csv": lambda board: export.render_csv([board]),
        "json": export.render_json,
        "latex": export.render_latex,
    }
    if format in renderers:
        return renderers[format](board)
    raise BenchboxError(f"unknown format '{format}'", hint=did_you_mean(format, FORMATS))


def write_leaderboard(store: RunStore, board: Leaderboard) -> Path:
    """Write ``leaderboard.md`` into the folder of a run and return its path."""
    return store.write_report(REPORT, render(board, "markdown"))
