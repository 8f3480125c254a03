"""How many threads of this process have work, whatever else the machine does."""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path
from types import TracebackType

_TASKS = Path("/proc/self/task")
_EVERY_S = 0.002


class BusyThreads:
    """Counts threads that run or wait for a core, again and again while its ``with`` block lasts.

    A thread that waits its turn on a loaded machine counts as one that runs, so the figure is that of an idle machine.
    Where the system does not tell the state of threads it is processor seconds a second instead.

    Attributes
    ----------
    typical : float
        Lower median of the counts, this sampling not included; known after the block. Not the mean: on a loaded machine
        a thread that hands over its work and one that takes it may both wait for a core.
    """

    typical: float = 0.0

    def __enter__(self) -> BusyThreads:
        """Begin to count."""
        self._counts: list[int] = []
        self._stop = threading.Event()
        self._cpu, self._clock = time.process_time(), time.perf_counter()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        if _TASKS.is_dir():
            self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop counting."""
        self._stop.set()
        if self._sampler.is_alive():
            self._sampler.join()
        share = (time.process_time() - self._cpu) / (time.perf_counter() - self._clock)
        self.typical = statistics.median_low(self._counts) if self._counts else share

    def _sample(self) -> None:
        own = str(threading.get_native_id())
        while not self._stop.wait(_EVERY_S):
            self._counts.append(sum(_runs(task) for task in _TASKS.iterdir() if task.name != own))


def _runs(task: Path) -> bool:
    try:
        state = (task / "stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):  # the thread has ended meanwhile
        return False
    return state == b"R"
