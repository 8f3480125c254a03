"""Starts programs under the guardian, and talks to Python child processes that may hang or die."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Any

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


class ChildDied(Exception):
    """The process ended without an answer."""


class ChildHangs(Exception):
    """The process did not answer in time."""


class Child:
    """A fresh interpreter that runs one module of this package; use it in a ``with`` statement.

    Parameters
    ----------
    module : str
        Its function ``main`` is called; the number of its end of the pipe is its argument.
    environment : mapping of str to str, optional
        Variables to set, before anything is imported.
    """

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="benchbox-")
        self._out, self._err = (Path(self._folder.name) / name for name in ("out", "err"))
        ours, theirs = multiprocessing.Pipe()
        self._pipe: Connection[Any, Any] = ours
        with theirs, self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = GuardedProgram(
                [sys.executable, "-P", "-c", f"from {module} import main; main()", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                environment=os.environ | dict(environment or {}),
                pass_fds=[theirs.fileno()],
            )

    def __enter__(self) -> Child:
        """Give the process."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.end()

    def end(self) -> None:
        """End the process and all that it started."""
        self._pipe.close()
        self._process.end()
        self._folder.cleanup()

    def send(self, value: object) -> None:
        """Send a value that pickles."""
        with contextlib.suppress(BrokenPipeError):  # `receive` then says how the process ended
            self._pipe.send(value)

    def receive(self, timeout_s: float) -> Any:
        """Wait for a value.

        Raises
        ------
        ChildDied
            The process ended first.
        ChildHangs
            Nothing came in time.
        """
        if not self._pipe.poll(timeout_s):
            raise ChildHangs(f"no answer within {timeout_s:g} s")
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            code = self._process.wait()
            how = f"by {signal_name(-code)}" if code < 0 else f"with exit code {code}"
            raise ChildDied(f"its process was ended {how}{self._last_words()}") from error

    def output(self) -> str:
        """What the process has written to its standard output."""
        return self._out.read_text(encoding="utf-8", errors="replace")

    def _last_words(self) -> str:
        lines = self._err.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""
