"""Starts worker processes in milliseconds, limits their threads, and ends them with everything they started."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.forkserver
import multiprocessing.popen_forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import shutil
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from benchbox.api.errors import BenchboxError
from benchbox.api.threads import thread_environment
from benchbox.system.files import TEMPORARY_HINT, remove_all, temporary_folder
from benchbox.system.guardian import adopt_orphans
from benchbox.system.output import OutputKeeper

SAFE_PATH = "PYTHONSAFEPATH"
HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that the server of the workers and the tracker never hear: they end after this process, and clean up."""
_PRELOAD = ["benchbox.engine.preload"]
_TERM_TIMEOUT_S = 1  # a process that hangs in C does not listen: it is killed after this
_POLL_S = 0.2
_ORPHANS_S = 2.0
_AGAIN_S = 0.01
_lock = threading.Lock()
T = TypeVar("T")


class _Popen(multiprocessing.popen_forkserver.Popen):
    """A process whose end is read once: each start of another one looks after all, from whatever thread it is made."""

    def __init__(self, process_obj: Any) -> None:
        self._reading = threading.Lock()
        super().__init__(process_obj)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Exit code, None while it runs; a second reader of the pipe would take its end for exit code 255."""
        if flag != os.WNOHANG and self.returncode is None:
            multiprocessing.connection.wait([self.sentinel])
        with self._reading:
            return super().poll(os.WNOHANG)


class _Process(multiprocessing.context.ForkServerProcess):
    """A process that does not run the main module of its parent again.

    Ours never needs it. So `benchbox.run` works in a script without an ``if __name__ == "__main__"`` guard, and a
    worker does not import the command line.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _lock, _empty_main():
            return _Popen(process_obj)


class WorkerContext(multiprocessing.context.ForkServerContext):
    """A context whose processes are forked from a clean server that holds the harness and no plugin."""

    Process = _Process


