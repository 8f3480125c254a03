"""Which machines computed a run, and whether they compute the same."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from benchbox.records.run import Count, Environment, Key, Named, NotNegative, Positive, digest


@dataclass(frozen=True)
class Machine:
    """A machine that computed shards."""

    name: Named  # of the host
    environment: Environment

    @classmethod
    def here(cls, environment: Environment) -> Machine:
        """Return this machine."""
        return cls(socket.gethostname() or "unknown", environment)

    def timed_for(self, environment: Environment) -> str:
        """What a timing calls this machine; empty if it is the one of this environment, as far as that tells."""
        if self.name == socket.gethostname() and self.environment.machine == environment.machine:
            return ""
        return f"{self.name} ({self.environment.machine_label})"

    @property
    def key(self) -> str:
        """Identity in the files of a run: host, processor and software, but not its load."""
        known = self.environment
        return digest([self.name, known.cpu, known.cores, known.system, known.python, known.versions])


@dataclass(frozen=True)
class Canary:
    """A shard that was computed twice, and what differed."""

    cell: Key
    # range in the order of work
    start: Count
    stop: Positive
    machines: tuple[Key, Key]  # equal if two processes of one machine computed it
    # largest absolute difference of each column that is not equal to the bit; empty if all are
    differences: dict[str, NotNegative] = field(default_factory=dict)
    failure: str = ""  # why the second machine has no result; empty if it has one


@dataclass(frozen=True)
class MachinesRecord:
    """The machines of a cluster that computed a run, by key, and the shards that were computed twice."""

    machines: dict[Key, Machine] = field(default_factory=dict)
    canaries: tuple[Canary, ...] = ()
