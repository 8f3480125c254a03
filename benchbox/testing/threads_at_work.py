"""Counts the running threads of a process; as a script, those of another process."""

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


class RunningThreads:
    """Samples the number of running threads while its ``with`` block lasts.

    Threads that wait for a core count as running, so other load on the machine does not change the figure. Another
    process takes the samples: a thread of this one would need the interpreter's lock, which is free just when one
    thread hands its work to another. On systems without ``/proc`` the figure is processor seconds per second.

    `typical`, set after the block, is reached or exceeded in 60 % of the samples. The mean would be too high, because a
    thread that hands over its work and the one that takes it may both wait for a core.
    """

    typical: float = 0.0

    def __enter__(self) -> RunningThreads:
        """Start sampling."""
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
        """Stop sampling."""
        self.typical = (time.process_time() - self._cpu) / (time.perf_counter() - self._clock)
        if self._watcher is not None:
            self.typical = float(self._watcher.communicate()[0])


def _watch(tasks: Path) -> int:
    """Sample until standard input is closed."""
    sys.stdout.write("\n")
    sys.stdout.flush()
    counts = [_running(tasks)]
    while not select.select([sys.stdin], [], [], _EVERY_S)[0]:
        counts.append(_running(tasks))
    return sorted(counts)[int((1 - _SHARE) * len(counts))]


def _running(tasks: Path) -> int:
    return sum(_is_running(task) for task in tasks.iterdir())


def _is_running(task: Path) -> bool:
    try:
        state = (task / "stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):  # the thread has ended
        return False
    return state == b"R"


if __name__ == "__main__":
    sys.stdout.write(str(_watch(Path("/proc", sys.argv[1], "task"))))
