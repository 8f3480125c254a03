"""What a Dask worker runs: it hands orders to `machine`, and tells it when the client has gone or cancels.

The client names this module in an expression, because a worker that receives a function or class which it cannot
import loses its connection to the scheduler; from an expression it sends back an error.
"""

from __future__ import annotations

from collections.abc import Callable

from distributed import get_worker
from distributed.core import Status

from benchbox.engine.cluster import machine

CALL = f"__import__({__name__!r}, fromlist=['run']).run(kind, order, images)"
"""The expression that calls `run` on a worker."""
_OVER = (Status.closing, Status.closed, Status.failed)
_ABANDONED = ("cancelled", "resumed", "released", "forgotten")


def run(kind: str, order: bytes, images: bytes | None) -> bytes:
    """Do what is ordered, see `machine`; child processes end soon after the task is cancelled."""
    if kind == "visit":
        return machine.welcome(order)
    if kind == "timing":
        return machine.time_alone(order, _cancellation())
    return machine.compute(order, images, _cancellation())


def _cancellation() -> Callable[[], bool]:
    """Whether the current task was cancelled, which the worker knows without asking anybody.

    The scheduler forgets the tasks of a client that goes; cancelling a task, even by force, stops no thread.
    """
    worker = get_worker()
    key = worker.get_current_task()

    def is_cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state in _ABANDONED or worker.status in _OVER

    return is_cancelled
