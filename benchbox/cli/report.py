"""`benchbox report`: a run as one web page; nothing is run."""

from __future__ import annotations

from pathlib import Path

import click

from benchbox.cli.options import results_option, sort_option


@click.command("report")
@click.argument("run", default="")
@sort_option
@click.option("--open", "show", is_flag=True, help="Open it in the web browser.")
@results_option
def command(run: str, sort: str, show: bool, results: Path) -> None:
    """Write a report of RUN (the newest one without it) as one web page beside its data.

    The page holds everything itself and asks nothing of the network.

    \b
    Examples:
      benchbox report
      benchbox report 20260131-120000-0421a2b --open
    """
    from benchbox.report.html import write_html
    from benchbox.report.leaderboard import build_leaderboard
    from benchbox.store import RunStore, find_run

    store = RunStore.open(find_run(results, run))
    page = write_html(store, build_leaderboard(store, sort=sort))
    click.echo(page)
    if show:
        click.launch(str(page))
