"""The health card of a denoiser: probes and their verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchbox.api.errors import BenchboxError
from benchbox.testing.subject import Bench

Mark = Literal["pass", "fail", "skip"]


@dataclass(frozen=True)
class Verdict:
    """The result of one probe.

    Attributes
    ----------
    probe : str
        Name of the probe.
    asks : str
        What the contract requires.
    mark : {'pass', 'fail', 'skip'}
        ``skip`` if the probe does not apply or was not reached; `seen` says why.
    seen : str
        What the probe observed, with figures.
    advice : str
        What to do; empty unless the probe failed.
    """

    probe: str
    asks: str
    mark: Mark
    seen: str
    advice: str = ""


@dataclass(frozen=True)
class HealthCard:
    """The results of all probes of one denoiser.

    Attributes
    ----------
    denoiser : str
        Canonical specification.
    source : str
        The plugin that provides it.
    verdicts : tuple of Verdict
        In the order of the probes.
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
        """The failures as text: what was observed, then a hint, two lines for each."""
        lines = [f"{self.denoiser} fails {len(self.failures)} of {len(self.verdicts)} probes"]
        for verdict in self.failures:
            lines.append(f"  {verdict.probe} ({verdict.asks}): {verdict.seen}")
            lines.append(f"    hint: {verdict.advice}")
        return "\n".join(lines)


class Failed(Exception):
    """The denoiser breaks the contract; `advice` replaces the probe's own where that does not fit."""

    def __init__(self, seen: str, advice: str = "") -> None:
        super().__init__(seen)
        self.seen = seen
        self.advice = advice


class Skipped(Exception):
    """The probe does not apply to this denoiser."""


@dataclass(frozen=True)
class Probe:
    """One requirement of the contract; `look` returns what it observed, or raises `Failed` or `Skipped`."""

    name: str
    asks: str
    advice: str
    look: Callable[[Bench], str]

    def verdict(self, bench: Bench) -> Verdict:
        """Run the probe; any exception from the denoiser is a failure."""
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
