"""The health card of a denoiser: a verdict a probe, what was seen, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mark = Literal["pass", "fail", "skip"]


@dataclass(frozen=True)
class Verdict:
    """What one probe found.

    Attributes
    ----------
    probe : str
        Name of the probe.
    asks : str
        What it holds the denoiser to.
    mark : {'pass', 'fail', 'skip'}
        ``skip`` where the probe does not apply or was not reached; `seen` says why.
    seen : str
        What was seen, with its figures.
    advice : str
        What to do; empty unless it failed.
    """

    probe: str
    asks: str
    mark: Mark
    seen: str
    advice: str = ""


@dataclass(frozen=True)
class HealthCard:
    """All verdicts on one denoiser.

    Attributes
    ----------
    denoiser : str
        Canonical specification.
    source : str
        The plugin that it came from.
    verdicts : tuple of Verdict
        In the order in which the probes ran.
    """

    denoiser: str
    source: str
    verdicts: tuple[Verdict, ...]

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The probes that failed."""
        return tuple(verdict for verdict in self.verdicts if verdict.mark == "fail")

    @property
    def healthy(self) -> bool:
        """Whether no probe failed."""
        return not self.failures

    @property
    def text(self) -> str:
        """The failures in words, a line for each and one for its advice."""
        lines = [f"{self.denoiser} fails {len(self.failures)} of {len(self.verdicts)} probes"]
        for verdict in self.failures:
            lines.append(f"  {verdict.probe} ({verdict.asks}): {verdict.seen}")
            lines.append(f"    hint: {verdict.advice}")
        return "\n".join(lines)
