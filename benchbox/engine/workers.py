"""Starts worker processes in milliseconds, limits their threads, and ends them with everything they started."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.connection
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchbox.api.errors import BenchboxError
from benchbox.api.threads import thread_environment
from benchbox.system.files import TEMPORARY_HINT, remove_all, temporary_folder
from benchbox.system.output import OutputKeeper
from benchbox.system.program import MemoryLimitPassed, TimeLimitPassed

HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that the fork server never hears: it ends after this process, and cleans up."""
NUMBER = struct.Struct("<q")
"""How the fork server sends the number of a worker, and later its exit code."""
_SERVER = "import sys; from benchbox.engine.forkserver import main; main(int(sys.argv[1]))"
_POLL_S = 0.2
_GRACE_S = 1.0  # exit handlers of a plugin may take this long
_END_S = 10.0


class WorkerDied(Exception):
    """The process ended without an answer; `code` is as for `subprocess.Popen.returncode`.

    None where it closed its connection and went on, so that it had to be ended.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class Stopped(Exception):
    """The answer is not wanted any more."""


@dataclass(frozen=True)
class WorkerSettings:
    """Where a worker works: as if the process that asked for it had started it."""

    path: list[str]  # folders to import from
    folder: str  # working folder
    environment: dict[str, str]

    @staticmethod
    def here(scratch: Path | None = None) -> WorkerSettings:
        """Those of this process, with a folder of their own for temporary files."""
        try:
            folder = os.getcwd()  # noqa: PTH109
        except FileNotFoundError:  # it was removed, and nobody may need it
            folder = os.sep
        own = {"TMPDIR": str(scratch)} if scratch else {}
        return WorkerSettings([entry or folder for entry in sys.path], folder, os.environ | own)

    def enter(self) -> None:
        """Work there; libraries that are imported from now on use one thread."""
        sys.path[:] = self.path
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment | thread_environment(1))
        tempfile.tempdir = None  # what it was before


class WorkerContext:
    """The fork server: a clean process that holds the harness and no plugin, from which workers are forked.

    Use `worker_context`, which starts one for this process.
    """

    def __init__(self) -> None:
        self.used = False
        """Whether a worker was ever asked for."""
        self.control, theirs = socket.socketpair()
        # -P: a file in the working directory must not pass for a library.
        command = [sys.executable, "-P", "-c", _SERVER, str(theirs.fileno())]
        with theirs, _blocked(HELD_BACK):
            self._server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=os.environ | thread_environment(1),
                pass_fds=[theirs.fileno()],
            )

    def Process(self, target: Callable[..., object], args: Sequence[Any] = ()) -> WorkerProcess:
        """A worker that is given one call when it starts, like the processes of a `multiprocessing` context."""
        return WorkerProcess(self, WorkerSettings.here(), target=(target, tuple(args)))

    @property
    def alive(self) -> bool:
        """Whether workers can be forked from it."""
        return self._server.poll() is None

    def end(self, timeout_s: float = _END_S) -> None:
        """End all workers, what they have started, and the server."""
        self.control.close()
        if not self.used:  # it has nothing to clean up, and may be importing for a while yet
            self._server.kill()
        try:
            self._server.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()

    def forget(self) -> None:
        """In a fork of this process: leave the server, which ends once nobody holds its socket, to the parent."""
        self.control.close()
        self._server.returncode = 0


_context: WorkerContext | None = None
_lock = threading.Lock()


def worker_context() -> WorkerContext:
    """Give the fork server of this process; start it unless it runs already."""
    global _context
    with _lock:
        if _context is None or not _context.alive:
            try:
                _context = WorkerContext()
            except OSError as error:
                raise BenchboxError(f"worker processes cannot be started: {error}", hint=TEMPORARY_HINT) from error
        return _context


@atexit.register
def end_server() -> None:
    """End the fork server of this process, if there is one."""
    global _context
    if _context is not None:
        _context.end()
        _context = None


def _forget_server() -> None:
    global _context, _lock
    _lock = threading.Lock()
    if _context is not None:
        _context.forget()
        _context = None


# A worker of `multiprocessing`, or a daemon that a plugin has forked, must not keep the server of its parent alive.
os.register_at_fork(after_in_child=_forget_server)


def abandon_all() -> None:
    """End every worker and leave no file: this process is about to exit at once, and guarded programs end with it."""
    with contextlib.suppress(Exception):
        end_server()
    remove_all()


class WorkerProcess:
    """A fork of the server that answers one call after another, until its connection is closed."""

    def __init__(
        self,
        context: WorkerContext,
        settings: WorkerSettings,
        *,
        output: int | None = None,
        target: tuple[Callable[..., object], tuple[Any, ...]] | None = None,
    ) -> None:
        self._context = context
        self._settings = settings
        self._output = [] if output is None else [output]
        self._target = target
        self.pid: int | None = None
        self.exitcode: int | None = None

    def start(self) -> None:
        """Ask the server for the process."""
        ours, theirs = socket.socketpair()
        self._lifeline, their_life = socket.socketpair()
        self.connection: Connection[Any, Any] = Connection(ours.detach())
        with theirs, their_life, contextlib.suppress(OSError):  # `join` then finds the server gone
            files = [their_life.fileno(), theirs.fileno(), *self._output]
            self._context.used = True
            socket.send_fds(self._context.control, [b"w"], files)
            self.connection.send(self._settings)
            if self._target:
                self.connection.send(self._target)

    def started(self, timeout_s: float) -> bool:
        """Wait for the server, which may still be importing the ruler, to fork the process."""
        if self.pid is None and multiprocessing.connection.wait([self._lifeline], timeout_s):
            self.pid = self._number()
        return self.pid is not None

    def join(self, timeout_s: float = _END_S) -> int | None:
        """Wait for its end; gives the exit code, None when it is still running."""
        end = time.monotonic() + timeout_s
        while self.exitcode is None and multiprocessing.connection.wait(
            [self._lifeline], max(0.0, end - time.monotonic())
        ):
            if self.pid is None:
                self.pid = self._number()
            else:
                self.exitcode = self._number()
                self._clean_up()
        return self.exitcode

    def end(self, grace_s: float = 0.0) -> None:
        """End it and all that it started, after some time to exit by itself."""
        self.connection.close()
        if self.join(grace_s) is None:
            with contextlib.suppress(OSError):
                self._lifeline.shutdown(socket.SHUT_WR)
            self.join()
            self._lifeline.close()

    def _clean_up(self) -> None:
        """Have the server end what the process has left behind; it closes its side when that is done."""
        with self._lifeline, contextlib.suppress(OSError):
            self._lifeline.settimeout(_END_S)
            self._lifeline.shutdown(socket.SHUT_WR)
            self._lifeline.recv(1)

    def _number(self) -> int:
        """What the server says next; when it is gone, so is the process: the system kills it with the server."""
        try:
            data = self._lifeline.recv(NUMBER.size, socket.MSG_WAITALL)
        except OSError:
            data = b""
        return int(NUMBER.unpack(data)[0]) if len(data) == NUMBER.size else -signal.SIGKILL


class Worker:
    """A worker process that is started when it is first needed, and again when it has died.

    On leaving, it and all that it started are ended, and its temporary files removed.
    """

    def __init__(self, context: WorkerContext, log: Path) -> None:
        self.abandoned = False
        """Whether its work is not wanted any more: on leaving it is then ended at once."""
        self._context = context
        self._log = log
        self._process: WorkerProcess | None = None

    def __enter__(self) -> Worker:
        """Make its folder and its output; the process starts with the first call."""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(temporary_folder())
            self._scratch = folder / "t"
            try:
                self._scratch.mkdir()
                keeper = stack.enter_context(OutputKeeper(self._log, folder))
                self._output = stack.enter_context(keeper.pipe.open("wb", buffering=0))
            except OSError as error:
                raise BenchboxError(f"a worker process cannot be started: {error}", hint=TEMPORARY_HINT) from error
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """End the process."""
        with self._stack:
            self._end(0.0 if self.abandoned or kind is not None else _GRACE_S)

    def call(
        self,
        function: Callable[..., object],
        argument: object,
        timeout_s: float,
        too_large: Callable[[int], bool],
        stop: threading.Event,
    ) -> Any:
        """Have the process call a function; an exception comes back as `worker.main` says."""
        try:
            process = self._started(stop)
            with contextlib.suppress(OSError):  # the answer then is its end
                process.connection.send((function, (argument,)))
            end = time.monotonic() + timeout_s
            # A process that has died closes its end, which is something to read.
            while not process.connection.poll(_POLL_S):
                if stop.is_set():
                    raise Stopped
                if too_large(process.pid or 0):
                    raise MemoryLimitPassed
                if time.monotonic() > end:
                    raise TimeLimitPassed
        except BaseException:
            self._end(0.0)
            raise
        try:
            return process.connection.recv()
        except (EOFError, OSError) as error:
            code = process.join(_GRACE_S)
            self._end(0.0)
            raise WorkerDied(code) from error

    def _started(self, stop: threading.Event) -> WorkerProcess:
        if self._process is None:
            self._process = WorkerProcess(
                self._context, WorkerSettings.here(self._scratch), output=self._output.fileno()
            )
            self._process.start()
        while not self._process.started(_POLL_S):
            if stop.is_set():
                raise Stopped
        return self._process

    def _end(self, grace_s: float) -> None:
        if self._process is not None:
            self._process.end(grace_s)
            self._process = None


@contextlib.contextmanager
def _blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Hold signals back from this thread for a while, and from what it starts for good."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
