"""Which worker of a Dask cluster scores which shard, and what happens when workers come, go or are not fit.

Every shard is pinned to a worker by the client, which therefore knows what a dead worker was doing: nothing that
happens to a machine becomes a row of a denoiser.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import time
from collections import deque
from typing import Any

from distributed import Client, Future

from benchbox.api.errors import BenchboxError
from benchbox.engine.cluster.canaries import Canaries, First
from benchbox.engine.cluster.dask_worker import (
    CUT_OFF,
    SILENT_S,
    Flight,
    Pulse,
    Site,
    Work,
    lost_connection,
    new_key,
    submit,
)
from benchbox.engine.cluster.machine import make_visit
from benchbox.engine.cluster.parcels import Answer, Order, Welcome, pack, unpack
from benchbox.engine.drawing import ImagesLost
from benchbox.engine.engines import Scoring
from benchbox.engine.events import ClusterChanged
from benchbox.engine.shard import ShardScores
from benchbox.records.options import RunOptions
from benchbox.records.run import Failure

_POLL_S = 0.2
_LOOK_S = 0.5
_AHEAD = 2
"""Shards in flight for each thread, so that none waits for the network."""
_SUSPECT = 2
"""Workers that may die with a shard before it is tried alone."""
_SMALL_PIXELS = 2**24
"""Images of up to so many pixels are sent to a worker that does not see the data, asked or not."""
_WISHES = 100


class Dispatch:
    """Scores the shards of one run on the workers of a cluster."""

    def __init__(self, client: Client, scoring: Scoring, options: RunOptions) -> None:
        self._client = client
        self._scoring = scoring
        self._options = options
        self._record = scoring.record
        self._queues = [deque(map(Work, waiting.tasks)) for waiting in scoring.queues]
        self._quarantine: deque[Work] = deque()
        random = [row.spec for row in self._record.denoisers if not row.deterministic]
        self._canaries = Canaries(random, scoring.compare)
        self._sites: dict[str, Site] = {}
        self._flights: dict[str, Flight] = {}
        self._visits: dict[str, tuple[Site, Future]] = {}
        self._wishes: list[Future] = []
        self._arrived: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._sequence = itertools.count()
        self._looked = 0.0
        self._pulse = Pulse()
        self._alone_since = time.monotonic()
        self._told: set[str] = set()  # what it waits for since then
        self._begun: set[int] = set()

    def run(self, dashboard: str) -> None:
        """Score all shards; on an interrupt or an error, abandon running ones and raise."""
        self._dashboard = dashboard
        first = next(waiting.tasks[0] for waiting in self._scoring.queues if waiting.tasks)
        condition = self._scoring.task(first).condition
        self._visit = pack(make_visit(self._record, condition, self._scoring.limits))
        try:
            while True:
                self._look_around()
                self._fill()
                if not self._flights and not self._is_work_left():
                    return
                self._take_arrived()
        finally:
            self._abandon()

    # Workers that come and go.

    def _look_around(self) -> None:
        """Notice workers that have come or gone, at most twice a second."""
        if time.monotonic() < self._looked + _LOOK_S:
            return
        self._looked = time.monotonic()
        if self._client.status in ("closed", "closing"):
            raise lost_connection()
        info = self._client.scheduler_info(n_workers=-1) if self._client.status == "running" else {}
        workers: dict[str, dict[str, Any]] = info.get("workers", {})
        connected = self._client.status == "running"
        if not connected:  # perhaps since it was asked
            workers = {}
        changed = False
        alive = self._pulse.alive(workers)
        for address in [address for address in self._sites if address not in alive]:
            site = self._sites.pop(address)
            self._lose(site, died=connected)
            changed = True
            if address in workers:
                silent = f"has not been heard of for {Pulse.frozen_s:g} s"
                self._report(f"worker {site.name} {silent}, and is taken for gone")
        for address, about in alive.items():
            if address not in self._sites:
                self._sites[address] = Site(address, str(about.get("name", address)), int(about.get("nthreads", 1)))
                self._send_visit(self._sites[address])
            self._sites[address].running = about.get("status", "running") == "running"
        if changed:
            self._report()
        self._wish()
        self._require_workers()

    def _require_workers(self) -> None:
        """Raise if there has been no usable worker for longer than the user wants to wait."""
        if any(site.ready for site in self._sites.values()):
            self._alone_since = time.monotonic()
            self._told.clear()
            return
        alone_s = time.monotonic() - self._alone_since
        note = f"waiting for a usable worker, up to {self._options.wait_s:g} s (--wait)"
        if self._visits:
            note = "waiting for an answer of the workers, which may be busy with other tasks"
        if alone_s > SILENT_S and note not in self._told:
            self._told.add(note)
            self._report(note)
        if alone_s > self._options.wait_s and not self._visits:  # one that is asked may turn out to be usable
            reasons = [f"{site.name} ({site.reason})" for site in self._sites.values() if site.reason]
            left_out = f"; left out: {', '.join(reasons)}" if reasons else ""
            raise BenchboxError(
                f"no worker of the cluster could be used for {self._options.wait_s:g} s{left_out}",
                hint="start workers, or wait for them longer with --wait",
            )

    def _send_visit(self, site: Site) -> None:
        site.visit = new_key("visit")
        future = self._submit(site, site.visit, "visit", self._visit)
        self._visits[site.visit] = site, future

    def _take_welcome(self, site: Site, value: Any) -> None:
        try:
            if isinstance(value, BaseException):
                raise value
            welcome = unpack(Welcome, value)
        except BenchboxError as error:
            self._leave_out(site, error.message)
            return
        except Exception as error:
            # A worker without this module cannot read the question.
            self._leave_out(site, f"it has another benchbox, or none: {_words(error)}")
            return
        if welcome.reason or welcome.machine is None:
            self._leave_out(site, welcome.reason or "it does not say what it is")
            return
        site.machine, site.blind = welcome.machine, welcome.blind
        if site.blind and not self._may_send():
            self._leave_out(site, f"it does not see the data, {site.blind}; add --send-data")
            return
        self._report()

    def _may_send(self) -> bool:
        if self._options.send_data:
            return True
        shards = {
            (work.shard.start, work.shard.stop): work.shard
            for waiting in self._scoring.queues
            for work in waiting.tasks
        }
        pixels = sum(len(shard.indices) * shard.size[0] * shard.size[1] for shard in shards.values())
        return pixels * self._record.data.channels <= _SMALL_PIXELS

    def _leave_out(self, site: Site, reason: str) -> None:
        """Use a worker no more, and give what it has to others."""
        site.reason = reason
        self._recall(site)
        self._report(f"worker {site.name} is left out: {reason}")

    def _lose(self, site: Site, *, died: bool) -> None:
        """A worker is gone: its shards go elsewhere, and the ones that it was working on are suspects if it `died`."""
        self._visits.pop(site.visit, None)
        for flight in list(site.flights.values())[: site.threads if died else 0]:
            flight.work.deaths += 1
            flight.work.where.append(site.name)
        self._recall(site)

    def _recall(self, site: Site) -> None:
        flights = list(site.flights.items())
        site.flights.clear()
        for key, flight in reversed(flights):
            del self._flights[key]
            flight.future.release()
            self._put_back(flight)

    def _put_back(self, flight: Flight) -> None:
        """Let another worker try; a shard that took several workers with it is tried alone, then blamed."""
        work = flight.work
        if flight.first is not None:
            self._canaries.put_back(flight.first, flight.site.machine)
        elif flight.alone and work.deaths > _SUSPECT:
            names = ", ".join(work.where)
            reason = f"{work.deaths} workers of the cluster died while they ran it ({names}), the last one alone"
            self._scoring.keep(work.shard, Failure("died", reason))
        elif work.deaths >= _SUSPECT:
            self._quarantine.append(work)
        else:
            self._queues[self._place_of(work)].appendleft(work)

    def _place_of(self, work: Work) -> int:
        specs = [row.spec for row in self._record.denoisers]
        return specs.index(work.shard.denoiser.spec)

    def _wish(self) -> None:
        """Let an adaptive cluster see how much waits, by tasks that no worker can run; the shards are not sent yet."""
        waiting = sum(map(len, self._queues))
        wanted = min(_WISHES, waiting)
        while len(self._wishes) < wanted:
            self._wishes.append(
                self._client.submit(
                    bytes, key=new_key("wish"), pure=False, resources={"benchbox-more-workers": 1}, priority=-1000
                )
            )
        while len(self._wishes) > wanted:
            self._wishes.pop().release()

    def _report(self, note: str = "") -> None:
        ready = [site for site in self._sites.values() if site.ready]
        threads = sum(site.threads for site in ready)
        self._scoring.report(ClusterChanged(len(ready), threads, self._dashboard, note))

    # Shards.

    def _is_work_left(self) -> bool:
        return any(self._queues) or bool(self._quarantine)

    def _fill(self) -> None:
        """Give every worker its share of what waits."""
        ready = [site for site in self._sites.values() if site.ready]
        threads = sum(site.threads for site in ready)
        # Towards the end, a shard that waits at one worker could run at another.
        ahead = _AHEAD if sum(map(len, self._queues)) > threads else 1
        most = self._options.jobs or ahead * threads
        for depth in range(1, ahead * max((site.threads for site in ready), default=0) + 1):
            for site in ready:
                room = len(site.flights) < min(depth, ahead * site.threads) and len(self._flights) < most
                if room and (work := self._next(site)) is not None:
                    self._send(site, work)
        self._level(ready)
        while len(self._flights) < most and (again := self._canaries.next(ready)) is not None:
            self._send(again[0], Work(again[1].shard), first=again[1])
        if not self._flights and self._quarantine and ready:
            work = self._quarantine.popleft()
            if self._scoring.is_wanted(work.shard):
                self._send(ready[0], work, alone=True)

    def _level(self, ready: list[Site]) -> None:
        """At the end, move shards that wait at one worker to another that has nothing to do."""
        for idle in [site for site in ready if len(site.flights) < site.threads]:
            busy = max(ready, key=lambda site: len(site.flights) - site.threads)
            if len(busy.flights) <= busy.threads:
                return
            key, flight = busy.flights.popitem()
            del self._flights[key]
            flight.future.release()
            if flight.first is not None:
                self._canaries.put_back(flight.first, busy.machine)
            else:
                self._send(idle, flight.work)

    def _next(self, site: Site) -> Work | None:
        """The next shard for a worker, of the denoiser that it is busy with, whose process it has."""
        while True:
            waiting = [place for place, works in enumerate(self._queues) if works]
            if not waiting:
                return None
            if site.queue not in waiting:
                busy = {other.queue for other in self._sites.values() if other.flights}
                untouched = [place for place in waiting if place not in busy]
                site.queue = untouched[0] if untouched else max(waiting, key=lambda place: len(self._queues[place]))
                if site.queue not in self._begun:
                    self._begun.add(site.queue)
                    self._scoring.report_worker(self._scoring.queues[site.queue])
            work = self._queues[site.queue].popleft()
            if self._scoring.is_wanted(work.shard):
                return work

    def _send(self, site: Site, work: Work, *, alone: bool = False, first: First | None = None) -> None:
        task = self._scoring.task(work.shard)
        order = pack(Order.of(self._record.run_id, task, self._scoring.limits))
        images = site.images(self._client, task.condition, work.shard.shard) if site.blind else None
        key = new_key("shard")
        future = self._submit(site, key, "shard", order, images)
        flight = Flight(work, site, task, future, alone, first)
        self._flights[key] = site.flights[key] = flight

    def _submit(self, site: Site, key: str, kind: str, order: bytes, images: Future | None = None) -> Future:
        # In the order in which they are sent, so that the first ones are running.
        priority = -next(self._sequence)
        future = submit(self._client, site.address, kind, order, images, key=key, priority=priority)
        asyncio.run_coroutine_threadsafe(self._fetch(key, future), self._client.loop.asyncio_loop)
        return future

    async def _fetch(self, key: str, future: Future) -> None:
        """Wait for a result and hand it to the main thread; dask fetches several at once."""
        value: Any
        try:
            (value,) = await self._client.gather([future], asynchronous=True)
        except BaseException as error:
            value = error
        self._arrived.put((key, value))

    def _take_arrived(self) -> None:
        """Wait a moment for results, and store all that have come; signals are handled meanwhile."""
        try:
            arrived = [self._arrived.get(timeout=_POLL_S)]
        except queue.Empty:
            return
        while not self._arrived.empty():
            arrived.append(self._arrived.get())
        for key, value in arrived:
            if (visit := self._visits.pop(key, None)) is not None:
                if isinstance(value, CUT_OFF):  # by a lost connection: ask again, once there is one
                    self._sites.pop(visit[0].address, None)
                elif visit[0].address in self._sites:
                    self._take_welcome(visit[0], value)
            elif (flight := self._flights.pop(key, None)) is not None:
                del flight.site.flights[key]
                self._take(flight, value)

    def _take(self, flight: Flight, value: Any) -> None:
        site = flight.site
        if isinstance(value, CUT_OFF):  # the worker or the scheduler is gone, as will be seen
            self._put_back(flight)
            self._looked = 0.0
            return
        try:
            if isinstance(value, BaseException):
                raise value
            answer = unpack(Answer, value)
            if answer.lost is not None:
                if self._may_send() and not site.blind:
                    site.blind = answer.lost[0]
                    self._put_back(flight)
                    return
                raise ImagesLost(*answer.lost[:1], hint=answer.lost[1])
            result = answer.result(flight.task, flight.work.shard.shard.size)
        except Exception as error:  # of the machine, not of the denoiser: that would be a `Failure`
            self._put_back(flight)
            self._leave_out(site, _words(error))
            return
        assert site.machine is not None
        self._log(flight, answer)
        if flight.first is not None:
            self._canaries.compare(flight.first, site.machine, result)
            return
        self._scoring.keep(flight.work.shard, result, site.machine)
        if isinstance(result, ShardScores):
            self._canaries.see(First(flight.work.shard, site.address, site.machine, result.columns))

    def _log(self, flight: Flight, answer: Answer) -> None:
        if answer.log:
            log = self._scoring.queues[self._place_of(flight.work)].log
            with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"[{flight.site.name}]\n{answer.log}\n")

    def _abandon(self) -> None:
        """Cancel everything, so that child processes end on every machine."""
        futures = [flight.future for flight in self._flights.values()]
        futures += [future for _, future in self._visits.values()]
        self._flights.clear()
        self._visits.clear()
        if self._client.status == "running":
            self._client.cancel([*futures, *self._wishes], force=True)
        for site in self._sites.values():
            site.sent.clear()


def _words(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
