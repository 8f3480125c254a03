"""Worker processes that start in milliseconds, hold libraries to a thread count, and import nobody's main module."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.context
import multiprocessing.forkserver
import os
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

from benchbox.api.threads import thread_environment

_PRELOAD = ["benchbox.engine.preload"]
_lock = threading.Lock()


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


def worker_context() -> WorkerContext:
    """Start the server that workers are forked from, with one thread a library, unless it runs already."""
    context = WorkerContext()
    context.set_forkserver_preload(_PRELOAD)
    with _environment(thread_environment(1)):
        multiprocessing.forkserver.ensure_running()
    return context


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
