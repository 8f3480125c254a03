"""Commands that show finished runs: leaderboard, report, show, compare, merge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from benchbox.api.errors import BenchboxError
from benchbox.cli.options import (
    GATE_FAILED,
    Command,
    Duration,
    GroupedOption,
    format_option,
    output_option,
    results_option,
    sort_option,
    verbose_option,
)
from benchbox.cli.terminal import echo, print_text, printing_to, typed_command, write_output
from benchbox.records.options import OUTPUT

if TYPE_CHECKING:
    from benchbox.report.board import Leaderboard


@click.command("leaderboard", cls=Command)
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@format_option("table", "markdown", "csv", "json", "latex")
@click.option(
    "--layout",
    type=click.Choice(("all", "paper")),
    default="all",
    show_default=True,
    help="LaTeX table: every figure, or as in a paper, with methods down and data sets and noises across.",
    cls=GroupedOption,
    group=OUTPUT,
)
@output_option()
@verbose_option
@sort_option
@click.option(
    "--within", type=Duration(bare=False), help="Rank only denoisers whose latency is at most this: 5ms, 0.2s."
)
@click.option(
    "--columns",
    metavar="KEYS",
    help="Columns to show, such as psnr,parameters,macs_per_pixel; see the page on the results format.",
)
@results_option
def leaderboard(
    runs: tuple[str, ...],
    form: str,
    layout: str,
    verbose: bool,
    sort: str,
    within: float | None,
    columns: str | None,
    output: Path | None,
    results: Path,
) -> None:
    """Show the leaderboard of RUN, or write it to a file.

    Without RUN, the newest run is used. Several runs, for example of several data
    sets, make one table with a mean over them; as LaTeX, it is the table of a paper,
    and csv and JSON have every run.

    \b
    Examples:
      benchbox leaderboard
      benchbox leaderboard --within 5ms
      benchbox leaderboard --columns psnr,latency_p50_ms,parameters,macs_per_pixel
      benchbox leaderboard 20260131-1200 --format latex --sort ssim -o table.tex
      benchbox leaderboard 20260131-1200 latest
      benchbox leaderboard 20260131-1200 latest --format latex --layout paper
    """
    from benchbox.report.build import build_leaderboard
    from benchbox.store import RunStore, find_run

    if layout == "paper" and form != "latex":
        raise BenchboxError("--layout paper is a layout of LaTeX tables", hint="add --format latex")
    together = layout == "paper" or (len(runs) > 1 and form in ("table", "markdown", "latex"))
    for option, value in (("--columns", columns), ("--within", within)):
        if together and value is not None:
            raise BenchboxError(
                f"{option} is for the table of one run",
                hint=f"leave {option} out, or give one run" + (" without --layout paper" if layout == "paper" else ""),
            )
    limit = None if within is None else within * 1e3
    stores = [RunStore.open(find_run(results, run)) for run in runs or ("",)]
    keys = tuple(key.strip() for key in (columns or "").split(",") if key.strip())
    boards = [build_leaderboard(store, sort=sort, within_ms=limit, columns=keys) for store in stores]
    with printing_to(output):
        if len(boards) > 1 or layout == "paper":
            print_across(boards, form)
        else:
            print_board(boards[0], form, verbose=verbose)


def print_across(boards: Sequence[Leaderboard], form: str) -> None:
    """Print several leaderboards side by side, or as one file."""
    from benchbox.report.across import put_across, render_across, render_across_json, render_paper
    from benchbox.report.export import render_csv

    if form == "table":
        from rich.console import Console

        Console().print(put_across(boards), crop=False)
    elif form == "markdown":
        print_text(render_across(put_across(boards)))
    else:
        print_text({"csv": render_csv, "json": render_across_json, "latex": render_paper}[form](boards))


def print_board(board: Leaderboard, form: str, *, verbose: bool = False) -> None:
    """Print a leaderboard in one of its formats."""
    if form == "table":
        from rich.console import Console

        from benchbox.report.terminal import TerminalLeaderboard

        Console().print(TerminalLeaderboard(board, verbose), crop=False)
    else:
        from benchbox.report import render

        print_text(render(board, form))


@click.command("report", cls=Command)
@click.argument("run", default="")
@output_option("Write the page to this file.  [default: report.html in the folder of RUN]")
@sort_option
@click.option("--open", "show", is_flag=True, help="Open the report in the web browser.")
@results_option
def report(run: str, output: Path | None, sort: str, show: bool, results: Path) -> None:
    """Write a report of RUN as a web page.

    The page is self-contained and loads nothing from the network. Without RUN, the
    newest run is used.

    \b
    Examples:
      benchbox report
      benchbox report 20260131-120000-0421a2b --open
      benchbox report /mnt/archive/20260131-120000-0421a2b -o report.html
    """
    from benchbox.report.build import build_leaderboard
    from benchbox.report.html.page import render_page, write_html
    from benchbox.store import RunStore, find_run

    store = RunStore.open(find_run(results, run))
    board = build_leaderboard(store, sort=sort)
    if output is None:
        page = write_html(store, board)
    else:
        page = output
        write_output(page, render_page(store, board))
    echo(page)
    if show:
        click.launch(str(page))


@click.command("show", cls=Command)
@click.argument("run", default="")
@click.option("--noise", default="", metavar="NOISE", help="Noise to show.  [default: first noise of the run]")
@click.option("--image", default="", metavar="ID", help="Show only this image, given by its id or a part of it.")
@format_option("terminal", "png", "svg", "pdf")
@output_option(
    "Folder for the files.",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("figures"),
    show_default=True,
)
@sort_option
@results_option
@click.pass_context
def show(
    ctx: click.Context, run: str, noise: str, image: str, form: str, output: Path, sort: str, results: Path
) -> None:
    """Show denoised images of RUN, or write them and its charts to files.

    The images are those kept by --previews of the run, chosen by their scores. With
    --format png, svg or pdf, they and all charts are written to the folder --output.
    Without RUN, the newest run is used.

    \b
    Examples:
      benchbox show
      benchbox show --noise gaussian:0.1 --format png
      benchbox show 20260131-120000-0421a2b --format pdf -o figures
    """
    from benchbox.report.build import build_leaderboard
    from benchbox.report.show import TerminalGallery, has_pictures, read_shown, write_charts, write_pictures
    from benchbox.store import RunStore, find_run

    if form == "terminal" and ctx.get_parameter_source("output") is not ParameterSource.DEFAULT:
        raise BenchboxError("--output is for files, but the pictures go to the terminal", hint="add --format png")
    store = RunStore.open(find_run(results, run))
    board = build_leaderboard(store, sort=sort)
    if form == "terminal":
        from rich.console import Console

        Console().print(TerminalGallery(read_shown(store, board, noise, image)), crop=False)
        return
    if image or has_pictures(store, board, noise):
        echo(write_pictures(read_shown(store, board, noise, image), output, form))
    for file in write_charts(store, board, output, form):
        echo(file)


@click.command("compare", cls=Command)
@click.argument("before", default="")
@click.argument("after", default="")
@click.option("--metric", default="", metavar="METRIC", help="Metric to show.  [default: the first one of BEFORE]")
@click.option(
    "--fail-if",
    "gates",
    multiple=True,
    metavar="LIMIT",
    help='Fail if a change exceeds this limit: "psnr < -0.05 dB". Repeatable.',
)
@format_option("table", "markdown", "json")
@output_option()
@results_option
@click.pass_context
def compare(
    ctx: click.Context,
    before: str,
    after: str,
    metric: str,
    gates: tuple[str, ...],
    form: str,
    output: Path | None,
    results: Path,
) -> None:
    """Compare the runs BEFORE and AFTER, image by image.

    AFTER is the newest run by default, and BEFORE the one before it. A row with a
    name of its own, as in "mine=median:size=5", is compared with the row of that
    name.

    With --fail-if, the exit code is 3 if a change exceeds its limit. A limit is in
    the unit of the figure or in %, for a metric or one of latency_p50, latency_p90,
    latency_p99, throughput, cold_start and peak_memory.

    \b
    Examples:
      benchbox compare
      benchbox compare 20260131-1200 latest
      benchbox compare 20260131 20260202 --fail-if "psnr < -0.05 dB"
    """
    from benchbox.report.compare import compare_runs
    from benchbox.report.compare_export import TerminalComparison, render_comparison
    from benchbox.report.gates import check_gates, parse_gate
    from benchbox.store import RunStore, find_run, list_runs

    names = (before, after)
    if not before:
        newest = list_runs(results)[-2:]
        if len(newest) < 2:
            raise BenchboxError(f"there are not two runs in {results} to compare", hint="name them, or run once more")
        names = (str(newest[0]), str(newest[1]))
    stores = [RunStore.open(find_run(results, run)) for run in names]
    comparison = compare_runs(stores[0], stores[1], metric=metric)
    breaches = check_gates([parse_gate(gate, comparison) for gate in gates], comparison)
    with printing_to(output):
        if form == "table":
            from rich.console import Console

            Console().print(TerminalComparison(comparison, breaches), crop=False)
        else:
            print_text(render_comparison(comparison, breaches, form))
    if breaches:
        ctx.exit(GATE_FAILED)


@click.command("merge", cls=Command)
@click.argument("runs", nargs=-1, required=True)
@format_option("table", "markdown", "csv", "json", "latex")
@output_option("Write the leaderboard to this file, instead of showing it.")
@results_option
def merge(runs: tuple[str, ...], form: str, output: Path | None, results: Path) -> None:
    """Merge RUNS, given by id or folder, into a new run in --results.

    Runs with different images, metrics, seeds or protocols are refused.

    \b
    Examples:
      benchbox merge 20260131-1200 20260202-0900
      benchbox merge alice/20260131-120000-0421a2b bob/20260202-090000-123c3d4
    """
    if len(runs) < 2:
        raise click.UsageError("merging needs two or more runs")
    from benchbox.engine.merge import merge_runs
    from benchbox.report import write_leaderboard
    from benchbox.report.build import build_leaderboard
    from benchbox.store import RunStore, find_run

    stores = [RunStore.open(find_run(results, run)) for run in runs]
    merged = merge_runs(stores, results, typed_command())
    board = build_leaderboard(merged)
    with printing_to(output):
        print_board(board, form)
    echo(f"results: {merged.folder}\nmarkdown: {write_leaderboard(merged, board)}", err=True)
