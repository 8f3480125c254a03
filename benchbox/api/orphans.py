"""No orphans: a process that runs a plugin ends when the one that started it has ended, even if that was killed."""

from __future__ import annotations

import contextlib
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the system kill this process as soon as its parent has ended.

    Linux does so whatever this process is busy with; elsewhere nothing is asked for, and it ends with its work.
    """
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
