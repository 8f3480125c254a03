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
from benchbox.system.files import TEMPORARY_HINT, folder_prefix, remove_all, temporary_folder
from benchbox.system.program import MemoryLimitPassed, OutputKeeper, TimeLimitPassed

HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals blocked in the fork server, which must outlive this process to clean up after it."""
NUMBER = struct.Struct("<q")
"""Format in which the fork server reports the PID of a worker, and later its exit code."""
FORK, END = b"w", b"e"
"""Requests to the fork server, which also ends once its owner is gone, and then deletes the owner's folders."""
_SERVER = "import sys; from benchbox.engine.forkserver import main; main(int(sys.argv[1]), *sys.argv[2:])"
_POLL_S = 0.2
_GRACE_S = 1.0  # time for the exit handlers of a plugin
_END_S = 10.0


class WorkerDied(Exception):
    """The process ended without an answer; `code` is its exit code, as in `subprocess.Popen.returncode`.

    `code` is None if the process closed its connection but kept running, so that it had to be killed.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class Stopped(Exception):
    """The call was cancelled."""


@dataclass(frozen=True)
class Doing:
    """What a worker does next, sent ahead, so that its owner knows in what it died, hung or grew; empty afterwards.

    `what` begins the reason of its failure and `hint` ends it.
    """

    what: str = ""
    hint: str = ""


@dataclass(frozen=True)
class WorkerSettings:
    """Import path, working folder and environment of a worker, the same as in the process that requested it.

    Workers are forked from a server that started earlier, so they would otherwise miss later changes.
    """

    path: list[str]  # folders to import from
    folder: str  # working folder
    environment: dict[str, str]

    @staticmethod
    def here(scratch: Path | None = None, threads: int = 1) -> WorkerSettings:
        """Settings of this process, with `scratch` as the folder for temporary files, and so many threads."""
        try:
            folder = os.getcwd()  # noqa: PTH109
        except FileNotFoundError:  # the folder was deleted, which matters only if a plugin uses it
            folder = os.sep
        environment = os.environ | ({"TMPDIR": str(scratch)} if scratch else {}) | thread_environment(threads)
        return WorkerSettings([entry or folder for entry in sys.path], folder, environment)

    def enter(self) -> None:
        """Apply the settings to this process; libraries imported from now on use so many threads."""
        sys.path[:] = self.path
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        tempfile.tempdir = None  # forget the server's cached choice


class WorkerContext:
    """The fork server: a clean process with the engine but no plugin, from which workers are forked.

    A fork is ready in milliseconds, because everything is imported already. `worker_context` returns the server of this
    process, whose workers use one thread. One with a `module` imports only that, to fork workers for it.
    """

    def __init__(self, threads: int = 1, module: str = "") -> None:
        self.threads = threads
        self.used = False
        """Whether a worker was ever requested."""
        self.control, theirs = socket.socketpair()
        # -P: a file in the working directory must not shadow a library.
        command = [sys.executable, "-P", "-c", _SERVER, str(theirs.fileno()), folder_prefix(), module]
        with theirs, blocked(HELD_BACK):
            self._server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=os.environ | thread_environment(threads),
                pass_fds=[theirs.fileno()],
            )

    def Process(self, target: Callable[..., object], args: Sequence[Any] = ()) -> WorkerProcess:
        """A worker that makes one call when it starts, like the processes of a `multiprocessing` context."""
        return WorkerProcess(self, WorkerSettings.here(), target=(target, tuple(args)))

    def __enter__(self) -> WorkerContext:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Shut down the server."""
        self.end()

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        return self._server.poll() is None

    def end(self, timeout_s: float = _END_S) -> None:
        """Shut down the server, which first kills all workers and their descendants."""
        with contextlib.suppress(OSError):
            self.control.send(END)
        self.control.close()
        if not self.used:  # nothing to clean up, and it may still be importing: do not wait for that
            self._server.kill()
        try:
            self._server.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()

    def forget(self) -> None:
        """In a fork of this process: leave the server to the parent.

        The server exits once nobody holds its socket, so every copy of the socket must be closed.
        """
        self.control.close()
        self._server.returncode = 0


_context: WorkerContext | None = None
_lock = threading.Lock()


def worker_context() -> WorkerContext:
    """The fork server of this process, started on first use or if it has died."""
    global _context
    with _lock:
        if _context is None or not _context.alive:
            try:
                _context = WorkerContext()
            except OSError as error:
                raise BenchboxError(f"cannot start worker processes: {error}", hint=TEMPORARY_HINT) from error
        return _context


@atexit.register
def end_server() -> None:
    """Shut down the fork server of this process, if it has one."""
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


# A `multiprocessing` worker or a daemon of a plugin inherits the socket, which would keep the parent's server alive.
os.register_at_fork(after_in_child=_forget_server)


