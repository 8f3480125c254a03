"""`benchbox leaderboard`: a run's table again, in any format; nothing is run."""

from __future__ import annotations

import re
from pathlib import Path

import click

from benchbox.cli.options import results_option, sort_option


@click.command("leaderboard")
@click.argument("run", default="")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "csv", "json", "latex"]),
    default="table",
    show_default=True,
)
@sort_option
@click.option("--within", metavar="TIME", help="Rank only what takes no longer for one image: 5ms, 0.2s.")
@click.option("--rank-leaky", is_flag=True, help="Rank rows that were trained on images they are scored on.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@results_option
def command(
    run: str, form: str, sort: str, within: str | None, rank_leaky: bool, output: Path | None, results: Path
) -> None:
    """Show the leaderboard of RUN (the newest one without it), or write it as a file.

    \b
    Examples:
      benchbox leaderboard
      benchbox leaderboard --within 5ms
      benchbox leaderboard 20260131-120000-0421a2b --format latex --sort ssim -o table.tex
    """
    from benchbox.api.errors import BenchboxError
    from benchbox.report import render
    from benchbox.report.leaderboard import build_leaderboard
    from benchbox.store import RunStore, find_run

    limit = None if within is None else _milliseconds(within)
    store = RunStore.open(find_run(results, run))
    leaderboard = build_leaderboard(store, sort=sort, within_ms=limit, rank_leaky=rank_leaky)
    if form == "table" and output is None:
        from rich.console import Console

        from benchbox.report.terminal import TerminalLeaderboard

        Console().print(TerminalLeaderboard(leaderboard), crop=False)
        return
    if form == "table":
        raise BenchboxError("-o writes no table", hint="add --format markdown, csv, json or latex")
    text = render(leaderboard, form)
    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BenchboxError(f"cannot write {output}: {error.strerror}", hint="choose another file with -o") from error


def _milliseconds(text: str) -> float:
    """Read a time with its unit."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(us|ms|s)\s*", text)
    if match is None:
        raise click.BadParameter(f"'{text}' is not a time; write 5ms or 0.2s", param_hint="--within")
    return float(match[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[match[2]]
