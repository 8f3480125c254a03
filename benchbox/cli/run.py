"""`benchbox run`: score and time denoisers."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from benchbox.api.errors import BenchboxError
from benchbox.cli.options import (
    GATE_FAILED,
    Command,
    GroupedOption,
    as_typed,
    chosen,
    format_option,
    output_option,
    read_config,
    run_options,
    sort_option,
    verbose_option,
    write_config,
)
from benchbox.cli.terminal import echo, interruptible, printing_to, typed_command
from benchbox.records.options import CLUSTER_OPTIONS, OUTPUT, RunOptions, option_of

if TYPE_CHECKING:
    from benchbox.cli.progress import RunProgress
    from benchbox.records.run import RunRecord
    from benchbox.report.board import Leaderboard
    from benchbox.report.gates import Breach
    from benchbox.store import RunStore

_DATA_HELP = f"{option_of('data').help} Repeatable: one run each.  [default: {option_of('data').otherwise}]"


@dataclass(frozen=True)
class Shown:
    """What the end of a run shows, and where."""

    sort: str = ""
    gates: tuple[str, ...] = ()
    form: str = "table"
    output: Path | None = None
    page: bool = False
    verbose: bool = False
    quiet: bool = False
    print_run_id: bool = False


@click.command("run", cls=Command)
@click.option(
    "-c",
    "--config",
    is_eager=True,
    expose_value=False,
    callback=read_config,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    cls=GroupedOption,
    group=OUTPUT,
    help="Take options from this TOML file; those of the command line win.",
)
@run_options(data={"multiple": True, "help": _DATA_HELP})
@sort_option
@verbose_option
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    cls=GroupedOption,
    group=OUTPUT,
    help="Show errors and failed gates only, no table and no progress.",
)
@format_option("table", "markdown", "csv", "json", "latex")
@output_option("Write the leaderboard to this file, instead of showing it.")
@click.option(
    "--print-run-id",
    is_flag=True,
    cls=GroupedOption,
    group=OUTPUT,
    help="Write the id of the run, and nothing else, to standard output.",
)
@click.option(
    "--fail-if",
    "gates",
    multiple=True,
    metavar="LIMIT",
    cls=GroupedOption,
    group=OUTPUT,
    help='Exit with code 3 if a row passes this limit: "psnr < 26 dB", "latency_p50 > 5 ms". Repeatable.',
)
@click.option(
    "--save-config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    cls=GroupedOption,
    group=OUTPUT,
    help="Write the given options to this file, for --config.",
)
@click.option("--report", "page", is_flag=True, cls=GroupedOption, group=OUTPUT, help="Also write the HTML report.")
@click.option(
    "--resume",
    default="",
    metavar="RUN",
    cls=GroupedOption,
    group=OUTPUT,
    help="Continue an interrupted run: compute only what is missing; with --no-timing, no latencies.",
)
def command(resume: str, save_config: Path | None, **values: Any) -> None:
    """Score DENOISERS on noisy images and show the leaderboard.

    With no DENOISERS, every installed denoiser is run. Set options as in
    median:size=5; a denoiser may appear several times with different options.
    With several --data, each data set has a run of its own, and a table shows all.

    \b
    Examples:
      benchbox run --noise gaussian:0.1
      benchbox run median:size=3 median:size=5 nl_means --noise salt-pepper:0.05
      benchbox run --data fer2013.csv --limit 500 --noise gaussian:25/255
    """
    from benchbox.engine.workers import worker_context

    worker_context()  # first, because it loads the fork server while this process imports the rest
    shown = Shown(**{field.name: values.pop(field.name) for field in fields(Shown)})
    if resume:
        _finish([lambda: _resume(resume, values, shown)], shown)
    data = _distinct(values.pop("data"))
    options = chosen(values)
    options.check()
    if save_config:
        write_config(click.get_current_context(), save_config)
    from benchbox.engine.run import execute

    def run(path: str) -> RunStore:
        one = replace(options, data=path)
        return _watched(
            lambda progress: execute(one, progress, typed_command(), check=partial(_require_shown, shown)),
            Path(one.results),
            shown,
            as_typed(one, CLUSTER_OPTIONS),
        )

    _finish([partial(run, path) for path in data], shown)


def _require_shown(shown: Shown, record: RunRecord) -> None:
    """Raise `BenchboxError` if the run will not compute what it is to be ranked by, or a gate is wrong."""
    from benchbox.report.build import sort_metric
    from benchbox.report.gates import parse_limit

    sort_metric(shown.sort, record)
    units = {metric.spec: metric.unit for metric in record.metrics}
    for gate in shown.gates:
        parse_limit(gate, units, timing=record.options.timing)


def _distinct(paths: tuple[Path, ...]) -> list[str]:
    """The data of each run; what is wrong with several of them is said before the first run, which may take long."""
    if len(paths) > 1:
        from benchbox.builtin.datasets.opening import require_exists

        for place, path in enumerate(paths):
            require_exists(path)
            if path.resolve() in (earlier.resolve() for earlier in paths[:place]):
                raise BenchboxError(f"--data {path} appears twice", hint="remove one of them")
    return [str(path) for path in paths] or [""]


def _resume(run: str, values: dict[str, Any], shown: Shown) -> RunStore:
    """Continue a run with the options in its folder; reject options that would change them."""
    from benchbox.engine.run import resume
    from benchbox.store import find_run

    context = click.get_current_context()
    if context.default_map:
        raise click.UsageError("--resume uses the options of the run itself; omit --config")
    typed = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    for param in context.command.params:
        if param.name in typed.keys() & RunOptions.__dataclass_fields__ and not option_of(param.name).resumable:
            word = param.opts[0] if isinstance(param, click.Option) else param.make_metavar(context)
            raise click.UsageError(f"--resume uses the options of the run itself; omit {word}")
    results: Path = values["results"]
    own = {"results", "plugins"}  # where to look for the run, and what to trust
    given = chosen(typed)
    changes = {name: getattr(given, name) for name in typed.keys() & RunOptions.__dataclass_fields__.keys() - own}
    return _watched(
        lambda progress: resume(find_run(results, run), progress, changes, values["plugins"]),
        results,
        shown,
        as_typed(given, (name for name in RunOptions.__dataclass_fields__ if name in {*changes, "plugins"})),
    )


def _watched(work: Callable[[RunProgress], RunStore], results: Path, shown: Shown, same: Sequence[str]) -> RunStore:
    """Show progress; if the work ends early, print the command that continues it in the `same` way.

    A run that continues forgets its cluster, see `resume`, so that the command has to name it again.
    """
    from benchbox.cli.progress import RunProgress

    progress = RunProgress(shown.sort, quiet=shown.quiet)

    def continuation() -> str:
        where = [] if results == Path("results") else ["--results", str(results)]
        return shlex.join(["benchbox", "run", "--resume", progress.run_id, *where, *same]) if progress.run_id else ""

    try:
        with interruptible(continuation), progress:
            return work(progress)
    except BenchboxError as error:
        if progress.run_id:
            hint = (
                f"{error.hint}; then continue with: {continuation()}"
                if error.hint
                else f"continue with: {continuation()}"
            )
            raise BenchboxError(error.message, hint=hint) from error
        raise


def _finish(runs: Sequence[Callable[[], RunStore]], shown: Shown) -> NoReturn:
    """Do runs and show each; the exit code says if a requested cell or a gate failed in any of them."""
    from benchbox.cli.reports import print_across

    # Who is quiet does not see a table, but gets a format that was asked for.
    hidden = shown.print_run_id or (shown.quiet and shown.form == "table")
    printing = shown.output is not None or not hidden
    boards: list[Leaderboard] = []
    codes, ids = [], []
    with printing_to(shown.output):
        for run in runs:
            store = run()
            each = printing and (len(runs) == 1 or shown.form == "table")
            if each and boards:
                echo("")
            board, code = _show(store, shown, printing=each, several=len(runs) > 1)
            boards.append(board)
            codes.append(code)
            ids.append(store.record.run_id)
        if len(boards) > 1 and printing:
            print_across(boards, shown.form)
    if shown.print_run_id:
        echo("\n".join(ids))
    sys.exit(1 if 1 in codes else max(codes))


def _show(store: RunStore, shown: Shown, *, printing: bool, several: bool) -> tuple[Leaderboard, int]:
    """Print the leaderboard of a run, the paths of its files, and why it fails; `several` runs say on which data."""
    from benchbox.cli.reports import print_board
    from benchbox.report import write_leaderboard
    from benchbox.report.build import build_leaderboard

    board = build_leaderboard(store, sort=shown.sort)
    if printing:
        print_board(board, shown.form, verbose=shown.verbose)
    written = write_leaderboard(store, board)
    if not shown.quiet:
        echo(f"results: {store.folder}; all notes: {written.name}, --verbose", err=True)
    if shown.page:
        from benchbox.report.html.page import write_html

        page = write_html(store, board)
        if not shown.quiet:
            echo(f"report: {page}", err=True)
    where = f" on {board.header.dataset}" if several else ""
    failures = _failures(store, board)
    if not printing or shown.output is not None or shown.form != "table":  # the table itself says it
        for failure in failures:
            echo(f"failed{where}: {failure}", err=True)
    breaches: tuple[Breach, ...] = ()
    if shown.gates:
        from benchbox.report.gates import check_limits, parse_limit

        units = {metric.spec: metric.unit for metric in board.metrics}
        breaches = check_limits([parse_limit(gate, units, timing=board.timing) for gate in shown.gates], board)
        for breach in breaches:
            echo(f"gate failed{where}: {breach}", err=True)
    return board, 1 if failures else GATE_FAILED if breaches else 0


def _failures(store: RunStore, board: Leaderboard) -> list[str]:
    """What makes the exit code 1: cells and timings that failed, and scores that are missing."""
    record, outcomes = store.record, store.outcomes()
    cells = [(record.cell_label(cell), outcomes[cell.key]) for cell in record.cells]
    timings = [(f"timing of {record.denoiser_label(spec)}", timing) for spec, timing in store.timings().items()]
    return [
        *(f"{label}: {cell.status}: {cell.reason}" for label, cell in cells if cell.status not in ("ok", "skipped")),
        *(
            f"{row.denoiser} @ {block.noise}: {row.reason}"
            for block in board.blocks
            for row in block.rows
            if row.status == "incomplete"
        ),
        *(f"{label}: {timing.status}: {timing.reason}" for label, timing in timings if timing.status != "ok"),
    ]
