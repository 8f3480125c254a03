"""Hands tasks to worker processes and collects results; a worker that hangs, dies or grows too large is killed.

Each of N threads ("slots") keeps one worker process busy with tasks from one queue. A plugin that hangs, dies or takes
all memory fails its own task and affects no other queue.
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
from benchbox.engine.drawing import ImagesLost
from benchbox.engine.plan import Limits
from benchbox.engine.shard import failure_of
from benchbox.engine.workers import Stopped, Worker, WorkerContext, WorkerDied
from benchbox.records.run import Failure, Status
from benchbox.system.program import MemoryLimitPassed, TimeLimitPassed, timeout_reason

_POLL_S = 0.2
_INTERRUPT_S = 1.0  # an interrupt kills workers a moment before this process learns of it
Task = TypeVar("Task")
Result = TypeVar("Result")
T = TypeVar("T")


@dataclass
class WorkQueue(Generic[Task]):
    """Tasks that share worker processes with each other and with nothing else, such as those of one denoiser."""

    name: str
    log: Path  # output of its workers
    tasks: deque[Task]
    workers: int = field(default=0, init=False)
    first_s: float = field(default=0.0, init=False)  # the first task of the first worker, with its warm-up
    done: int = field(default=0, init=False)  # tasks after the first one of each worker
    spent_s: float = field(default=0.0, init=False)

    @property
    def left_s(self) -> float:
        """Estimated seconds to finish the queue from the pace so far; infinite before its first result."""
        if not self.first_s:
            return float("inf") if self.tasks else 0.0
        pace = self.spent_s / self.done if self.done else self.first_s
        return len(self.tasks) * pace / max(1, self.workers)

    def count(self, seconds: float, *, is_first: bool) -> None:
        """Take note of how long a task took; `is_first` of its worker."""
        if not is_first:
            self.done += 1
            self.spent_s += seconds
        elif not self.first_s:
            self.first_s = seconds


class WorkLoop(Generic[Task, Result]):
    """Runs queues of tasks in worker processes.

    A slot with an empty queue takes an untouched queue, then helps the one with most time left, so that no core idles
    while work remains. `function`, defined in a module, is called in a worker with ``argument(task)``; `what` names a
    task in timeout messages; tasks that are no longer wanted are skipped. `on_result` and `on_worker` (for each queue
    that gets a worker) are called by several threads at once.
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
        self._argument = argument
        self._on_result = on_result
        self._is_wanted = is_wanted
        self._on_worker = on_worker
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._trial = Trial(function, what, limits, self._stop)

    def run(self, context: WorkerContext, queues: Sequence[WorkQueue[Task]], slots: int) -> None:
        """Run all tasks; on an interrupt or an error, abandon running tasks and raise."""
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
            if chosen.workers and chosen.left_s < chosen.first_s:
                return None  # a further worker would have to warm up for longer
            chosen.workers += 1
            return chosen

    def _serve(self, queue: WorkQueue[Task], context: WorkerContext) -> None:
        """Feed one worker process until the queue is empty; it works on a task while the last result is written."""
        self._on_worker(queue)
        with Worker(context, queue.log) as worker:
            with concurrent.futures.ThreadPoolExecutor(1) as writer:
                written: concurrent.futures.Future[None] | None = None
                is_first = True
                try:
                    while not self._stop.is_set() and (task := self._next_task(queue)) is not None:
                        begun = time.monotonic()
                        result = self._trial.attempt(worker, self._argument(task))
                        with self._lock:
                            queue.count(time.monotonic() - begun, is_first=is_first)
                        is_first = False
                        if written is not None:
                            written.result()
                        written = writer.submit(self._on_result, task, result)
                        if isinstance(result, Failure):
                            written.result()  # first, because it may leave tasks unwanted
                except Stopped:
                    pass
                if written is not None:
                    written.result()
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


@dataclass(frozen=True)
class Trial(Generic[T, Result]):
    """How one call is made in a worker: `function`, defined in a module, within `limits`, until `stop` is set.

    `what` names the call in timeout messages.
    """

    function: Callable[[T], Result]
    what: str
    limits: Limits
    stop: threading.Event

    def attempt(self, worker: Worker, argument: T) -> Result | Failure:
        """Make the call, once more after SIGKILL; raises `Stopped` if `stop` was set meanwhile."""
        try:
            return self._call(worker, argument)
        except WorkerDied as died:
            if self.stop.wait(_INTERRUPT_S):
                raise Stopped from died
            if died.code != -signal.SIGKILL:
                return _died(worker, died)
        # When memory runs out, the kernel may kill a worker that did not cause it, so the task gets a second chance.
        try:
            return self._call(worker, argument)
        except WorkerDied as died:
            if self.stop.wait(_INTERRUPT_S):
                raise Stopped from died
            return _died(worker, died)

    def _call(self, worker: Worker, argument: T) -> Result | Failure:
        limits = self.limits
        try:
            result = worker.call(self.function, argument, limits.timeout_s, limits.too_large, self.stop)
        except TimeLimitPassed:
            return _failure(worker, "timeout", f"{timeout_reason(self.what, limits.timeout_s)} (--timeout)")
        except MemoryLimitPassed:
            return _failure(worker, "out of memory", limits.memory_reason)
        except (WorkerDied, Stopped):
            raise
        except Exception as error:  # an answer that a plugin has tampered with may not unpickle
            result = error
        if isinstance(result, ImagesLost):
            raise result
        if isinstance(result, BaseException):
            return failure_of(result)
        answer: Result | Failure = result
        return answer


def _died(worker: Worker, died: WorkerDied) -> Failure:
    how = "closed its connection to benchbox" if died.code is None else describe_exit(died.code)
    return _failure(worker, "died", f"its process {how}")


def _failure(worker: Worker, status: Status, reason: str) -> Failure:
    """What happened, and in what, if that was not the denoiser."""
    doing = worker.doing
    return Failure(status, f"{doing.what}: {reason} ({doing.hint})" if doing.what else reason)


def _completed(
    futures: Iterable[concurrent.futures.Future[T]],
) -> Iterator[concurrent.futures.Future[T]]:
    """Yield futures as they complete, like `concurrent.futures.as_completed`, but handle signals meanwhile.

    `as_completed` blocks without a timeout. Python runs signal handlers in the main thread only, and a signal delivered
    to another thread would not wake it up.
    """
    left = set(futures)
    while left:
        done, left = concurrent.futures.wait(left, _POLL_S, concurrent.futures.FIRST_COMPLETED)
        yield from done
