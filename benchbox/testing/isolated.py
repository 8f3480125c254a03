"""Runs the probes in a separate process with a time limit, so plugins that hang or die get a card too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchbox.records.run import Provider
from benchbox.registry import Broken, Registry
from benchbox.system.program import Child, ChildDied, ChildHangs, parent_connection
from benchbox.testing.card import HealthCard, Verdict
from benchbox.testing.check import NOT_STARTED, PROBES
from benchbox.testing.output_probes import STARTS
from benchbox.testing.subject import TIMEOUT_S, Bench, find_subject

_DEATHS = 2
_LOADS = "loads", "the plugin can be imported and offers a denoiser", "fix this error, then check again"


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
        self._child = Child("benchbox.testing.isolated")

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
                self._child = Child("benchbox.testing.isolated")
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
