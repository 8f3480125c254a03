"""`benchbox show`: pictures of a run in the terminal, as an image, and its charts as files; nothing is run."""

from __future__ import annotations

from pathlib import Path

import click

from benchbox.cli.options import results_option, sort_option


@click.command("show")
@click.argument("run", default="")
@click.option("--noise", default="", help="Noise to show.  [default: the first of the run]")
@click.option("--image", default="", metavar="ID", help="One image, by its name or a part of it, with all denoisers.")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Write the pictures as a PNG of 300 dpi.")
@click.option("--format", "form", type=click.Choice(["svg", "pdf"]), help="Write the charts as files of this kind.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("charts"),
    show_default=True,
    help="Folder for the charts.",
)
@sort_option
@results_option
def command(
    run: str, noise: str, image: str, png: Path | None, form: str | None, output: Path, sort: str, results: Path
) -> None:
    """Show what denoisers made of a few images of RUN (the newest one without it).

    The images are those that the run kept (--previews), chosen by their scores.

    \b
    Examples:
      benchbox show
      benchbox show --noise gaussian:0.1 --png grid.png
      benchbox show 20260131-120000-0421a2b --format pdf -o figures
    """
    from benchbox.report.leaderboard import build_leaderboard
    from benchbox.report.show import TerminalGallery, read_shown, write_charts, write_grid
    from benchbox.store import RunStore, find_run

    store = RunStore.open(find_run(results, run))
    board = build_leaderboard(store, sort=sort)
    if form is not None:
        for file in write_charts(store, board, output, form):
            click.echo(file)
    if png is not None:
        write_grid(read_shown(store, board, noise, image), png)
        click.echo(png)
    if form is None and png is None:
        from rich.console import Console

        Console().print(TerminalGallery(read_shown(store, board, noise, image)), crop=False)
