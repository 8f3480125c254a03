"""What surrounds every command that runs plugins: interrupts end it in order, and nothing that it started is left."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """End a command in order on an interrupt, and whatever plugins have started here when it is over."""
    from benchbox.system.program import children_ended

    with interruptible(lambda: ""), children_ended():
        yield


@contextlib.contextmanager
def interruptible(last_words: Callable[[], str]) -> Iterator[None]:
    """Raise `KeyboardInterrupt` on the first SIGINT, SIGTERM or SIGHUP, and exit at once on the second.

    Parameters
    ----------
    last_words : callable
        What to tell the user before exiting at once.
    """
    from benchbox.engine.workers import abandon_all

    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            abandon_all()
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(2, last_words().encode())
            os._exit(130)
        interrupted = True
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            # After an interrupt all that is left to do is to say so; a second one must not take that away.
            signal.signal(number, signal.SIG_IGN if interrupted else handler)
