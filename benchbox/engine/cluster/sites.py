"""The workers of a Dask cluster as the client knows them: what is on its way to each, and how it is sent."""

from __future__ import annotations

import asyncio
import concurrent.futures
import uuid
from dataclasses import dataclass, field

from distributed import Client, Future

from benchbox.engine.cluster.canaries import First
from benchbox.engine.cluster.dask_worker import CALL
from benchbox.engine.cluster.parcels import pack_images
from benchbox.engine.drawing import Condition
from benchbox.engine.engines import ShardWork
from benchbox.engine.plan import Shard
from benchbox.engine.shard import ShardTask
from benchbox.records.machines import Machine

_KEPT_PIXELS = 2**27
"""Pixels of sent images that each worker keeps, for the other denoisers of these images."""
CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
"""What a task ends with if the connection to the scheduler is lost, by version of Dask."""


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
