"""How long a piece of work may take, and how much memory it may hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits on each process that runs a denoiser.

    Attributes
    ----------
    timeout_s : float
        Seconds that one shard, or the timing of one denoiser, may take.
    memory_gb : float or None
        Resident memory in GiB that the process and all that it started may hold; None for no limit. It is watched from
        outside: a limit on the address space would refuse TensorFlow, which reserves far more than it uses.
    """

    timeout_s: float = 600.0
    memory_gb: float | None = None

    @property
    def memory_words(self) -> str:
        """The reason of a row that held too much."""
        return f"its process held more than {self.memory_gb:g} GiB (--memory)"

    def exceeded(self, resident_mb: Callable[[], float]) -> bool:
        """Whether a process holds too much; it is only asked where there is a limit."""
        return self.memory_gb is not None and resident_mb() > self.memory_gb * 1024
