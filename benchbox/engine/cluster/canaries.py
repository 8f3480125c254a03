"""Shards that are computed twice, to see whether the machines of a cluster compute the same.

The first shard of a run is computed once on every machine, so that each pair of machines is compared; one shard in a
hundred is computed a second time on another machine, or by another worker if there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchbox.engine.engines import ShardWork
from benchbox.engine.shard import ShardScores
from benchbox.records.machines import Canary, Machine
from benchbox.records.run import Failure, digest
from benchbox.store import IMAGE

_ONE_IN = 100
_MOST = 2.0**52
Columns = Mapping[str, NDArray[Any]]


class Place(Protocol):
    """A worker that may be given a shard."""

    address: str
    machine: Machine | None


P = TypeVar("P", bound=Place)


@dataclass(frozen=True)
class First:
    """A shard to be computed again, and where and how it was computed first."""

    shard: ShardWork
    address: str
    machine: Machine
    columns: Columns


class Canaries:
    """Chooses shards to compute twice, hands them out, and compares the results.

    `random` are the canonical specifications of denoisers that differ from themselves; `on_compared` gets what came of
    each comparison.
    """

    def __init__(self, random: Iterable[str], on_compared: Callable[[Canary], None]) -> None:
        self._random = frozenset(random)
        self._on_compared = on_compared
        self._reference: First | None = None
        self._met: set[str] = set()  # keys of the machines that have computed the reference, or are about to
        self._waiting: list[First] = []

    def see(self, first: First) -> None:
        """Decide whether a shard that has just been computed is computed again."""
        shard = first.shard
        if shard.denoiser.spec in self._random:
            return
        if self._reference is None:
            self._reference = first
            self._met.add(first.machine.key)
        elif int(digest([shard.cell.key, shard.shard.start]), 16) % _ONE_IN == 0:
            self._waiting.append(first)

    def next(self, places: Sequence[P]) -> tuple[P, First] | None:
        """A shard to compute again, and where; None if nothing is left that these workers can do."""
        for place in places:
            if self._reference is not None and place.machine is not None and place.machine.key not in self._met:
                self._met.add(place.machine.key)
                return place, self._reference
        if not self._waiting or not places:
            return None
        first = self._waiting.pop()
        # Best on another machine, else by another worker.
        return min(places, key=lambda place: (_is_on(first, place), place.address == first.address)), first

    def put_back(self, first: First, machine: Machine | None) -> None:
        """A worker has died with a shard; only the one that compares machines is tried again."""
        if first is self._reference and machine is not None:
            self._met.discard(machine.key)

    def compare(self, first: First, machine: Machine, result: ShardScores | Failure) -> None:
        """Compare the second result of a shard with its first one."""
        differences: dict[str, float] = {}
        failure = result.reason if isinstance(result, Failure) else ""
        if isinstance(result, ShardScores):
            for name, values in first.columns.items():
                again = result.columns.get(name)
                if again is None or np.isnan(values).tobytes() != np.isnan(again).tobytes():
                    failure = failure or f"{name} is not defined for the same images"
                elif name != IMAGE and values.tobytes() != again.tobytes():
                    apart = np.nan_to_num(np.abs(values.astype(np.float64) - again), nan=0.0)
                    differences[name] = float(min(apart.max(), _MOST))
        shard, machines = first.shard.shard, (first.machine.key, machine.key)
        self._on_compared(Canary(first.shard.cell.key, shard.start, shard.stop, machines, differences, failure))


def _is_on(first: First, place: Place) -> bool:
    return place.machine is not None and place.machine.key == first.machine.key
