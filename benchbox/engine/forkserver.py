"""The server process that forks workers: it has imported the engine and its kernels, and no plugin.

A fork of it is ready in milliseconds, with one thread a library, and runs nobody's main module. It is the parent of all
workers, so it alone learns how they ended, and it ends what they leave behind.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import wait

import numpy as np

from benchbox.builtin.metrics import METRICS
from benchbox.builtin.sigma import estimate_sigma
from benchbox.engine import worker
from benchbox.engine.workers import HELD_BACK, NUMBER
from benchbox.system.guardian import adopt_orphans, children, end_children

_MOST_FILES = 3
_WAKE_UP = 4096
_CLEAN_UP_S = 2.0
_AGAIN_S = 0.005


@dataclass
class _Worker:
    """A worker process, and the socket over which its owner learns of its end, and says that it is done with it."""

    pid: int
    life: socket.socket
    wanted: bool = True

    def tell(self, number: int) -> None:
        """Send a number to the owner, who may be gone."""
        with contextlib.suppress(OSError):
            self.life.send(NUMBER.pack(number))


def main(control: int) -> None:
    """Fork a worker for each request that comes over a socket, until its other end is closed."""
    os.set_inheritable(control, False)
    _load_ruler()
    adopt_orphans()  # what workers leave behind becomes a child of this process, which then ends it
    server = _Server(socket.socket(fileno=control))
    if (files := server.serve()) is not None:
        code = 0  # this is a worker now
        try:
            worker.main(*files)
        except BaseException:
            traceback.print_exc()
            code = 1
        # Exit handlers of plugins run; to tear the interpreter down takes a tenth of a second for each worker.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


def _load_ruler() -> None:
    """Call each metric once: that loads its compiled kernel, and forked processes then have it."""
    images = np.zeros((1, 32, 32), dtype=np.float32)
    for metric in METRICS:
        metric()(images, images)
    estimate_sigma(images)


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._running: dict[int, _Worker] = {}
        self._ended: list[_Worker] = []
        self._woken, self._wake = os.pipe()
        for handle in (self._woken, self._wake):
            os.set_blocking(handle, False)
        # A signal that nobody handles wakes nobody.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def serve(self) -> list[int] | None:
        """Do what is asked for; gives a forked worker its files, and does not return in the server itself."""
        while True:
            lives = {one.life: one for one in (*self._running.values(), *self._ended) if one.wanted}
            ready = wait([self._control, self._woken, *lives])
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, _WAKE_UP)
            for life, one in lives.items():
                # Its owner has closed it, or is gone.
                if life in ready:
                    one.wanted = False
                    # Only this process waits for workers, so the number of a running one belongs to no other process.
                    if one.pid in self._running:
                        _kill(one.pid)
            self._reap()
            self._clean_up()
            if self._control in ready:
                request, files = _receive(self._control)
                if not request:
                    break
                if (forked := self._fork(files)) is not None:
                    return forked
        for pid in self._running:
            _kill(pid)
        end_children()
        os._exit(0)

    def _fork(self, files: list[int]) -> list[int] | None:
        """Fork a worker; gives its files to it, and None to the server."""
        life, *theirs = files
        pid = os.fork()
        if pid:
            for handle in theirs:
                os.close(handle)
            self._running[pid] = _Worker(pid, socket.socket(fileno=life))
            self._running[pid].tell(pid)
            return None
        # Nothing of the server's may stay open here: the end of a socket is how its other side learns of an end.
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        for one in (*self._running.values(), *self._ended):
            one.life.close()
        for handle in (self._woken, self._wake, life):
            os.close(handle)
        # Whoever signals every process of a run ends its workers; that must not pass for an error of a plugin.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
        return theirs

    def _reap(self) -> None:
        """Learn which workers have ended, and tell their owners."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if (one := self._running.pop(found[0], None)) is not None:
                    one.tell(os.waitstatus_to_exitcode(found[1]))
                    self._ended.append(one)

    def _clean_up(self) -> None:
        """End what workers have left behind whose owners are done with them, and only then say so."""
        done = [one for one in self._ended if not one.wanted]
        end = time.monotonic() + _CLEAN_UP_S
        # A running worker adopts its own orphans, so any other child was left by one that is gone.
        while done and (left := [pid for pid in children() if pid not in self._running]) and time.monotonic() < end:
            for pid in left:
                _kill(pid)
            time.sleep(_AGAIN_S)
            self._reap()
        for one in done:
            if sys.platform != "linux":
                with contextlib.suppress(OSError):  # there the process group has to do
                    os.killpg(one.pid, signal.SIGKILL)
            one.life.close()
            self._ended.remove(one)


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """One request: a byte, and the open files of a worker."""
    request, files, _, _ = socket.recv_fds(control, 1, _MOST_FILES)
    for handle in files:
        os.set_inheritable(handle, False)
    return request, files
