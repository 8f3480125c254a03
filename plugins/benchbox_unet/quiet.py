"""Hides messages that native libraries print to the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_messages_hidden() -> Iterator[None]:
    """Redirect the process's standard error to the null device.

    TensorFlow, its converter and LiteRT report on start-up which kernels they found, before they read their log level.
    Python exceptions are not affected. Set ``BENCHBOX_NATIVE_LOG=1`` to see the messages.
    """
    if os.environ.get("BENCHBOX_NATIVE_LOG") == "1":
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
