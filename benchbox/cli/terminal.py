"""What every command does at the terminal: prints, and ends cleanly, with every process that its plugins started."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import click

from benchbox.api.errors import BenchboxError
from benchbox.system.text import printable


def echo(text: object, *, nl: bool = True, err: bool = False, bold: bool = False) -> None:
    """Print text without control characters, except line feeds."""
    lines = "\n".join(printable(line) for line in str(text).split("\n"))
    click.secho(lines, nl=nl, err=err, bold=bold or None)


def print_text(text: str) -> None:
    """Print a text that ends with exactly one line feed."""
    click.echo(text, nl=not text.endswith("\n"))


def typed_command() -> str:
    """The command line as it was typed."""
    return shlex.join(["benchbox", *sys.argv[1:]])


@contextlib.contextmanager
def printing_to(output: Path | None) -> Iterator[None]:
    """Write everything printed in the block to the file of ``--output``, when it is complete."""
    if output is None:
        yield
        return
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        yield
    write_output(output, printed.getvalue())


def write_output(output: Path, text: str) -> None:
    """Write a text to the file of ``--output``."""
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BenchboxError(
            f"cannot write {output}: {error.strerror}", hint="choose another file with --output"
        ) from error


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Handle interrupts, and at the end of the command kill every process that plugins started."""
    from benchbox.system.program import killing_new_children

    with interruptible(), killing_new_children():
        yield


@contextlib.contextmanager
def interruptible(continuation: Callable[[], str] = str) -> Iterator[None]:
    """Let the first SIGINT, SIGTERM or SIGHUP end the work cleanly, the second at once; the exit code is 130.

    `continuation` returns the command that continues the work, or an empty string if there is nothing to continue.
    """
    interrupted = False

    def message(how: str) -> str:
        command = continuation()
        if command:
            return f"{how}; finished work is kept. Continue with: {command}\n"
        return f"{how}. Start again with: {typed_command()}\n"

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            # Where this module was not imported, there are no workers.
            if abandon_all := getattr(sys.modules.get("benchbox.engine.workers"), "abandon_all", None):
                abandon_all()
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(2, message("stopped at once").encode())
            os._exit(130)
        interrupted = True
        raise KeyboardInterrupt

    # A shell script starts background jobs with SIGINT ignored, but an explicit SIGINT must still work.
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it on purpose
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            click.echo(message("interrupted"), nl=False, err=True)
        sys.exit(130)
    finally:
        for number, handler in before.items():
            # After an interrupt only the message is left to print; a second one must not suppress it. What an inner
            # block ignores for that reason stays ignored until the process has ended.
            if signal.getsignal(number) is interrupt:
                signal.signal(number, signal.SIG_IGN if interrupted else handler)
