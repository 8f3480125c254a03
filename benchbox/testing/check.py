"""Runs the probes on one denoiser in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.testing.card import HealthCard, Probe, Verdict
from benchbox.testing.output_probes import QUALITY_PROBES, RESULT_PROBES, STARTS
from benchbox.testing.process_probes import PROCESS_PROBES
from benchbox.testing.repeat_probes import REPEAT_PROBES
from benchbox.testing.subject import NOISE, Bench, Subject, find_subject

PROBES: dict[str, Probe] = {
    probe.name: probe for probe in (STARTS, *RESULT_PROBES, *REPEAT_PROBES, *QUALITY_PROBES, *PROCESS_PROBES)
}

NOT_STARTED = "not run, because it does not start"


def check_denoiser(
    denoiser: str | type[Denoiser], *, noise: str = NOISE, probes: Sequence[str] = tuple(PROBES)
) -> HealthCard:
    """Check a denoiser against the contract, in a test.

    Parameters
    ----------
    denoiser : str or type
        The specification of an installed denoiser, such as ``'median:size=5'``, or a subclass of `benchbox.Denoiser`.
    noise : str
        The noise that the denoiser is designed for.
    probes : sequence of str
        Names of the probes to run; all by default.

    Returns
    -------
    HealthCard
        The results; no probe failed.

    Raises
    ------
    AssertionError
        A probe failed; the message says which, what it observed and what to do.
    BenchboxError
        The name of the denoiser, an option, the noise or a probe is unknown.
    """
    card = examine(denoiser, noise=noise, probes=probes)
    if not card.healthy:
        raise AssertionError(card.text)
    return card


def examine(denoiser: str | type[Denoiser], *, noise: str = NOISE, probes: Sequence[str] = tuple(PROBES)) -> HealthCard:
    """Run the probes like `check_denoiser`, but return failures in the card instead of raising.

    Returns
    -------
    HealthCard
    """
    subject = find_subject(denoiser)
    return HealthCard(subject.spec, subject.source, tuple(verdicts(subject, noise, probes)))


def verdicts(subject: Subject, noise: str, probes: Sequence[str]) -> Iterator[Verdict]:
    """Run the named probes in order; after one that it does not start, the others are skipped."""
    bench = Bench(subject, noise)
    reason = ""
    for name in probes:
        if name not in PROBES:
            raise BenchboxError(f"there is no probe '{name}'", hint=did_you_mean(name, PROBES))
        verdict = Verdict(name, PROBES[name].asks, "skip", reason) if reason else PROBES[name].verdict(bench)
        if verdict.probe == STARTS.name and verdict.mark == "fail":
            reason = NOT_STARTED
        yield verdict
