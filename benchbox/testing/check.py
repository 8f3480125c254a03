"""Runs the probes on a denoiser: here, or in a process with a time limit, so that one that hangs gets a card too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.records.run import Provider
from benchbox.registry import Broken, Registry
from benchbox.system.program import Child, ChildDied, ChildHangs, parent_connection
from benchbox.testing.behaviour_probes import PROCESS_PROBES, REPEAT_PROBES
from benchbox.testing.output_probes import COLOUR_PROBES, QUALITY_PROBES, RESULT_PROBES, STARTS
from benchbox.testing.subject import NOISE, TIMEOUT_S, Bench, HealthCard, Probe, Subject, Verdict, find_subject

PROBES: dict[str, Probe] = {
    probe.name: probe
    for probe in (STARTS, *RESULT_PROBES, *REPEAT_PROBES, *QUALITY_PROBES, *COLOUR_PROBES, *PROCESS_PROBES)
}

NOT_STARTED = "not run, because it does not start"
_DEATHS = 2
_LOADS = "loads", "the plugin can be imported and offers a denoiser", "fix this error, then check again"


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


@dataclass(frozen=True)
class IsolatedTask:
    """What the child process loads: one denoiser, or all of the plugin if `spec` is None."""

    provider: Provider
    spec: str | None
    noise: str
    timeout_s: float


@dataclass(frozen=True)
class _Offer:
    """What a plugin offers: canonical specifications of its denoisers, and whatever is broken."""

    denoisers: tuple[str, ...]
    broken: tuple[Broken, ...]


def examine_isolated(
    provider: Provider, spec: str | None, *, noise: str, timeout_s: float = TIMEOUT_S
) -> Iterator[HealthCard]:
    """Yield a health card for each denoiser of a plugin, which is loaded in a child process only.

    With a `spec` only that denoiser is checked. `timeout_s` limits loading and each probe.
    """
    task = IsolatedTask(provider, spec, noise, timeout_s)
    name = spec.partition(":")[0] if spec else Path(provider.target).name
    with _Server(task) as server:
        offer = server.load()
        if isinstance(offer, Verdict):
            yield HealthCard(name, provider.label, (offer,))
            return
        for broken in offer.broken:
            failed = Verdict(*_LOADS[:2], "fail", broken.reason, broken.hint or _LOADS[2])
            yield HealthCard(broken.offers or name, provider.label, (failed,))
        if not offer.denoisers and not offer.broken:
            advice = "add a hook benchbox_denoisers that returns a list of classes"
            failed = Verdict(*_LOADS[:2], "fail", "the plugin offers no denoiser", advice)
            yield HealthCard(name, provider.label, (failed,))
        for denoiser in offer.denoisers:
            yield HealthCard(denoiser, provider.label, tuple(server.examine(denoiser)))


class _Server:
    """The child process; replaced by a new one when a denoiser hangs or ends it."""

    def __init__(self, task: IsolatedTask) -> None:
        self._task = task
        self._child = Child("benchbox.testing.check")

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *error: object) -> None:
        self._child.end()

    def load(self) -> _Offer | Verdict:
        """Load the plugin in the child process."""
        self._child.send(self._task)
        try:
            offer: _Offer = self._child.receive(self._task.timeout_s)
            return offer
        except (ChildDied, ChildHangs) as error:
            return Verdict(*_LOADS[:2], "fail", f"while loading: {error}", _LOADS[2])

    def examine(self, spec: str) -> Iterator[Verdict]:
        """Run all probes in one process, or in a new one after a probe that ended it."""
        deaths, ended = 0, ""
        for probe in PROBES.values():
            if ended:
                yield Verdict(probe.name, probe.asks, "skip", ended)
                continue
            self._child.send((spec, probe.name))
            try:
                verdict: Verdict = self._child.receive(self._task.timeout_s)
                if probe is STARTS and verdict.mark == "fail":
                    ended = NOT_STARTED
                yield verdict
            except (ChildDied, ChildHangs) as error:
                yield Verdict(probe.name, probe.asks, "fail", str(error), "find the call that hangs or exits")
                deaths += 1
                if isinstance(error, ChildHangs) or deaths == _DEATHS:
                    ended = f"not run, because '{probe.name}' ended the process"
                self._child.end()
                self._child = Child("benchbox.testing.check")
                self.load()


def main() -> None:
    """Load the plugin named in the first message, then answer each (spec, probe) with a verdict."""
    pipe = parent_connection()
    task: IsolatedTask = pipe.recv()
    registry = Registry()
    registry.add(task.provider)
    found = [find_subject(spec, registry) for spec in ([task.spec] if task.spec else registry.denoisers)]
    subjects = {subject.spec: subject for subject in found}
    pipe.send(_Offer(tuple(subjects), tuple(registry.broken)))
    benches: dict[str, Bench] = {}
    while True:
        try:
            spec, probe = pipe.recv()
        except EOFError:
            return
        if spec not in benches:
            benches = {spec: Bench(subjects[spec], task.noise, task.timeout_s)}
        pipe.send(PROBES[probe].verdict(benches[spec]))
