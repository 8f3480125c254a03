"""The `benchbox` command: imports each sub-command on use and prints errors with their hints."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from typing import NoReturn

import click

from benchbox.api.version import __version__
from benchbox.cli.terminal import contained, echo
from benchbox.system.text import guard_streams, unprinted

_ENDING_S = 10.0
"""Seconds that the process may take to exit after its work is done."""

_COMMANDS = {
    "run": ("run:command", "Score denoisers on noisy images and show the leaderboard."),
    "leaderboard": ("reports:leaderboard", "Show the leaderboard of a run, or write it to a file."),
    "report": ("reports:report", "Write the report of a run: a web page with charts and pictures."),
    "show": ("reports:show", "Show pictures of a run, or write its pictures and charts as files."),
    "compare": ("reports:compare", "Compare two runs; fail if the later one is worse than allowed."),
    "merge": ("reports:merge", "Merge several runs into one leaderboard."),
    "replay": ("recompute:replay", "Recompute a run and check that every score is identical."),
    "whatif": ("recompute:whatif", "Show how a ranking changes under other protocols."),
    "denoise": ("models:denoise", "Denoise your own pictures with any denoiser."),
    "train": ("train:train", "Train a denoiser and write weights with a training card."),
    "tune": ("train:tune", "Search for the best options of a denoiser."),
    "verify": ("verify:command", "Check benchbox against formulas and published numbers."),
    "inspect": ("models:inspect", "Say what a model file is, without running it, and how to run it."),
    "data": ("data:command", "Describe a data set; find duplicate images in it."),
    "list": ("lists:listing_group", "List denoisers, noises, data sets, metrics or runs."),
    "plugins": ("lists:plugins_group", "List plugins, check one, or create one."),
}


_WITH_CACHE = frozenset({"run", "replay", "whatif", "verify", "denoise", "train", "tune", "inspect", "data", "plugins"})
"""Commands that keep parsed data, hashes or compiled kernels in the cache folder."""


_WITH_CHARTS = frozenset({"report", "show"})
"""Commands that draw charts, so matplotlib needs its cache; they parse no data."""


_READERS = frozenset({"leaderboard", "report", "show", "compare", "merge"})
"""Commands that only read runs from disk; every other one may import plugins, and ends what they leave running."""


class _LazyGroup(click.Group):
    """A group that knows its commands by name and imports only the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"benchbox.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from benchbox.api.errors import BenchboxError, did_you_mean

            raise BenchboxError(f"there is no command '{args[0]}'", hint=did_you_mean(args[0], _COMMANDS))
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="benchbox %(version)s")
@click.option("--traceback", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, traceback: bool) -> None:
    """Fair, fast, trustworthy benchmarking of image denoisers.

    \b
    Examples:
      benchbox run --noise gaussian:0.1
      benchbox run median:size=5 nl_means --data fer2013.csv --limit 500
      benchbox leaderboard --format markdown
    """
    ctx.obj = traceback
    if ctx.invoked_subcommand not in _READERS:
        ctx.with_resource(contained())
    # A notebook sets a backend of its own, which a child process may be unable to import.
    os.environ["MPLBACKEND"] = "agg"
    if ctx.invoked_subcommand in _WITH_CACHE | _WITH_CHARTS:
        from benchbox.system.files import usable_cache

        warning = ctx.with_resource(usable_cache())
        if warning and ctx.invoked_subcommand in _WITH_CACHE:
            click.secho("warning: ", fg="yellow", nl=False, err=True)
            echo(warning, err=True)


def main() -> NoReturn:
    """Run the command line; the exit code is 1 if a cell failed and 2 after an error."""
    code: int | str = 1
    guard_streams()
    try:
        code = _run()
        if problem := unprinted():
            click.echo(f"error: cannot print: {problem}\nhint: print to another place; finished work is kept", err=True)
            code = code or 2
    finally:
        watch = threading.Timer(_ENDING_S, _end, [code if isinstance(code, int) else bool(code)])
        watch.daemon = True
        watch.start()
    sys.exit(code)


def _run() -> int | str:
    try:
        code: int | None = cli.main(prog_name="benchbox", standalone_mode=False)
        return code or 0
    except SystemExit as ended:
        return ended.code or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return 130
    except Exception as error:
        return _explain(error)


def _end(code: int) -> None:
    """End the process: Python would wait forever for threads and exit handlers that a plugin left running."""
    with contextlib.suppress(OSError, ValueError):
        click.echo("a plugin left something running; exiting without waiting for it", err=True)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _explain(error: Exception) -> int:
    """Print an error and its hint, one line each; re-raise any other exception."""
    from benchbox.api.errors import BenchboxError
    from benchbox.cli.options import Misuse

    if isinstance(error, click.ClickException):
        message, hint = error.format_message(), error.hint if isinstance(error, Misuse) else ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = hint or f"see {error.ctx.command_path} --help"
    elif isinstance(error, BenchboxError) and "--traceback" not in sys.argv:
        message, hint = error.message, error.hint
    else:
        raise error
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    echo(message, err=True)
    if hint:
        click.secho("hint: ", fg="yellow", nl=False, err=True)
        echo(hint, err=True)
    return 2
