"""Keeps messages that native libraries print off the user's terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_messages_hidden() -> Iterator[None]:
    """Send the process's standard error to nowhere.

    TensorFlow, its converter and LiteRT report on start-up which kernels they found, before any log level of theirs is
    heeded. Python's exceptions are not touched. Set ``BENCHBOX_NATIVE_LOG=1`` to see the messages.
    """
    if os.environ.get("BENCHBOX_NATIVE_LOG") == "1":
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
