"""The server process that forks workers, and what a worker does.

The server has imported the engine and its kernels, but no plugin. A fork of it is ready in milliseconds, has one thread
per library, and never runs the user's main module. As the parent of all workers only the server learns their exit
codes, and it kills what they leave behind.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from benchbox.api.metric import NoReferenceMetric
from benchbox.builtin.metrics import METRICS
from benchbox.builtin.sigma import estimate_sigma
from benchbox.engine.drawing import ImagesLost
from benchbox.engine.shard import answers_to, failure_of
from benchbox.engine.workers import END, FORK, HELD_BACK, NUMBER, WorkerSettings
from benchbox.system.files import CacheFolder, remove_abandoned, remove_folders
from benchbox.system.guardian import adopt_orphans, children, end_children, end_with_parent

_TASKS = ("data", "previews", "scoring")
"""Modules with functions for workers, and what these import when they are first called."""
_MOST_FILES = 3
_WAKE_UP = 4096
_CLEAN_UP_S = 2.0
_AGAIN_S = 0.005
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt
_KEPT_BYTES = 2**26
_MOST_MMAP = 2**25  # the most that glibc takes


@dataclass
class _Worker:
    """A worker process and its lifeline, the socket to the owner.

    The server reports PID and exit code over it. The owner shuts it down once it no longer needs the worker.
    """

    pid: int
    life: socket.socket
    wanted: bool = True

    def report(self, number: int) -> None:
        """Send a number to the owner, who may be gone."""
        with contextlib.suppress(OSError):
            self.life.send(NUMBER.pack(number))


def main(control: int, owner: str, module: str = "") -> None:
    """Fork a worker for each request on a socket, until it is asked to end, or the other end is closed.

    Temporary folders of the owner, whose names begin with `owner`, are deleted if it was killed. Workers of a `module`
    find that imported, and nothing else that a new process would not have.
    """
    os.set_inheritable(control, False)
    if module:
        importlib.import_module(module)
        gc.freeze()  # else each collection in a worker would copy the pages of all that was imported
    else:
        _keep_memory()
        _preload()
        remove_abandoned()
    adopt_orphans()  # orphans of workers become children of this process, which then kills them
    server = _Server(socket.socket(fileno=control), owner)
    if (files := server.serve()) is not None:
        code = 0  # from here on this is the forked worker
        try:
            work(*files)
        except BaseException:
            traceback.print_exc()
            code = 1
        # Run the exit handlers of plugins, but skip tearing down the interpreter, which takes 0.1 s per worker.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


def _keep_memory() -> None:
    """Let workers reuse the memory of freed stacks, because getting it anew costs as much as a fast filter.

    Only glibc has these settings; elsewhere nothing changes.
    """
    with contextlib.suppress(OSError, AttributeError):
        c_library = ctypes.CDLL(None)
        c_library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        c_library.mallopt(_MMAP_THRESHOLD, _MOST_MMAP)


def _preload() -> None:
    """Import what workers run, and call each metric once, so that forks inherit the modules and compiled kernels."""
    for module in _TASKS:
        importlib.import_module(f"benchbox.engine.{module}")
    from benchbox.builtin.kernels import pixels

    CacheFolder("")  # imports what finds the user's folders
    helper = 0
    if pixels.gmsd.stats.cache_misses and not (helper := os.fork()):  # type: ignore[attr-defined]
        # The first run on this machine: compile the slowest kernel on another core, and then load it from the disk.
        end_with_parent()
        with contextlib.suppress(Exception):
            importlib.import_module("benchbox.builtin.kernels.ssim")
        os._exit(0)
    grey = np.zeros((1, 32, 32), dtype=np.float32)
    estimate_sigma(grey)
    if helper:
        os.waitpid(helper, 0)
    for metric in METRICS:
        # Those for colour load in a moment, but take several seconds to compile, which grey images need not wait for.
        if not issubclass(metric, NoReferenceMetric) and metric.channels != "rgb":
            metric()(grey, grey)


class _Server:
    def __init__(self, control: socket.socket, owner: str) -> None:
        self._control = control
        self._owner = owner
        self._running: dict[int, _Worker] = {}
        self._ended: list[_Worker] = []
        self._woken, self._wake = os.pipe()
        for handle in (self._woken, self._wake):
            os.set_blocking(handle, False)
        # The wakeup descriptor only works for signals that have a handler, so install one that does nothing.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def serve(self) -> list[int] | None:
        """Serve requests; returns only in a forked worker, with its file descriptors."""
        while True:
            workers = {worker.life: worker for worker in (*self._running.values(), *self._ended) if worker.wanted}
            ready = wait([self._control, self._woken, *workers])
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, _WAKE_UP)
            for life, owned in workers.items():
                # Readable means that the owner has closed its end or has died, because it never writes.
                if life in ready:
                    owned.wanted = False
                    # Safe from PID reuse, because only this process reaps workers.
                    if owned.pid in self._running:
                        _kill(owned.pid)
            self._reap()
            self._clean_up()
            if self._control in ready:
                request, files = _receive(self._control)
                if request != FORK:
                    break
                if (forked := self._fork(files)) is not None:
                    return forked
        for pid in self._running:
            _kill(pid)
        end_children()
        if request != END:
            remove_folders(self._owner)
        os._exit(0)

    def _fork(self, files: list[int]) -> list[int] | None:
        """Fork a worker; returns its file descriptors in the worker and None in the server."""
        life, *theirs = files
        pid = os.fork()
        if pid:
            for handle in theirs:
                os.close(handle)
            self._running[pid] = _Worker(pid, socket.socket(fileno=life))
            self._running[pid].report(pid)
            return None
        # Close every socket of the server: owners notice a death because the socket closes; a copy would keep it open.
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        for other in (*self._running.values(), *self._ended):
            other.life.close()
        for handle in (self._woken, self._wake, life):
            os.close(handle)
        # Ctrl-C in a terminal reaches every process. A KeyboardInterrupt raised in a worker would be recorded as an
        # error of the plugin, so SIGINT kills the worker instead.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
        return theirs

    def _reap(self) -> None:
        """Collect the exit codes of workers that have ended, and report them to their owners."""
        with contextlib.suppress(ChildProcessError):
            while (reaped := os.waitpid(-1, os.WNOHANG))[0]:
                if (ended := self._running.pop(reaped[0], None)) is not None:
                    ended.report(os.waitstatus_to_exitcode(reaped[1]))
                    self._ended.append(ended)

    def _clean_up(self) -> None:
        """Kill what released workers left behind, and only then close their lifelines, which owners wait for."""
        released = [worker for worker in self._ended if not worker.wanted]
        end = time.monotonic() + _CLEAN_UP_S
        # A running worker adopts its own orphans, so every other child was left behind by a worker that is gone.
        while released and (left := [pid for pid in children() if pid not in self._running]) and time.monotonic() < end:
            for pid in left:
                _kill(pid)
            time.sleep(_AGAIN_S)
            self._reap()
        for worker_process in released:
            if sys.platform != "linux":
                with contextlib.suppress(OSError):  # no subreaper: killing the process group has to suffice
                    os.killpg(worker_process.pid, signal.SIGKILL)
            worker_process.life.close()
            self._ended.remove(worker_process)


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """Receive a request: one byte, and the file descriptors for a worker."""
    request, files, _, _ = socket.recv_fds(control, 1, _MOST_FILES)
    for handle in files:
        os.set_inheritable(handle, False)
    return request, files


def work(connection: int, output: int | None = None) -> None:
    """In a worker: read the settings, then answer one call at a time, until the connection is closed.

    `connection` and `output` are file descriptors. The worker leads its own process group and adopts orphans, so that
    everything a plugin starts can be killed with it.
    """
    end_with_parent()
    adopt_orphans()
    os.setpgrp()
    if output is not None:
        for stream in (1, 2):
            os.dup2(output, stream)
        os.close(output)
    pipe: Connection[Any, Any] = Connection(connection)
    with pipe:
        try:
            settings: WorkerSettings = pipe.recv()
            settings.enter()
            answers_to(pipe)
            while True:
                function, arguments = pipe.recv()
                pipe.send_bytes(_answer(function, arguments))
        except EOFError:
            return


def _answer(function: Callable[..., object], arguments: tuple[Any, ...]) -> bytes:
    """Pickled value of a call: a `Failure` if it raises, an exception if the run must stop."""
    value: object
    try:
        value = function(*arguments)
    except ImagesLost as error:
        value = error
    except BaseException as error:  # BaseException: a plugin may call sys.exit()
        value = failure_of(error)
    try:
        return pickle.dumps(value)
    except Exception as error:  # a plugin may break the classes of a value, and pickling with them
        return pickle.dumps(error)
