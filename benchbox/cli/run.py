"""`benchbox run`: score and time denoisers."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from benchbox.cli.options import (
    data_options,
    noise_option,
    plugin_options,
    protocol_options,
    results_option,
    sort_option,
    timeout_option,
)

if TYPE_CHECKING:
    from benchbox.cli.progress import RunProgress
    from benchbox.engine.plan import Limits
    from benchbox.store import RunStore

_WITH_RESUME = ("resume", "results", "jobs", "timeout", "memory", "sort", "rank_leaky", "page", "plugin_files")


@click.command("run")
@click.argument("denoisers", nargs=-1)
@noise_option
@data_options("Training, PublicTest or PrivateTest of FER2013.  [default: PublicTest]")
@protocol_options
@click.option(
    "--sigma-error",
    default="",
    metavar="F,F,...",
    help="Also tell a noise level that is wrong by these factors (0.5,1,2): the mismatch curve.",
)
@click.option(
    "--repeats", type=click.IntRange(min=1), default=1, show_default=True, help="Noises drawn for each image."
)
@click.option("--metric", "metrics", multiple=True, help="Metric; may repeat.  [default: all built-in ones]")
@sort_option
@click.option("--rank-leaky", is_flag=True, help="Rank rows that were trained on images they are scored on.")
@click.option("--jobs", type=click.IntRange(min=1), help="Worker processes.  [default: one more than cores]")
@click.option("--timing/--no-timing", default=True, show_default=True, help="Time each denoiser alone.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads when timed.")
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True, help="Batch of the throughput.")
@timeout_option
@click.option(
    "--previews",
    type=click.IntRange(min=0, max=32),
    default=4,
    show_default=True,
    help="Images of each noise whose pictures are kept for the report, chosen by the scores.",
)
@click.option("--memory", type=click.FloatRange(min=0, min_open=True), help="GiB that a denoiser's process may hold.")
@click.option("--report", "page", is_flag=True, help="Write the report as a web page at the end.")
@click.option("--resume", default="", metavar="RUN", help="Go on with a run: compute what is missing of it.")
@results_option
@plugin_options
def command(
    denoisers: tuple[str, ...],
    noises: tuple[str, ...],
    data: Path | None,
    dataset: str,
    split: str,
    limit: int | None,
    skip_bad: bool,
    drop_duplicates: bool,
    seed: int,
    clip: bool,
    quantize: bool,
    sigma: str,
    sigma_error: str,
    repeats: int,
    metrics: tuple[str, ...],
    sort: str,
    rank_leaky: bool,
    jobs: int | None,
    timing: bool,
    threads: int,
    batch: int,
    timeout: float,
    memory: float | None,
    previews: int,
    page: bool,
    resume: str,
    results: Path,
    plugin_files: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
) -> None:
    """Score DENOISERS on noisy images and show the leaderboard.

    Without DENOISERS every one that is installed takes part. An option is set as in median:size=5, and a denoiser may
    stand in a run several times with different options.

    \b
    Examples:
      benchbox run --noise gaussian:0.1
      benchbox run median:size=3 median:size=5 nl_means --noise salt-pepper:0.05 --noise gaussian:25/255
      benchbox run --data fer2013.csv --split PublicTest --limit 500 --noise gaussian:0.1
    """
    from benchbox.engine.plan import Limits
    from benchbox.engine.workers import worker_context

    worker_context()  # first of all: it loads the ruler while this process imports what it needs
    if resume:
        _finish(_resume(resume, results, jobs, Limits(timeout, memory), plugin_files), sort, rank_leaky, page)
    from benchbox.api.errors import BenchboxError, did_you_mean
    from benchbox.engine.plan import DEFAULT_METRICS, RunConfig, default_jobs
    from benchbox.records.run import DataRequest, Protocol

    scored = [one.partition(":")[0] for one in metrics or DEFAULT_METRICS]
    if sort and sort.partition(":")[0] not in scored:
        raise BenchboxError(f"--sort {sort}: this run would have no metric '{sort}'", hint=did_you_mean(sort, scored))
    if sigma_error and sigma != "given":
        raise click.UsageError("--sigma-error goes with --sigma given: a level that is not told cannot be told wrong")
    config = RunConfig(
        denoisers=denoisers,
        noises=noises,
        metrics=metrics or DEFAULT_METRICS,
        data=DataRequest(dataset, str(data) if data else "", split, limit, seed, skip_bad, drop_duplicates),
        protocol=Protocol(seed, clip or quantize, quantize, sigma, repeats),  # type: ignore[arg-type]
        sigma_errors=_factors(sigma_error),
        jobs=jobs or default_jobs(),
        timing=timing,
        timing_threads=threads,
        timing_batch=batch,
        previews=previews,
        limits=Limits(timeout, memory),
        results=results,
        plugin_files=plugin_files,
        plugin_folders=plugin_folders,
        command=shlex.join(["benchbox", *sys.argv[1:]]),
    )
    from benchbox.engine.run import execute

    _finish(_watched(lambda progress: execute(config, progress), results), sort, rank_leaky, page)


def _factors(text: str) -> tuple[float, ...]:
    try:
        factors = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise click.UsageError(f"--sigma-error {text}: {error}; write factors such as 0.5,1,2") from error
    if any(not 0 < factor < 100 for factor in factors):
        raise click.UsageError(f"--sigma-error {text}: a factor lies above 0 and below 100")
    return factors


def _resume(resume: str, results: Path, jobs: int | None, limits: Limits, plugin_files: tuple[Path, ...]) -> RunStore:
    """Go on with a run; what it is made of stands in its folder, so nothing else can be asked for."""
    from benchbox.engine.run import resume as go_on
    from benchbox.store import find_run

    context = click.get_current_context()
    for name, value in context.params.items():
        if name not in _WITH_RESUME and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--resume takes what was asked for from the run itself; leave out {name}={value}")
    return _watched(
        lambda progress: go_on(
            find_run(results, resume), progress, jobs=jobs, limits=limits, plugin_files=plugin_files
        ),
        results,
    )


def _watched(work: Callable[[RunProgress], RunStore], results: Path) -> RunStore:
    """Show progress; an interrupt, SIGTERM or SIGHUP ends the work in order, a second at once; how to go on is said."""
    from benchbox.api.errors import BenchboxError
    from benchbox.cli.progress import RunProgress
    from benchbox.engine.workers import abandon_all, strangers_ended

    progress = RunProgress()
    interrupted = False

    def go_on() -> str:
        where = [] if results == Path("results") else ["--results", str(results)]
        return shlex.join(["benchbox", "run", "--resume", progress.run_id, *where])

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            abandon_all()
            words = f"ended at once; what was finished is kept. Go on with: {go_on()}\n" if progress.run_id else ""
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(2, words.encode())
            os._exit(130)
        interrupted = True
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        with strangers_ended(), progress:
            return work(progress)
    except KeyboardInterrupt:
        if progress.run_id:
            with contextlib.suppress(OSError):
                click.echo(f"interrupted; what was finished is kept. Go on with: {go_on()}", err=True)
            sys.exit(130)
        raise
    except BenchboxError as error:
        if progress.run_id:
            hint = f"{error.hint}; then go on with: {go_on()}" if error.hint else f"go on with: {go_on()}"
            raise BenchboxError(error.message, hint=hint) from error
        raise
    finally:
        for number, handler in before.items():
            # After an interrupt all that is left to do is to say so; a second one must not take that away.
            signal.signal(number, signal.SIG_IGN if interrupted else handler)


def _finish(store: RunStore, sort: str, rank_leaky: bool, page: bool) -> NoReturn:
    """Print the leaderboard and where everything is; the exit code is 1 when a requested cell failed."""
    from rich.console import Console

    from benchbox.report import write_leaderboard
    from benchbox.report.build import build_leaderboard
    from benchbox.report.terminal import TerminalLeaderboard

    board = build_leaderboard(store, sort=sort, rank_leaky=rank_leaky)
    Console().print(TerminalLeaderboard(board), crop=False)
    written = write_leaderboard(store, board)
    click.echo(f"results: {store.folder}\nmarkdown: {written}", err=True)
    if page:
        from benchbox.report.html import write_html

        click.echo(f"report: {write_html(store, board)}", err=True)
    outcomes = store.outcomes()
    failed = (
        any(outcomes[cell.key].status not in ("ok", "skipped") for cell in store.record.cells)
        or any(row.status == "incomplete" for block in board.blocks for row in block.rows)
        or any(timing.status != "ok" for timing in store.timings().values())
    )
    sys.exit(1 if failed else 0)
