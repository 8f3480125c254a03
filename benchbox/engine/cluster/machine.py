"""What a machine of a cluster does for a run: it says whether it may be used, and scores shards in child processes.

It knows no cluster system. Whatever runs these functions must be a process that may start others; daemonic ones may,
because children come from `subprocess`. When that process dies, its children end with it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from benchbox.api.errors import BenchboxError
from benchbox.api.version import __version__
from benchbox.engine.cluster.parcels import (
    MOST_LOG,
    Answer,
    Order,
    Timed,
    TimingOrder,
    Visit,
    Welcome,
    pack,
    place_files,
    placed,
    unpack,
    unpack_images,
)
from benchbox.engine.construction import try_construction
from benchbox.engine.drawing import Condition, ImagesLost, image_set
from benchbox.engine.environment import calibrate, environment, package_digest
from benchbox.engine.plan import Limits
from benchbox.engine.shard import compute_shard
from benchbox.engine.timing import time_denoiser, timing_context
from benchbox.engine.work_loop import Trial
from benchbox.engine.workers import Worker, worker_context
from benchbox.records.machines import Machine
from benchbox.records.run import Failure, PluginSpec, Provider, RunRecord
from benchbox.registry import plugin_sources
from benchbox.system.files import CacheFolder, temporary_folder

_IDLE_S = 10.0
"""Seconds that a child process waits for another shard; its start takes milliseconds, its imports may take seconds."""
_SWEEP_S = 1.0


class Stop(threading.Event):
    """An event that is also set as soon as a work is cancelled, which has to be asked for."""

    def __init__(self, is_cancelled: Callable[[], bool]) -> None:
        super().__init__()
        self._is_cancelled = is_cancelled

    def is_set(self) -> bool:
        """Whether the work is no longer wanted."""
        return super().is_set() or self._is_cancelled()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait some seconds, and say whether the work is no longer wanted."""
        super().wait(timeout)
        return self.is_set()


class _Child:
    """A child process for one denoiser of one run, and what it has printed."""

    def __init__(self, purpose: tuple[str, str]) -> None:
        self.purpose = purpose
        self.idle_since = 0.0
        self._stack = contextlib.ExitStack()
        folder = self._stack.enter_context(temporary_folder())
        self._log, self._read = folder / "output.log", 0
        self.worker = self._stack.enter_context(Worker(worker_context(), self._log))

    def printed(self) -> str:
        """What it has printed since it was last asked."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
            self._read += len(text)
            return text.decode("utf-8", "backslashreplace")
        return ""

    def end(self) -> None:
        """End the process, which does nothing."""
        self.worker.abandoned = True
        self._stack.close()


class _Children:
    """The child processes of this process; one that has nothing to do ends after a while, or when another is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._busy = 0
        self._sweeper: threading.Thread | None = None

    @contextlib.contextmanager
    def taken(self, purpose: tuple[str, str]) -> Iterator[_Child]:
        """A child for a run and a denoiser; after an exception it is not used again."""
        with self._lock:
            found = next((child for child in self._idle if child.purpose == purpose), None)
            if found is not None:
                self._idle.remove(found)
            self._busy += 1
            surplus = [] if found is not None else self._idle[: max(0, len(self._idle) - self._busy + 1)]
            for child in surplus:
                self._idle.remove(child)
        for child in surplus:
            child.end()
        child = found or _Child(purpose)
        try:
            yield child
        except BaseException:
            child.end()
            raise
        else:
            with self._lock:
                child.idle_since = time.monotonic()
                self._idle.append(child)
                if self._sweeper is None:
                    self._sweeper = threading.Thread(target=self._sweep, name="idle children", daemon=True)
                    self._sweeper.start()
        finally:
            with self._lock:
                self._busy -= 1

    def _sweep(self) -> None:
        while True:
            time.sleep(_SWEEP_S)
            with self._lock:
                old = [child for child in self._idle if time.monotonic() > child.idle_since + _IDLE_S]
                for child in old:
                    self._idle.remove(child)
            for child in old:
                child.end()


_children = _Children()


def compute(order: bytes, images: bytes | None, is_cancelled: Callable[[], bool]) -> bytes:
    """Score a shard in a child process; returns an `Answer`.

    `images` are those of the shard if this machine does not see the data. The child ends within a second after
    `is_cancelled` begins to say so, and `Stopped` is raised.
    """
    wanted = placed(unpack(Order, order), _plugin_folder())
    task = wanted.task(None if images is None else unpack_images(images))
    trial = Trial(compute_shard, "a shard", here(wanted.limits), Stop(is_cancelled))
    with _children.taken((wanted.run, wanted.denoiser.spec)) as child:
        try:
            result = trial.attempt(child.worker, task)
        except ImagesLost as error:
            return pack(Answer(lost=(error.message, error.hint)))
        return pack(Answer.of(result, child.printed()))