def abandon_all() -> None:
    """Kill every worker and delete temporary files, because this process is about to exit without unwinding.

    Guarded programs need no care here: their guardians see this process exit.
    """
    with contextlib.suppress(Exception):
        end_server()
    remove_all()


class WorkerProcess:
    """A fork of the server that answers one call after another until its connection is closed.

    Calls and answers travel over `connection`. A second socket, the lifeline, carries what the server knows: first the
    PID, then the exit code. Shutting the lifeline down tells the server to kill the worker and what it left behind.
    `output` is a file descriptor for everything it prints, `target` its first call.
    """

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
        """Request the process from the server."""
        ours, theirs = socket.socketpair()
        self._lifeline, their_life = socket.socketpair()
        self.connection: Connection[Any, Any] = Connection(ours.detach())
        with theirs, their_life, contextlib.suppress(OSError):  # if the server is gone, `join` reports it
            files = [their_life.fileno(), theirs.fileno(), *self._output]
            self._context.used = True
            socket.send_fds(self._context.control, [FORK], files)
            self.connection.send(self._settings)
            if self._target:
                self.connection.send(self._target)

    def started(self, timeout_s: float) -> bool:
        """Wait until the server, which may still be importing, has forked the process."""
        if self.pid is None and multiprocessing.connection.wait([self._lifeline], timeout_s):
            self.pid = self._number()
        return self.pid is not None

    def join(self, timeout_s: float = _END_S) -> int | None:
        """Wait for the process to exit; returns its exit code, or None if it is still running."""
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
        """Give the process `grace_s` seconds to exit, then kill it and its descendants."""
        self.connection.close()
        if self.join(grace_s) is None:
            with contextlib.suppress(OSError):
                self._lifeline.shutdown(socket.SHUT_WR)
            self.join()
            self._lifeline.close()

    def _clean_up(self) -> None:
        """Have the server kill what the process left behind; the server closes its side once that is done."""
        with self._lifeline, contextlib.suppress(OSError):
            self._lifeline.settimeout(_END_S)
            self._lifeline.shutdown(socket.SHUT_WR)
            self._lifeline.recv(1)

    def _number(self) -> int:
        """Next number from the server; if it is gone, the kernel has killed the worker with it (PR_SET_PDEATHSIG)."""
        try:
            data = self._lifeline.recv(NUMBER.size, socket.MSG_WAITALL)
        except OSError:
            data = b""
        return int(NUMBER.unpack(data)[0]) if len(data) == NUMBER.size else -signal.SIGKILL


class Worker:
    """A worker process that starts with the first call and again after it has died; its output goes to `log`.

    On leaving, the process and its descendants are killed and its temporary files deleted.
    """

    def __init__(self, context: WorkerContext, log: Path) -> None:
        self.abandoned = False
        """Whether its work is no longer needed, so that leaving kills it without grace."""
        self.doing = Doing()
        """What it did when it last said so."""
        self._context = context
        self._log = log
        self._process: WorkerProcess | None = None

    def __enter__(self) -> Worker:
        """Create the temporary folder and the output pipe; the process starts with the first call."""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(temporary_folder())
            self._scratch = folder / "t"
            try:
                self._scratch.mkdir()
                keeper = stack.enter_context(OutputKeeper(self._log, folder))
                self._output = stack.enter_context(keeper.pipe.open("wb", buffering=0))
            except OSError as error:
                raise BenchboxError(f"cannot start a worker process: {error}", hint=TEMPORARY_HINT) from error
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
        """Have the process call a module-level function; exceptions are returned as values, see `worker`.

        `timeout_s` does not include starting the process. `too_large` receives the PID and says whether the process
        and its descendants exceed the memory limit. Before it raises `TimeLimitPassed`, `MemoryLimitPassed`, `Stopped`
        (because `stop` is set) or `WorkerDied`, the process is killed.
        """
        self.doing = Doing()
        answer: object = self.doing
        try:
            process = self._started(stop)
            with contextlib.suppress(OSError):  # a dead process is detected below
                process.connection.send((function, (argument,)))
        except BaseException:
            self._end(0.0)
            raise
        end = time.monotonic() + timeout_s
        while isinstance(answer, Doing):
            self.doing = answer
            answer = self._message(process, end, too_large, stop)
        return answer

    def _message(
        self, process: WorkerProcess, end: float, too_large: Callable[[int], bool], stop: threading.Event
    ) -> object:
        try:
            # poll() also returns when the process dies, because that closes its end of the connection.
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
                self._context, WorkerSettings.here(self._scratch, self._context.threads), output=self._output.fileno()
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
def blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Block signals in this thread; threads and processes started inside the block keep them blocked for good."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
