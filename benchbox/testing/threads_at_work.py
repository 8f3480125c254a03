"""Counts the busy threads of a process; as a script, those of another process."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

_TASKS = Path("/proc/self/task")
_EVERY_S = 0.002
_SHARE = 0.6


class BusyThreads:
    """Counts threads that run or wait for a core, again and again while its ``with`` block lasts.

    A thread that waits its turn on a loaded machine counts as one that runs, so the figure is that of an idle machine.
    Another process looks: a thread of this one would need the interpreter's lock, which is free just when one thread
    hands its work to another. Where the system does not tell the state of threads it is processor seconds a second.

    Attributes
    ----------
    typical : float
        The number of threads that had work, or more, in six of ten looks; known after the block. Not the mean: a thread
        that hands over its work and one that takes it may both wait for a core.
    """

    typical: float = 0.0

    def __enter__(self) -> BusyThreads:
        """Begin to count."""
        self._watcher: subprocess.Popen[bytes] | None = None
        if _TASKS.is_dir():
            command = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
            self._watcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._watcher.stdout is not None
            self._watcher.stdout.read(1)
        self._cpu, self._clock = time.process_time(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop counting."""
        self.typical = (time.process_time() - self._cpu) / (time.perf_counter() - self._clock)
        if self._watcher is not None:
            self.typical = float(self._watcher.communicate()[0])


def _watch(tasks: Path) -> int:
    """Count until standard input is closed."""
    sys.stdout.write("\n")
    sys.stdout.flush()
    counts = [_at_work(tasks)]
    while not select.select([sys.stdin], [], [], _EVERY_S)[0]:
        counts.append(_at_work(tasks))
    return sorted(counts)[int((1 - _SHARE) * len(counts))]


def _at_work(tasks: Path) -> int:
    return sum(_runs(task) for task in tasks.iterdir())


def _runs(task: Path) -> bool:
    try:
        state = (task / "stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):  # the thread has ended meanwhile
        return False
    return state == b"R"


if __name__ == "__main__":
    sys.stdout.write(str(_watch(Path("/proc", sys.argv[1], "task"))))
