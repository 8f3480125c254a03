"""What a probe is, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchbox.api.errors import BenchboxError
from benchbox.testing.card import Verdict
from benchbox.testing.subject import Bench


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
