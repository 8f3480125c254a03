"""One worker of a Dask cluster: what it runs, what the client knows of it and sends to it, and timing on it.

The client names this module in an expression, because a worker that receives a function or class which it cannot
import loses its connection to the scheduler; from an expression it sends back an error.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from distributed import Client, Future, get_worker
from distributed.comm import CommClosedError
from distributed.core import Status

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.engine.cluster import machine
from benchbox.engine.cluster.canaries import First
from benchbox.engine.cluster.parcels import Timed, TimingOrder, Welcome, pack, pack_images, unpack
from benchbox.engine.drawing import Condition
from benchbox.engine.engines import ShardWork
from benchbox.engine.events import ClusterChanged, Event
from benchbox.engine.plan import Limits, Shard
from benchbox.engine.shard import ShardTask
from benchbox.engine.timing import TimingTask
from benchbox.records.machines import Machine
from benchbox.records.run import Calibration, RunRecord, Timing

CALL = f"__import__({__name__!r}, fromlist=['run']).run(kind, order, images)"
"""The expression that calls `run` on a worker."""
_KEPT_PIXELS = 2**27
"""Pixels of sent images that each worker keeps, for the other denoisers of these images."""
CUT_OFF = asyncio.CancelledError, concurrent.futures.CancelledError, CommClosedError
"""What a task ends with if the connection to the scheduler is lost, by version of Dask and by what was going on."""
SILENT_S = 5.0
"""Seconds of waiting for a usable or idle worker until the user is told."""
_OVER = (Status.closing, Status.closed, Status.failed)
_ABANDONED = ("cancelled", "resumed", "released", "forgotten")
_POLL_S = 0.2
_LOOKS = 5  # polls between two looks at the cluster


def run(kind: str, order: bytes, images: bytes | None) -> bytes:
    """Do what is ordered, see `machine`; child processes end soon after the task is cancelled."""
    if kind == "visit":
        return machine.welcome(order, _cancellation())
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


def new_key(what: str) -> str:
    """A key that no other task of the cluster has."""
    return f"benchbox-{what}-{uuid.uuid4().hex}"


def submit(
    client: Client,
    address: str,
    kind: str,
    order: bytes,
    images: Future | None = None,
    *,
    key: str,
    priority: int = 0,
) -> Future:
    """Send an order to one worker, and to no other, whatever becomes of it."""
    return client.submit(
        eval,
        CALL,
        {"kind": kind, "order": order, "images": images},
        key=key,
        pure=False,
        workers=[address],
        allow_other_workers=False,
        retries=0,
        priority=priority,
    )


@dataclass
class Work:
    """A shard, and how many workers have died with it."""

    shard: ShardWork
    deaths: int = 0
    where: list[str] = field(default_factory=list)  # names of these workers


@dataclass
class Flight:
    """A shard on its way to a worker and back."""

    work: Work
    site: Site
    task: ShardTask
    future: Future
    alone: bool = False  # whether nothing else runs meanwhile, because workers died with it
    first: First | None = None  # the earlier result, if it is computed again to be compared


@dataclass
class Site:
    """A worker of the cluster."""

    address: str
    name: str
    threads: int
    visit: str = ""  # key of the visit in progress
    machine: Machine | None = None  # None until the visit
    blind: str = ""  # why it does not see the data
    reason: str = ""  # why it is not used
    running: bool = True
    flights: dict[str, Flight] = field(default_factory=dict)  # in the order in which they were sent
    queue: int = -1  # place of the queue that it works on
    sent: dict[tuple[int, int], Future] = field(default_factory=dict)  # images by range, the oldest first

    @property
    def ready(self) -> bool:
        """Whether it may be given work."""
        return self.machine is not None and not self.reason and self.running

    def images(self, client: Client, condition: Condition, shard: Shard) -> Future:
        """The images of a shard in the memory of the worker, where they stay for other denoisers."""
        key = shard.start, shard.stop
        if key not in self.sent:
            name = f"benchbox-images-{condition.fingerprint}-{key[0]}-{key[1]}-{uuid.uuid4().hex}"
            content = {name: pack_images(condition, shard)}
            self.sent[key] = client.scatter(content, workers=[self.address], hash=False)[name]
            pixels = shard.size[0] * shard.size[1] * len(shard.indices)
            most = max(2 * self.threads, _KEPT_PIXELS // max(1, pixels))
            while len(self.sent) > most:
                del self.sent[next(iter(self.sent))]
        return self.sent[key]


class Pulse:
    """The last sign of life of each worker: when a machine freezes, Dask notices only after up to ten minutes."""

    frozen_s: ClassVar = 60.0
    """Seconds without one after which a worker is taken for gone; even one of thousands sends several."""

    def __init__(self) -> None:
        # By the scheduler's clock and by that of this process, which may differ.
        self._seen: dict[str, tuple[float | None, float]] = {}

    def alive(self, workers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Workers that the scheduler has heard of lately."""
        now, before = time.monotonic(), self._seen
        self._seen = {}
        for address, about in workers.items():
            last, since = about.get("last_seen"), now
            if last is not None and address in before and before[address][0] == last:
                since = before[address][1]
            self._seen[address] = last, since
        return {address: about for address, about in workers.items() if now < self._seen[address][1] + self.frozen_s}


