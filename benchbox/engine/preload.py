"""Modules that the worker server imports before it forks: the engine and its kernels, no plugins."""

from __future__ import annotations

import atexit
import os
import signal
import warnings

import numpy as np

from benchbox.builtin.metrics import METRICS
from benchbox.builtin.sigma import estimate_sigma
from benchbox.engine import worker
from benchbox.engine.workers import HELD_BACK, SAFE_PATH
from benchbox.system.guardian import adopt_orphans, end_children

__all__ = ["worker"]

os.environ.pop(SAFE_PATH, None)

# A first call loads a compiled kernel from disk; forked processes then have it without importing numba again.
_IMAGES = np.zeros((1, 32, 32), dtype=np.float32)
for _metric in METRICS:
    _metric()(_IMAGES, _IMAGES)
estimate_sigma(_IMAGES)

_SERVER = os.getpid()


def _hear_again() -> None:
    """Have a worker hear the signals that were held back from its server."""
    if os.getppid() == _SERVER:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


os.register_at_fork(after_in_child=_hear_again)

# What workers leave behind becomes the server's, which says nothing of it and ends it when the run is gone.
adopt_orphans()
atexit.register(end_children)
warnings.filterwarnings("ignore", "forkserver: waitpid returned unexpected pid")
