"""What the server of the worker processes holds before it forks them: the harness and its compiled ruler, no plugin."""

from __future__ import annotations

import os

import numpy as np

from benchbox.builtin.metrics import METRICS
from benchbox.builtin.sigma import estimate_sigma
from benchbox.engine import worker
from benchbox.engine.processes import SAFE_PATH

__all__ = ["worker"]

os.environ.pop(SAFE_PATH, None)

# A first call loads a compiled kernel from disk; forked processes then have it without importing numba again.
_IMAGES = np.zeros((1, 32, 32), dtype=np.float32)
for _metric in METRICS:
    _metric()(_IMAGES, _IMAGES)
estimate_sigma(_IMAGES)
