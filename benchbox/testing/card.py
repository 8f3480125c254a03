"""The health card of a denoiser: what a probe is, the list of probes, their verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchbox.api.errors import BenchboxError
from benchbox.testing.subject import Bench

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


class Failed(Exception):
    """The denoiser does not keep to the contract.

    Parameters
    ----------
    seen : str
        What was seen, with its figures.
    advice : str
        What to do, where the probe's own advice does not fit.
    """

    def __init__(self, seen: str, advice: str = "") -> None:
        super().__init__(seen)
        self.seen = seen
        self.advice = advice


class Skipped(Exception):
    """The probe does not apply to this denoiser."""


@dataclass(frozen=True)
class Probe:
    """One thing that a denoiser is held to.

    Attributes
    ----------
    name : str
    asks : str
        What it holds the denoiser to.
    advice : str
        What to do when it fails.
    look : callable
        Says what it saw, or raises `Failed` or `Skipped`.
    """

    name: str
    asks: str
    advice: str
    look: Callable[[Bench], str]

    def verdict(self, bench: Bench) -> Verdict:
        """Run the probe; whatever the denoiser raises is a failure of it."""
        try:
            return Verdict(self.name, self.asks, "pass", self.look(bench))
        except Skipped as skipped:
            return Verdict(self.name, self.asks, "skip", str(skipped))
        except Failed as failed:
            return Verdict(self.name, self.asks, "fail", failed.seen, failed.advice or self.advice)
        except BenchboxError as error:
            return Verdict(self.name, self.asks, "fail", error.message, error.hint or self.advice)
        except Exception as error:
            lines = str(error).strip().splitlines()
            seen = f"raised {type(error).__name__}" + (f": {lines[0]}" if lines else "")
            return Verdict(self.name, self.asks, "fail", seen, self.advice)
