"""Runs a program and, when it exits or its parent goes away, kills every process it started.

`benchbox.system.program` runs this file directly. It imports nothing from benchbox, so it starts in milliseconds.
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
    """Make this process the parent of descendants whose own parent exits (a subreaper); returns the old setting.

    Without this a daemon that a plugin forks would become a child of init, where nobody finds it. Linux only.
    """
    before = ctypes.c_int(0)
    _control(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before))
    _control(_PR_SET_CHILD_SUBREAPER, adopt)
    return bool(before.value)


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent exits; Linux only."""
    _control(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_children() -> None:
    """Kill all children of this process, and the orphans it inherits by that, until none are left.

    One pass is not enough: killing a child hands its own children to this process, so the loop runs until `waitpid`
    reports that there are none.
    """
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
    """PIDs of this process's children, including zombies; Linux only."""
    pids, own_pid = [], str(os.getpid()).encode()
    for file in Path("/proc").glob("[0-9]*/stat") if sys.platform == "linux" else []:
        with contextlib.suppress(OSError):
            # The parent's PID follows the program's name, which may itself contain blanks and parentheses.
            if file.read_bytes().rpartition(b")")[2].split()[1] == own_pid:
                pids.append(int(file.parent.name))
    return pids


def _control(option: int, value: Any) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _end_when_unwanted(life: int, child: int) -> None:
    """Kill the program once the owner sends a byte or is gone.

    The owner holds the other end of the pipe. The kernel closes it however the owner dies, and `read` then returns.
    """
    os.read(life, 1)
    with contextlib.suppress(OSError):
        os.kill(child, signal.SIGKILL)


def _end_likewise(status: int) -> None:
    """Exit with the program's exit code, or die by the same signal."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        _control(_PR_SET_DUMPABLE, 0)  # no core dump: the crash was the program's, not ours
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        with contextlib.suppress(OSError):
            os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def main() -> None:
    """Run the program in the arguments; the first argument is the file descriptor of the owner's pipe."""
    life, command = int(sys.argv[1]), sys.argv[2:]
    # The program could read the owner's byte in the guardian's place.
    os.set_inheritable(life, False)
    adopt_orphans()
    child = os.fork()
    if not child:
        try:
            end_with_parent()
            # So that a program that signals its whole process group does not hit its guardian.
            os.setsid()
            os.execv(command[0], command)
        finally:
            # Reached only if the program cannot be started; a shell ends with this code, too.
            os._exit(127)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the owner gets them too, and decides
    threading.Thread(target=_end_when_unwanted, args=(life, child), daemon=True).start()
    status = os.waitpid(child, 0)[1]
    end_children()
    _end_likewise(status)


if __name__ == "__main__":
    main()
