"""The engine for Dask: joins or starts a cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import json
import logging
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import dask
from distributed import Client, LocalCluster, Security
from distributed.comm import get_address_host_port, parse_address

from benchbox.api.errors import BenchboxError
from benchbox.api.threads import usable_cores
from benchbox.engine.cluster.dask_worker import WorkerTimer
from benchbox.engine.cluster.dispatch import Dispatch
from benchbox.engine.drawing import Condition
from benchbox.engine.engines import Scoring
from benchbox.engine.events import ClusterChanged, Event
from benchbox.engine.plan import Limits
from benchbox.engine.workers import blocked
from benchbox.records.options import DASK, RunOptions
from benchbox.records.run import RunRecord

_CONNECT_S = 30
_TALKATIVE = "distributed", "asyncio", "tornado"
_AGAIN_S = 0.2
_TLS_HINT = (
    "name those of the cluster in Dask's configuration, distributed.comm.tls, or in variables such as "
    "DASK_DISTRIBUTED__COMM__TLS__CA_FILE"
)


class DaskEngine:
    """Workers of a Dask cluster: a running one, one of an open client, or processes on this machine."""

    name: ClassVar[str] = DASK

    def __init__(self, options: RunOptions | None = None, client: Client | None = None) -> None:
        self._options = options or RunOptions()
        self._client = client
        self._stack = contextlib.ExitStack()

    @classmethod
    def from_options(cls, options: RunOptions) -> Self:
        """Make it from the options of a run, without connecting."""
        return cls(options)

    @classmethod
    def from_object(cls, given: object) -> Self | None:
        """Make it from an open client, which stays open; None for anything else."""
        if not isinstance(given, Client):
            return None
        if given.asynchronous:
            raise BenchboxError("engine= is an asynchronous client", hint="give a Client without asynchronous=True")
        return cls(client=given)

    def __enter__(self) -> Self:
        """Connect; raises `BenchboxError` if there is no scheduler."""
        if self._client is not None:
            self.client = self._client
            return self
        options = self._options
        if options.scheduler_file and not Path(options.scheduler_file).is_file():  # Dask would wait for it for ever
            raise BenchboxError(
                f"--scheduler-file {options.scheduler_file}: no such file",
                hint="start the scheduler: dask scheduler --scheduler-file FILE",
            )
        address = options.scheduler or _address_in(options.scheduler_file)
        if address.startswith("tls://") and not Security().get_connection_args("client")["ssl_context"]:
            raise BenchboxError(f"{address} needs certificates, but Dask's configuration names none", hint=_TLS_HINT)
        # Dask warns of what the run itself reports: workers that go, a scheduler that is gone.
        self._stack.enter_context(_quiet())
        try:
            if options.scheduler or options.scheduler_file:
                _wait_for(address)
                self.client = self._connected(
                    options.scheduler or None, scheduler_file=options.scheduler_file or None, timeout=_CONNECT_S
                )
            else:
                self.client = self._connected(self._local_cluster())
                workers = options.jobs or usable_cores()
                self.client.cluster.scale(workers)
                self.client.wait_for_workers(workers, timeout=max(_CONNECT_S, options.wait_s))
        except (OSError, ValueError, TimeoutError) as error:
            self._stack.close()
            where = options.scheduler or options.scheduler_file
            hint = "start one: dask scheduler, then dask worker tcp://HOST:8786" if where else "see the message"
            raise BenchboxError(
                f"no Dask cluster{f' at {where}' if where else ''}: {error}",
                hint=_TLS_HINT if "TLS" in str(error) else hint,
            ) from error
        except BaseException:
            self._stack.close()
            raise
        return self

    def _connected(self, *where: Any, **options: Any) -> Client:
        with blocked([signal.SIGINT]):  # nobody could close one that is interrupted while it is made
            return self._stack.enter_context(Client(*where, set_as_default=False, **options))

    def _local_cluster(self) -> LocalCluster:
        """A cluster on this machine, without workers yet.

        Ctrl-C in a terminal reaches every process, but is for this one. Workers inherit what is blocked in the thread
        that starts them, unless that first starts the resource tracker, which unblocks it.
        """
        resource_tracker.ensure_running()
        with blocked([signal.SIGINT]):
            cluster = LocalCluster(
                n_workers=0,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )
            return self._stack.enter_context(cluster)

    def __exit__(self, *error: object) -> None:
        """Close what was opened here."""
        self._stack.close()

    def score(self, scoring: Scoring) -> None:
        """Score all shards; on an interrupt or an error, abandon running ones and raise."""
        address = self.client.scheduler.address if self.client.scheduler else ""
        # Without bokeh, the scheduler of this process shows only how to install it.
        shows = self.client.cluster is None or importlib.util.find_spec("bokeh") is not None
        dashboard = self.client.dashboard_link if shows else ""
        if is_open_to_others(address):
            scoring.report(
                ClusterChanged(0, 0, note=f"{address} is not encrypted: on a network that others share, use tls://")
            )
        options = self._options if self._client is None else scoring.record.options
        Dispatch(self.client, scoring, options).run(dashboard or "")

    def timer(
        self, worker: str, record: RunRecord, condition: Condition, limits: Limits, report: Callable[[Event], None]
    ) -> WorkerTimer:
        """What times denoisers on a worker; raises `BenchboxError` if none of that name comes, or it is not fit."""
        return WorkerTimer(self.client, worker, record, condition, limits, report)


def _address_in(scheduler_file: str) -> str:
    """Address that a scheduler wrote into its file; empty if there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(Path(scheduler_file).read_text(encoding="utf-8"))["address"])
    return ""


def _wait_for(address: str) -> None:
    """Wait until somebody listens; raises `OSError` if nobody does.

    A `Client` would wait, too, but after an interrupt it hangs for a minute.
    """
    if not address or parse_address(address)[0] not in ("tcp", "tls"):
        return
    end = time.monotonic() + _CONNECT_S
    while True:
        try:
            with socket.create_connection(get_address_host_port(address), timeout=_CONNECT_S):
                return
        except socket.gaierror:
            raise
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(_AGAIN_S)


def is_open_to_others(address: str) -> bool:
    """Whether others may read or change what travels: no encryption, and beyond this machine."""
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "ws") or not parts.hostname:
        return False
    try:
        return not ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return parts.hostname != "localhost"


@contextlib.contextmanager
def _quiet() -> Any:
    # Each by its name, because Dask gives some of them, such as distributed.client, a level of their own.
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _TALKATIVE]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with dask.config.set({"distributed.admin.tick.limit": "1h"}):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
