"""Runs a program and, when it exits or its parent goes away, kills every process it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from benchbox.system import guardian


def signal_name(number: int) -> str:
    """Name of a signal, ``SIGKILL``; ``signal 40`` for one that has none, as most of the real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_End = int | IO[bytes]
_END_S = 10.0


class GuardedProgram(subprocess.Popen[bytes]):
    """A program under a guardian, which ends as the program does, but only after all that it has started.

    It does so too when the process that made this ends, however that comes about. The program leads a session of its
    own.

    Parameters
    ----------
    command : sequence of str
        Path of the program, and its arguments.
    stdin, stdout, stderr : int or file
        As for `subprocess.Popen`.
    pass_fds : sequence of int
        Further open files that the program inherits.
    environment : mapping of str to str, optional
        Its environment, where it is not that of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: _End,
        stdout: _End,
        stderr: _End,
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        theirs, self._life = os.pipe()
        try:
            super().__init__(
                [sys.executable, "-I", "-S", str(Path(guardian.__file__)), str(theirs), *command],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                pass_fds=[theirs, *pass_fds],
                start_new_session=True,
            )
        except OSError:
            os.close(self._life)
            raise
        finally:
            os.close(theirs)

    def end(self) -> None:
        """End the program and all that it started; nothing happens where that was done before."""
        if self._life >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._life, b".")
            os.close(self._life)
            self._life = -1
        try:
            self.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
