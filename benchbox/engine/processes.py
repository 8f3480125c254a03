"""Worker processes that start in milliseconds, hold libraries to a thread count, and import nobody's main module."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.context
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import shutil
import signal
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from benchbox.api.errors import BenchboxError
from benchbox.api.threads import thread_environment
from benchbox.engine.output import OutputKeeper

SAFE_PATH = "PYTHONSAFEPATH"
_PRELOAD = ["benchbox.engine.preload"]
_TERM_TIMEOUT_S = 1  # a process that hangs in C does not listen: it is killed after this
_POLL_S = 0.2
_lock = threading.Lock()
T = TypeVar("T")


class _Process(multiprocessing.context.ForkServerProcess):
    """A process that does not run the main module of its parent again.

    Ours never needs it. So `benchbox.run` works in a script without an ``if __name__ == "__main__"`` guard, and a
    worker does not import the command line.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _lock, _empty_main():
            return multiprocessing.context.ForkServerProcess._Popen(process_obj)


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
        self._folder = tempfile.TemporaryDirectory(prefix="benchbox-")
        self._groups = Path(self._folder.name) / "groups"
        self._output = OutputKeeper(self._log).__enter__()
        _pools.add(self)
        self._pool = ProcessPool(
            max_workers=1, context=self._context, initializer=begin, initargs=[self._output.pipe, self._groups]
        )
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
        self._output.__exit__(kind, error, trace)
        self._folder.cleanup()
        _pools.discard(self)  # last: an interrupt may come while this waits, and then `abandon` has to find its folders

    def kill(self, started: Sequence[psutil.Process] = ()) -> None:
        """End the worker's process groups, and these processes, at once."""
        for group in self._leaders():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def abandon(self) -> None:
        """End the worker and all that it started, and leave no file, without waiting for anybody."""
        with contextlib.suppress(Exception):
            self.kill(self._processes())
        # The thread that is leaving may be at the same files.
        for folder in (self._output.pipe.parent, self._groups.parent):
            shutil.rmtree(folder, ignore_errors=True)

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
sessions: set[int] = set()
"""Leaders of the process groups of further processes that run a plugin now."""


def abandon_all() -> None:
    """End every process that runs a plugin, at once: this process is about to end without more ado."""
    for leader in list(sessions):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
    for pool in list(_pools):
        pool.abandon()
    shutil.rmtree(multiprocessing.util.get_temp_dir(), ignore_errors=True)  # the socket of the workers' server


def worker_context() -> WorkerContext:
    """Start the server that workers are forked from, with one thread a library, unless it runs already."""
    context = WorkerContext()
    context.set_forkserver_preload(_PRELOAD)
    try:
        _start_server()
    except OSError as error:
        raise BenchboxError(
            f"worker processes cannot be started: {error}",
            hint="the folder for temporary files (TMPDIR) needs a short path, some room, and to be writable",
        ) from error
    return context


def _start_server() -> None:
    # A file in the working directory must not pass for a library; `preload` takes the variable away again, for the
    # programs that plugins start are no business of ours.
    # The tracker removes what a run leaves that ends at once, and would warn of it.
    with _environment({SAFE_PATH: "1", "PYTHONWARNINGS": "ignore"}):
        multiprocessing.resource_tracker.ensure_running()
    with _environment(thread_environment(1) | {SAFE_PATH: "1"}):
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
