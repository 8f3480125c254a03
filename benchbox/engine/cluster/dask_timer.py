"""Times denoisers on one worker of a Dask cluster, while its machine has nothing else to do for the cluster."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from distributed import Client

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.engine.cluster.machine import make_visit
from benchbox.engine.cluster.parcels import Timed, TimingOrder, Welcome, pack, unpack
from benchbox.engine.cluster.sites import CANCELLED, new_key, submit
from benchbox.engine.drawing import Condition
from benchbox.engine.plan import Limits
from benchbox.engine.timing import TimingTask
from benchbox.records.run import Calibration, RunRecord, Timing

_POLL_S = 0.2
_LOOKS = 5  # polls between two looks at the cluster


class WorkerTimer:
    """Times denoisers on a worker; raises `BenchboxError` if there is none of that name, or it is not fit."""

    def __init__(self, client: Client, worker: str, record: RunRecord, condition: Condition, limits: Limits) -> None:
        self._client = client
        self._worker = worker
        self._wait_s = record.options.wait_s
        self._limits = limits
        self._threads = record.options.threads
        self._address = self._find()
        welcome = unpack(Welcome, self._ask("visit", pack(make_visit(record, condition, limits))))
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
        if self._client.status in ("closed", "closing"):
            raise _lost()
        workers: dict[str, dict[str, Any]] = self._client.scheduler_info(n_workers=-1).get("workers", {})
        return workers

    def _find(self) -> str:
        """Address of the worker; waits if the cluster has no worker yet."""
        end = time.monotonic() + self._wait_s
        while not (workers := self._workers()) and time.monotonic() < end:
            time.sleep(_POLL_S)
        names = {str(about.get("name", address)): address for address, about in workers.items()}
        if self._worker in workers:
            return self._worker
        if self._worker not in names:
            raise BenchboxError(
                f"--timing-on {self._worker}: the cluster has no worker of that name or address",
                hint=did_you_mean(self._worker, [*names, *workers]) if workers else "start workers",
            )
        return names[self._worker]

    def _order(self, order: TimingOrder, log: Path) -> Timed:
        self._wait_until_idle()
        timed = unpack(Timed, self._ask("timing", pack(order)))
        if timed.log:
            with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(timed.log)
        return timed

    def _wait_until_idle(self) -> None:
        """Wait until no worker on that machine has a task, whoever has sent it."""
        end = time.monotonic() + self._wait_s
        while True:
            workers = self._workers()
            host = workers.get(self._address, {}).get("host")
            near = [address for address, about in workers.items() if about.get("host") == host]
            try:
                tasks = self._client.processing(workers=near)
            except OSError as error:
                raise _lost() from error
            if not any(tasks.values()):
                return
            if time.monotonic() > end:
                raise BenchboxError(
                    f"--timing-on {self._worker}: its machine had other tasks for {self._wait_s:g} s (--wait)",
                    hint="wait until they have ended, or name another worker",
                )
            time.sleep(_POLL_S)

    def _ask(self, kind: str, order: bytes) -> bytes:
        future = submit(self._client, self._address, kind, order, key=new_key(kind))
        try:
            for look in itertools.count(1):
                if future.done():
                    break
                time.sleep(_POLL_S)
                if look % _LOOKS == 0 and self._address not in self._workers():
                    raise BenchboxError(
                        f"--timing-on {self._worker}: that worker is gone",
                        hint="start it again, or name another worker",
                    )
            result = future.result()
        except BenchboxError:
            raise
        except CANCELLED as error:
            raise _lost() from error
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


def _lost() -> BenchboxError:
    return BenchboxError("the connection to the scheduler is lost", hint="start the cluster again")
