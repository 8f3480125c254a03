"""Clusters of real processes for tests: `dask scheduler` and `dask worker` as commands on loopback."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchbox.store import IMAGE, RunStore

SLOW = "import time\ntime.sleep(0.1)\nreturn np.clip(noisy, 0.1, 0.9)"

PRETENDS = """
import os, socket
if "PRETENDED_HOST" in os.environ:
    socket.gethostname = lambda: os.environ["PRETENDED_HOST"]
"""


class Cluster:
    """A scheduler and its workers, each a process of its own, with a cache of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        end = time.monotonic() + 60
        while not self.file.is_file() and time.monotonic() < end:
            time.sleep(0.05)

    def add(self, name: str, *options: str, **variables: str) -> subprocess.Popen[bytes]:
        variables.setdefault("BENCHBOX_CACHE_DIR", str(self.folder / "cache"))
        self.workers[name] = self._start(
            "worker", "--name", name, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", *options, **variables
        )
        return self.workers[name]

    def add_elsewhere(self, name: str, host: str, *options: str, **variables: str) -> subprocess.Popen[bytes]:
        """A worker that pretends to be on another host."""
        (self.folder / "sitecustomize.py").write_text(PRETENDS)
        return self.add(name, *options, PYTHONPATH=str(self.folder), PRETENDED_HOST=host, **variables)

    def kill(self, name: str) -> None:
        """Kill a worker and its nanny, as when its machine loses its power."""
        kill_tree(self.workers.pop(name))

    def end(self) -> None:
        for process in (*self.workers.values(), self.scheduler):
            kill_tree(process)

    def _start(self, what: str, *options: str, **variables: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{what}-{len(self.workers)}.log").open("wb")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", what, "--scheduler-file", str(self.file), *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | variables,
                start_new_session=True,
            )


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill the nanny and the worker; what they have started in turn ends by itself."""
    with contextlib.suppress(psutil.Error):
        nanny = psutil.Process(process.pid)
        inner = [child for child in nanny.children() if "multiprocessing" in " ".join(child.cmdline())]
        for member in (nanny, *inner):
            with contextlib.suppress(psutil.Error):
                member.kill()
    process.wait(30)


def worker_pid(process: subprocess.Popen[bytes]) -> int:
    """The process of a worker, not that of its nanny."""
    for child in psutil.Process(process.pid).children():
        if "spawn_main" in " ".join(child.cmdline()):
            return child.pid
    return process.pid


def occupy(client: Any, worker: str, until: Path) -> Any:
    """Give a worker somebody else's task, which ends with 0 once a file exists."""
    polls = f"for i in $(seq 500); do [ -e '{until}' ] && exit 0; sleep 0.1; done; exit 1"
    return client.submit(subprocess.call, ["sh", "-c", polls], workers=[worker])


def bytes_of(store: RunStore) -> dict[str, dict[str, bytes]]:
    found = {}
    for cell in store.record.cells:
        columns = store.scores(cell.key)
        if columns:
            order = np.lexsort((columns["repeat"], columns[IMAGE]))
            found[f"{cell.denoiser}@{cell.noise}"] = {name: values[order].tobytes() for name, values in columns.items()}
    return found


def wait_for(condition: Callable[[], object], seconds: float = 60) -> bool:
    """Wait until something is true; returns whether it is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False
