"""What surrounds every command that runs plugins: interrupts end it in order, and nothing that it started is left."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import click

from benchbox.cli.options import typed_command


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """End a command in order on an interrupt, and whatever plugins have started here when it is over."""
    from benchbox.system.program import killing_new_children

    with interruptible(), killing_new_children():
        yield


@contextlib.contextmanager
def interruptible(go_on: Callable[[], str] = str) -> Iterator[None]:
    """Let the first SIGINT, SIGTERM or SIGHUP end the work in order, the second at once; exit code 130 either way.

    Parameters
    ----------
    go_on : callable
        Gives the command that continues what was finished; empty while there is nothing to continue, so that the same
        command has to be started again.
    """
    from benchbox.engine.workers import abandon_all

    interrupted = False

    def words(how: str) -> str:
        command = go_on()
        if command:
            return f"{how}; what was finished is kept. Go on with: {command}\n"
        return f"{how}. Start again with: {typed_command()}\n"

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            abandon_all()
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(2, words("ended at once").encode())
            os._exit(130)
        interrupted = True
        raise KeyboardInterrupt

    # A script that started this with & has it ignore SIGINT, but whoever sends one means it.
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            click.echo(words("interrupted"), nl=False, err=True)
        sys.exit(130)
    finally:
        for number, handler in before.items():
            # After an interrupt all that is left to do is to say so; a second one must not take that away.
            signal.signal(number, signal.SIG_IGN if interrupted else handler)
