"""Runs a program and, when it exits or its parent goes away, kills every process it started.

`benchbox.system.program` starts it as a file, and it imports nothing of benchbox, so that it is there in milliseconds.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_END_S = 5
_AGAIN_S = 0.005


def adopt_orphans(adopt: bool = True) -> bool:
    """Whether a descendant whose parent has ended becomes a child of this process from now on; on Linux only.

    Gives what was so before.
    """
    before = ctypes.c_int(0)
    _control(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before))
    _control(_PR_SET_CHILD_SUBREAPER, adopt)
    return bool(before.value)


def end_with_parent() -> None:
    """Have the system kill this process when the one that started it ends; on Linux only."""
    _control(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_children() -> None:
    """End every child of this process, and the orphans that it is then given, until there are none."""
    end = time.monotonic() + _END_S
    while time.monotonic() < end:
        for child in children():
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(_AGAIN_S)


def children() -> list[int]:
    """Numbers of the children of this process, those that have ended and are not yet waited for too; on Linux only."""
    found, ours = [], str(os.getpid()).encode()
    for file in Path("/proc").glob("[0-9]*/stat") if sys.platform == "linux" else []:
        with contextlib.suppress(OSError):
            # State and parent follow the name of the program, which may hold anything.
            if file.read_bytes().rpartition(b")")[2].split()[1] == ours:
                found.append(int(file.parent.name))
    return found


def _control(option: int, value: Any) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _end_when_unwanted(life: int, child: int) -> None:
    """Wait for a byte, or for the end of whoever would have sent it."""
    os.read(life, 1)
    with contextlib.suppress(OSError):
        os.kill(child, signal.SIGKILL)


def _end_likewise(status: int) -> None:
    """End as the program did."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        _control(_PR_SET_DUMPABLE, 0)  # what it dies of is not its own fault
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        with contextlib.suppress(OSError):
            os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def main() -> None:
    """Run the program that the arguments name, after the end of a pipe that tells when it is not wanted any more."""
    life, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(life, False)
    adopt_orphans()
    child = os.fork()
    if not child:
        try:
            end_with_parent()
            os.setsid()
            os.execv(command[0], command)
        finally:
            os._exit(127)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # who wanted the program hears of them too
    threading.Thread(target=_end_when_unwanted, args=(life, child), daemon=True).start()
    status = os.waitpid(child, 0)[1]
    end_children()
    _end_likewise(status)


if __name__ == "__main__":
    main()