def time_alone(order: bytes, is_cancelled: Callable[[], bool]) -> bytes:
    """Time a denoiser, or the calibration kernel, in a process of its own; returns a `Timed`."""
    wanted = placed(unpack(TimingOrder, order), _plugin_folder())
    limits = here(wanted.limits)
    with temporary_folder() as folder:
        log = folder / "output.log"
        log.touch()
        if wanted.denoiser is None:
            timed = Timed(calibration=calibrate(wanted.threads, limits.timeout_s, log))
        else:
            with timing_context(wanted.threads) as context:
                timed = Timed(*time_denoiser(wanted.task(), context, limits, log, Stop(is_cancelled)))
        return pack(replace(timed, log=log.read_text(encoding="utf-8", errors="backslashreplace")[-MOST_LOG:]))


def here(limits: Limits) -> Limits:
    """The limits of a run on this machine, whose container may be another."""
    return Limits.of(limits.timeout_s, None if limits.container else limits.memory_gb)


def welcome(visit: bytes, is_cancelled: Callable[[], bool]) -> bytes:
    """Say whether this machine may be used, and whether it sees the data; returns a `Welcome`.

    Constructing a denoiser may take long, so the child ends soon after `is_cancelled` begins to say so, as it does in
    `compute`.
    """
    wanted = unpack(Visit, visit)
    if reason := _other_software(wanted):
        return pack(Welcome(reason))
    try:
        place_files(wanted.files, _plugin_folder())
    except (BenchboxError, OSError) as error:
        return pack(Welcome(f"plugin files cannot be written: {error}"))
    wanted = placed(replace(wanted, files={}), _plugin_folder())
    stop, limits = Stop(is_cancelled), here(wanted.limits)
    with _children.taken(("", "visit")) as child:
        for denoiser in wanted.denoisers:
            other = Trial(_other_files, "constructing it", limits, stop).attempt(child.worker, denoiser)
            if isinstance(other, str) and other:  # one that cannot be constructed gets its row from there
                return pack(Welcome(f"{denoiser.spec}: {other}"))
        blind = Trial(_blindness, "opening the data", limits, stop).attempt(child.worker, wanted.condition)
    machine = Machine.here(replace(environment(), load=0.0))
    return pack(Welcome("", machine, blind.reason if isinstance(blind, Failure) else blind))


def _other_software(wanted: Visit) -> str:
    """Which package is of another version or has other code here; empty if none."""
    if __version__ != wanted.version:
        return f"it has benchbox {__version__}, not {wanted.version}"
    for provider in wanted.providers:
        if provider.kind == "entry point" and provider.distribution:
            try:
                version = importlib.metadata.version(provider.distribution)
            except importlib.metadata.PackageNotFoundError:
                return f"{provider.distribution} {provider.version} is not installed there"
            if version != provider.version:
                return f"it has {provider.distribution} {version}, not {provider.version}"
    for package, digest in wanted.code.items():
        if package_digest(package, only_code=True) != digest:
            return f"the code of its {package} differs, although the version is the same"
    return ""


def make_visit(record: RunRecord, condition: Condition, limits: Limits) -> Visit:
    """What a worker is asked before it gets anything of a run to do."""
    providers = [
        *(denoiser.plugin.provider for denoiser in record.denoisers),
        *(part.provider for noise in record.noises for part in noise.parts),
        *(metric.plugin.provider for metric in record.metrics),
    ]
    providers = list(dict.fromkeys([*providers, condition.dataset.provider]))
    files = {provider.version: _contents(provider) for provider in providers if provider.kind == "file"}
    weighted = tuple(denoiser.plugin for denoiser in record.denoisers if denoiser.plugin.content)
    return Visit(__version__, packages_of(providers), tuple(providers), weighted, condition, limits, files)


def _contents(provider: Provider) -> list[tuple[str, bytes]]:
    """A plugin file and the modules beside it, by their names relative to its folder."""
    folder = Path(provider.target).parent
    return [(str(file.relative_to(folder)), file.read_bytes()) for file in plugin_sources(Path(provider.target))]


def packages_of(providers: list[Provider]) -> dict[str, str]:
    """Digest of the code of each package that a run uses."""
    targets = (provider.target for provider in providers if provider.kind != "file")
    names = {"benchbox", *(target.partition(":")[0].partition(".")[0] for target in targets)}
    return {name: package_digest(name, only_code=True) for name in sorted(names)}


def _other_files(denoiser: PluginSpec) -> str:
    """In a child: why the files of a denoiser are not those of the client; empty if they are."""
    made = try_construction(denoiser)
    if made.refused is not None:
        return made.refused.message
    # A constructor that fails does so everywhere, and is the row's own fault.
    return "" if made.fault or made.content == denoiser.content else "its files, such as weights, differ"


def _blindness(condition: Condition) -> str:
    """In a child: why the data cannot be read here; empty if they can."""
    try:
        image_set(condition)
    except (BenchboxError, OSError) as error:
        return getattr(error, "message", str(error))
    return ""


@functools.cache
def _plugin_folder() -> Path:
    return CacheFolder("plugin-files").path
