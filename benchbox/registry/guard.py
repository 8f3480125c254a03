"""Keeps what belongs to the whole process as it is while a plugin is imported."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def process_kept() -> Iterator[None]:
    """Take back what is done inside to the working folder, the environment, umask, signals and random states.

    A plugin that changes folder would move the results, one that ignores an interrupt would make the run deaf to it.
    """
    with contextlib.ExitStack() as after:
        # No path: a folder may be renamed or removed while this works in it.
        with contextlib.suppress(OSError):
            here = os.open(os.curdir, os.O_RDONLY | os.O_CLOEXEC)
            after.callback(os.close, here)
            after.callback(os.fchdir, here)
        after.callback(_set_environment, dict(os.environ))
        mask = os.umask(0o077)
        os.umask(mask)
        after.callback(os.umask, mask)
        after.callback(random.setstate, random.getstate())
        if "numpy.random" in sys.modules:
            import numpy as np

            # The state that everything shares, which nothing of ours draws from.
            after.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002
        # Only there can handlers be set.
        if threading.current_thread() is threading.main_thread():
            for number in signal.valid_signals():
                after.callback(_set_handler, number, signal.getsignal(number))
            after.callback(signal.pthread_sigmask, signal.SIG_SETMASK, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        yield


def _set_environment(values: dict[str, str]) -> None:
    for name in os.environ.keys() - values.keys():
        del os.environ[name]
    for name, value in values.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _set_handler(number: signal.Signals, handler: Any) -> None:
    # None is a handler that was not set from Python, and cannot be set again.
    if handler is not None and signal.getsignal(number) is not handler:
        signal.signal(number, handler)
