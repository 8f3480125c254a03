"""Hands tasks to worker processes and collects results; a worker that hangs, dies or grows too large is killed.

Each of N slots, a thread, keeps one worker process busy with tasks from one queue. A plugin that hangs, dies or takes
all memory makes its own task fail and touches no other queue.
"""

from __future__ import annotations

import concurrent.futures
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from benchbox.api.errors import describe_exit
from benchbox.engine.plan import Limits
from benchbox.engine.shard import ImagesLost
from benchbox.engine.worker import failure_of
from benchbox.engine.workers import Stopped, Worker, WorkerContext, WorkerDied
from benchbox.records.outcomes import Failure
from benchbox.system.program import MemoryLimitPassed, TimeLimitPassed, timeout_reason

_POLL_S = 0.2
_INTERRUPT_S = 1.0  # what ends a worker may be an interrupt of the whole run, which is known of a moment later
_WORTH_S = 1.0  # a further worker takes a good part of a second to warm up
Task = TypeVar("Task")
Result = TypeVar("Result")
T = TypeVar("T")


@dataclass
class WorkQueue(Generic[Task]):
    """Tasks that may share a worker process; it runs no others."""

    name: str
    log: Path  # file that takes what its workers print
    tasks: deque[Task]
    workers: int = field(default=0, init=False)
    done: int = field(default=0, init=False)
    spent_s: float = field(default=0.0, init=False)

    @property
    def left_s(self) -> float:
        """Seconds that its workers need for what waits, judged by what was done; infinite where nothing was."""
        if not self.done:
            return float("inf") if self.tasks else 0.0
        return len(self.tasks) * self.spent_s / self.done / max(1, self.workers)


class WorkLoop(Generic[Task, Result]):
    """Has queues of tasks worked off.

    A slot whose queue is empty turns to an untouched queue, then helps where most is left, so that no core idles while
    work remains.
    """

    def __init__(
        self,
        function: Callable[[T], Result],
        argument: Callable[[Task], T],
        on_result: Callable[[Task, Result | Failure], None],
        *,
        what: str,
        limits: Limits,
        is_wanted: Callable[[Task], bool] = lambda task: True,
        on_worker: Callable[[WorkQueue[Task]], None] = lambda queue: None,
    ) -> None:
        self._function = function
        self._argument = argument
        self._on_result = on_result
        self._what = what
        self._limits = limits
        self._is_wanted = is_wanted
        self._on_worker = on_worker
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self, context: WorkerContext, queues: Sequence[WorkQueue[Task]], slots: int) -> None:
        """Do all the work; on an interrupt or an error abandon the tasks under way and raise."""
        slots = min(slots, sum(len(queue.tasks) for queue in queues))
        with concurrent.futures.ThreadPoolExecutor(max(1, slots)) as threads:
            futures = [threads.submit(self._slot, context, queues) for _ in range(slots)]
            try:
                for future in _completed(futures):
                    future.result()
            finally:
                self._stop.set()

    def _slot(self, context: WorkerContext, queues: Sequence[WorkQueue[Task]]) -> None:
        try:
            while (queue := self._next_queue(queues)) is not None:
                self._serve(queue, context)
        except BaseException:
            self._stop.set()
            raise

    def _next_queue(self, queues: Sequence[WorkQueue[Task]]) -> WorkQueue[Task] | None:
        with self._lock:
            waiting = [queue for queue in queues if queue.tasks]
            if self._stop.is_set() or not waiting:
                return None
            untouched = [queue for queue in waiting if queue.workers == 0]
            chosen = untouched[0] if untouched else max(waiting, key=lambda queue: queue.left_s)
            if chosen.workers and chosen.left_s < _WORTH_S:
                return None
            chosen.workers += 1
            return chosen

    def _serve(self, queue: WorkQueue[Task], context: WorkerContext) -> None:
        """Keep one worker process busy until the queue is empty."""
        self._on_worker(queue)
        with Worker(context, queue.log) as worker:
            try:
                while not self._stop.is_set() and (task := self._next_task(queue)) is not None:
                    begun = time.monotonic()
                    self._on_result(task, self._attempt(worker, task))
                    with self._lock:
                        queue.done += 1
                        queue.spent_s += time.monotonic() - begun
            except Stopped:
                pass
            worker.abandoned = self._stop.is_set()
        with self._lock:
            queue.workers -= 1

    def _next_task(self, queue: WorkQueue[Task]) -> Task | None:
        with self._lock:
            while queue.tasks:
                task = queue.tasks.popleft()
                if self._is_wanted(task):
                    return task
        return None

    def _attempt(self, worker: Worker, task: Task) -> Result | Failure:
        """Have a task done; raises `Stopped` if the loop was stopped meanwhile."""
        try:
            return self._call(worker, task)
        except WorkerDied as died:
            if self._stop.wait(_INTERRUPT_S):
                raise Stopped from died
            if died.code != -signal.SIGKILL:
                return _failure(died)
        # The system kills what is in the way when memory is short, whoever took it: such a task gets one more try.
        try:
            return self._call(worker, task)
        except WorkerDied as died:
            if self._stop.wait(_INTERRUPT_S):
                raise Stopped from died
            return _failure(died)

    def _call(self, worker: Worker, task: Task) -> Result | Failure:
        limits = self._limits
        try:
            result = worker.call(self._function, self._argument(task), limits.timeout_s, limits.too_large, self._stop)
        except TimeLimitPassed:
            return Failure("timeout", f"{timeout_reason(self._what, limits.timeout_s)} (--timeout)")
        except MemoryLimitPassed:
            return Failure("out of memory", limits.memory_reason)
        except (WorkerDied, Stopped):
            raise
        except Exception as error:  # what a plugin has made of an answer may not unpickle
            result = error
        if isinstance(result, ImagesLost):
            raise result
        if isinstance(result, BaseException):
            return failure_of(result)
        answer: Result | Failure = result
        return answer


def _failure(died: WorkerDied) -> Failure:
    how = "closed its connection to benchbox" if died.code is None else describe_exit(died.code)
    return Failure("died", f"its process {how}")


def _completed(
    futures: Iterable[concurrent.futures.Future[T]],
) -> Iterator[concurrent.futures.Future[T]]:
    """Give futures as they end, like `concurrent.futures.as_completed`, and hear signals meanwhile.

    That one waits for ever, and a signal that another thread takes does not wake the main thread, which alone hears it.
    """
    left = set(futures)
    while left:
        done, left = concurrent.futures.wait(left, _POLL_S, concurrent.futures.FIRST_COMPLETED)
        yield from done