class WorkerTimer:
    """Times denoisers on a worker; raises `BenchboxError` if none of that name comes in time, or it is not fit."""

    def __init__(
        self,
        client: Client,
        worker: str,
        record: RunRecord,
        condition: Condition,
        limits: Limits,
        report: Callable[[Event], None],
    ) -> None:
        self._client = client
        self._report = report
        self._pulse = Pulse()
        self._worker = worker
        self._wait_s = record.options.wait_s
        self._limits = limits
        self._threads = record.options.threads
        self._address = self._find()
        welcome = unpack(Welcome, self._ask("visit", pack(machine.make_visit(record, condition, limits))))
        if welcome.reason or welcome.machine is None:
            raise BenchboxError(f"--timing-on {worker}: {welcome.reason}", hint="correct that, or name another worker")
        self.machine = welcome.machine.timed_for(record.environment)

    def calibrate(self, log: Path) -> Calibration | None:
        """Time the calibration kernel; None if it fails."""
        return self._order(TimingOrder(self._threads, self._limits), log).calibration

    def time(self, task: TimingTask, log: Path) -> tuple[Timing, str]:
        """Time one denoiser; returns its timing and details of a failure."""
        timed = self._order(TimingOrder.of(task, self._limits), log)
        assert timed.timing is not None
        return timed.timing, timed.detail

    def _workers(self) -> dict[str, dict[str, Any]]:
        self._require_connection()
        workers: dict[str, dict[str, Any]] = self._client.scheduler_info(n_workers=-1).get("workers", {})
        # A scheduler that has just gone is asked for half a minute, and then seems to have no workers.
        self._require_connection()
        return workers

    def _require_connection(self) -> None:
        if self._client.status in ("closed", "closing"):
            raise lost_connection()

    def _say_waiting(self, what: str) -> None:
        self._report(ClusterChanged(0, 0, note=f"waiting for {what}, up to {self._wait_s:g} s (--wait)"))

    def _find(self) -> str:
        """Address of the worker, which may still have to come."""
        end = time.monotonic() + self._wait_s
        for look in itertools.count():
            workers = self._workers()
            known = {str(about.get("name", address)): address for address, about in workers.items()}
            known |= {address: address for address in workers}
            if self._worker in known:
                break
            if time.monotonic() >= end:
                raise BenchboxError(
                    f"--timing-on {self._worker}: the cluster has no worker of that name or address, and none came in "
                    f"{self._wait_s:g} s (--wait)",
                    hint=did_you_mean(self._worker, known) if known else "start workers",
                )
            if not look:
                others = f" ({did_you_mean(self._worker, known)})" if known else ""
                self._say_waiting(f"worker {self._worker} of --timing-on{others}")
            time.sleep(_POLL_S)
        return known[self._worker]

    def _order(self, order: TimingOrder, log: Path) -> Timed:
        self._wait_until_idle()
        timed = unpack(Timed, self._ask("timing", pack(order)))
        if timed.log:
            with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(timed.log)
        return timed

    def _wait_until_idle(self) -> None:
        """Wait until no worker on that machine has a task, whoever has sent it."""
        begun, is_said = time.monotonic(), False
        while True:
            workers = self._workers()
            host = workers.get(self._address, {}).get("host")
            near = [address for address, about in workers.items() if about.get("host") == host]
            try:
                tasks = self._client.processing(workers=near)
            except OSError as error:
                raise lost_connection() from error
            if not any(tasks.values()):
                return
            waited_s = time.monotonic() - begun
            if waited_s > self._wait_s:
                raise BenchboxError(
                    f"--timing-on {self._worker}: its machine had other tasks for {self._wait_s:g} s (--wait)",
                    hint="wait until they have ended, or name another worker",
                )
            if waited_s > SILENT_S and not is_said:
                is_said = True
                self._say_waiting(f"other tasks on the machine of worker {self._worker} to end")
            time.sleep(_POLL_S)

    def _ask(self, kind: str, order: bytes) -> bytes:
        future = submit(self._client, self._address, kind, order, key=new_key(kind))
        try:
            for look in itertools.count(1):
                if future.done():
                    break
                time.sleep(_POLL_S)
                if kind == "visit" and look == round(SILENT_S / _POLL_S):
                    note = f"waiting for an answer of worker {self._worker}, which may be busy with other tasks"
                    self._report(ClusterChanged(0, 0, note=note))
                if look % _LOOKS == 0 and self._address not in self._pulse.alive(self._workers()):
                    raise BenchboxError(
                        f"--timing-on {self._worker}: that worker is gone",
                        hint="start it again, or name another worker",
                    )
            result = future.result()
        except BenchboxError:
            raise
        except CUT_OFF as error:
            raise lost_connection() from error
        except Exception as error:
            words = str(error).strip().partition("\n")[0] or type(error).__name__
            raise BenchboxError(
                f"--timing-on {self._worker}: {words}", hint="look at that worker's output, or name another worker"
            ) from error
        finally:
            if self._client.status == "running":
                self._client.cancel([future], force=True)
        assert isinstance(result, bytes)
        return result


def lost_connection() -> BenchboxError:
    """Why a run stops when its scheduler has gone."""
    return BenchboxError("the connection to the scheduler is lost", hint="start the cluster again")
