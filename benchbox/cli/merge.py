"""`benchbox merge`: one leaderboard from several runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from benchbox.cli.options import results_option


@click.command("merge")
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that gets the new run; default --results.",
)
@results_option
def command(runs: tuple[str, ...], output: Path | None, results: Path) -> None:
    """Merge RUNS, named by id or by folder, into a new run; what does not compare is refused.

    \b
    Examples:
      benchbox merge 20260131-1200 20260202-0900
      benchbox merge alice/20260131-120000-0421a2b bob/20260202-090000-123c3d4 -o shared
    """
    if len(runs) < 2:
        raise click.UsageError("a merge takes two runs or more")
    from rich.console import Console

    from benchbox.engine.merge import merge_runs
    from benchbox.report import write_leaderboard
    from benchbox.report.leaderboard import build_leaderboard
    from benchbox.report.terminal import TerminalLeaderboard
    from benchbox.store import RunStore, find_run

    stores = [RunStore.open(find_run(results, run)) for run in runs]
    merged = merge_runs(stores, output or results, shlex.join(["benchbox", *sys.argv[1:]]))
    board = build_leaderboard(merged)
    Console().print(TerminalLeaderboard(board), crop=False)
    click.echo(f"results: {merged.folder}")
    click.echo(f"markdown: {write_leaderboard(merged, board)}")