class WorkerPool:
    """One worker process, started again when it dies; on leaving, it and all that it started are ended.

    Parameters
    ----------
    context : WorkerContext
    log : Path
        File that takes what is printed in it.
    """

    def __init__(self, context: WorkerContext, log: Path) -> None:
        self.in_haste = False
        """Whether work under way is abandoned on leaving."""
        self._context = context
        self._log = log

    def __enter__(self) -> WorkerPool:
        """Make the pool; the process starts with the first piece of work."""
        from pebble import CONSTS, ProcessPool

        from benchbox.engine.worker import begin

        CONSTS.term_timeout = _TERM_TIMEOUT_S
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(temporary_folder())
            self._groups = folder / "groups"
            scratch = folder / "t"
            try:
                scratch.mkdir()
                output = stack.enter_context(OutputKeeper(self._log, folder))
            except OSError as error:
                raise BenchboxError(f"a worker process cannot be started: {error}", hint=TEMPORARY_HINT) from error
            with _pools_lock:
                _pools.add(self)
            self._pool = ProcessPool(
                max_workers=1, context=self._context, initializer=begin, initargs=[output.pipe, self._groups, scratch]
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """End the worker."""
        # Asked for while the worker lives: a child that has left its group is found only through its parent.
        started = self._processes()
        if self.in_haste or kind is not None:
            self._pool.stop()
            self.kill(started)
        else:
            self._pool.close()
        self._pool.join()
        self.kill(started)
        with _pools_lock:
            if _pools == {self}:
                _end_orphans()
            _pools.discard(self)
        self._stack.close()

    def kill(self, started: Sequence[psutil.Process] = ()) -> None:
        """End the worker's process groups, and these processes, at once."""
        for group in self._leaders():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def abandon(self) -> None:
        """End the worker and all that it started, without waiting for anybody."""
        with contextlib.suppress(Exception):
            self.kill(self._processes())

    def resident_mb(self) -> float:
        """Resident memory of the worker and all that it started, MiB."""
        total = 0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total / 2**20

    def _leaders(self) -> list[int]:
        return (
            [int(group) for group in self._groups.read_text(encoding="ascii").split()] if self._groups.exists() else []
        )

    def _processes(self) -> list[psutil.Process]:
        found = []
        for leader in self._leaders():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(leader)
                found += [process, *process.children(recursive=True)]
        return found

    def schedule(self, function: Callable[[Any], Any], task: Any, timeout_s: float) -> Any:
        """Have a piece of work done; gives a future."""
        return self._pool.schedule(function, args=[task], timeout=timeout_s)


def completed(futures: Iterable[concurrent.futures.Future[T]]) -> Iterator[concurrent.futures.Future[T]]:
    """Give futures as they end, like `concurrent.futures.as_completed`, and hear signals meanwhile.

    That one waits for ever, and a signal that another thread takes does not wake the main thread, which alone hears it.
    """
    left = set(futures)
    while left:
        done, left = concurrent.futures.wait(left, _POLL_S, concurrent.futures.FIRST_COMPLETED)
        yield from done


_pools: set[WorkerPool] = set()
_pools_lock = threading.Lock()


def abandon_all() -> None:
    """End every worker and leave no file: this process is about to end without more ado, and so do guarded programs."""
    for pool in list(_pools):
        pool.abandon()
    remove_all()
    shutil.rmtree(multiprocessing.util.get_temp_dir(), ignore_errors=True)  # the socket of the workers' server


@contextlib.contextmanager
def strangers_ended() -> Iterator[None]:
    """End, when the work is done, what plugins have started while they were imported into this process."""
    adopt_orphans()
    before = {process.pid for process in psutil.Process().children()}
    try:
        yield
    finally:
        _end_children(os.getpid(), lambda pid: pid in before or pid == _server_pid())


def _server_pid() -> int:
    server: Any = multiprocessing.forkserver._forkserver
    return int(server._forkserver_pid or 0)


def _end_orphans() -> None:
    """End what workers that are gone have left: their server has adopted it.

    Whoever else shares that server has processes of the server's own group there.
    """
    server = _server_pid()
    with contextlib.suppress(OSError):
        group = os.getpgid(server)
        _end_children(server, lambda pid: os.getpgid(pid) == group)


def _end_children(parent: int, spared: Callable[[int], bool]) -> None:
    """End the children of a process, and theirs, but for some and for those that `multiprocessing` knows of here."""
    end = time.monotonic() + _ORPHANS_S
    while time.monotonic() < end:
        known = {process.pid for process in multiprocessing.active_children()}
        left: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(parent).children():
                with contextlib.suppress(psutil.Error, OSError):
                    if child.pid not in known and not spared(child.pid) and child.status() != psutil.STATUS_ZOMBIE:
                        left += [child, *child.children(recursive=True)]
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(_AGAIN_S)


def worker_context() -> WorkerContext:
    """Start the server that workers are forked from, with one thread a library, unless it runs already."""
    context = WorkerContext()
    context.set_forkserver_preload(_PRELOAD)
    try:
        _start_server()
    except OSError as error:
        raise BenchboxError(f"worker processes cannot be started: {error}", hint=TEMPORARY_HINT) from error
    return context


def _start_server() -> None:
    # A file in the working directory must not pass for a library; `preload` takes the variable away again, for the
    # programs that plugins start are no business of ours.
    # The tracker removes what a run leaves that ends at once, and would warn of it.
    with _environment({SAFE_PATH: "1", "PYTHONWARNINGS": "ignore"}), _blocked(HELD_BACK):
        multiprocessing.resource_tracker.ensure_running()
    with _environment(thread_environment(1) | {SAFE_PATH: "1"}), _blocked(HELD_BACK):
        multiprocessing.forkserver.ensure_running()


@contextlib.contextmanager
def _empty_main() -> Iterator[None]:
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Hold signals back from this thread for a while, and from what it starts for good."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
