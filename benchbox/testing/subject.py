"""What a probe is, what it is given (a denoiser, images, noise), and the health card of its verdicts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Channels, Images, Scores, Sigma
from benchbox.api.denoiser import Capabilities, Denoiser, SigmaUse
from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.sample import Sample
from benchbox.builtin.noise import add_noise
from benchbox.engine.drawing import known_sigma, make_noise
from benchbox.engine.plan import plan_noises
from benchbox.engine.shard import denoise_stack
from benchbox.records.run import Protocol, Provider
from benchbox.records.specs import Configured
from benchbox.registry import Registry, first_line, load_registry

SIDE = 48
COUNT = 6
NOISE = "gaussian:0.1"
TIMEOUT_S = 120.0
Mark = Literal["pass", "fail", "skip"]


@dataclass(frozen=True)
class Subject(Configured[Denoiser]):
    """A denoiser with its options, not yet constructed; `provider` is None if a class was passed."""

    provider: Provider | None = field(default=None, kw_only=True)

    @property
    def source(self) -> str:
        """The plugin, or the module of a class that was passed."""
        return self.provider.label if self.provider else self.cls.__module__


def find_subject(denoiser: str | type[Denoiser], registry: Registry | None = None) -> Subject:
    """Look up a specification such as ``'median:size=5'``, by default among all installed plugins, or take a class."""
    if isinstance(denoiser, str):
        entry = (registry or load_registry()).denoiser(denoiser)
        return Subject(entry.cls, entry.name, entry.label, entry.values, provider=entry.provider)
    if not (isinstance(denoiser, type) and issubclass(denoiser, Denoiser)):
        raise BenchboxError(
            f"{denoiser!r} is not a denoiser",
            hint="pass a name such as 'median:size=5' or a subclass of benchbox.Denoiser",
        )
    return Subject(denoiser, denoiser.name, denoiser.name)


class Bench:
    """What the probes of one denoiser share; probes that start a process enforce `timeout_s` themselves."""

    def __init__(self, subject: Subject, noise: str = NOISE, timeout_s: float = TIMEOUT_S) -> None:
        self.subject = subject
        (self.noise,) = plan_noises([noise], load_registry())
        self.timeout_s = timeout_s

    @functools.cached_property
    def _capabilities(self) -> Capabilities:
        """Those of the instance, or of the class where it cannot be constructed, which a probe reports."""
        try:
            return self.subject.make().capabilities
        except Exception:
            return self.subject.cls.capabilities

    @property
    def least(self) -> int:
        """Smallest height and width."""
        return self._capabilities.min_size

    @property
    def takes(self) -> Channels:
        """Stacks that it takes."""
        return self._capabilities.channels

    @property
    def deterministic(self) -> bool:
        """Whether it declares that equal input gives equal output."""
        return self._capabilities.deterministic

    @functools.cached_property
    def use(self) -> SigmaUse:
        """Use of the noise level, which may be known only once the denoiser is set up."""
        return self.denoiser.capabilities.sigma

    @functools.cached_property
    def clean(self) -> Images:
        """Clean images, shape (COUNT, SIDE, SIDE), or larger if the denoiser needs it; RGB if it takes only that."""
        return self.pictures(COUNT, max(SIDE, self.least), max(SIDE, self.least))

    def pictures(self, count: int, height: int, width: int) -> Images:
        """Clean images of a size, in colour if the denoiser takes nothing else."""
        return pictures(count, height, width, rgb=self.takes == "rgb")

    @functools.cached_property
    def noisy(self) -> Images:
        """The same images with noise; pass a copy to the denoiser, never this array."""
        return self._drawn[0]

    @functools.cached_property
    def sigma(self) -> Sigma | None:
        """The noise levels that a run would tell the denoiser."""
        levels, _ = known_sigma(self.use, Protocol(), *self._drawn, estimable=True)
        return levels

    @functools.cached_property
    def _drawn(self) -> tuple[Images, Sigma | None]:
        names = [str(index) for index in range(len(self.clean))]
        return add_noise(make_noise(self.noise.parts), self.noise.spec, self.clean, names, 0, 0)

    @functools.cached_property
    def denoiser(self) -> Denoiser:
        """The denoiser, set up."""
        denoiser = self.subject.make()
        denoiser.setup(self.noisy.shape)
        return denoiser

    @functools.cached_property
    def answer(self) -> Images:
        """Its result for `noisy`."""
        return self.denoise(self.noisy, self.sigma)

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a copy of the arrays; return a copy of the result after checking its shape."""
        level = None if sigma is None else sigma.copy()
        return stack_like(denoise_stack(self.denoiser, noisy.copy(), level), noisy)

    def given(self, levels: Sigma) -> Sigma | None:
        """These levels, or None if the denoiser uses none."""
        return None if self.use == "unused" else levels


def stack_like(denoised: object, noisy: Images) -> Images:
    """A copy of a result; raises `BenchboxError` if it is not an array of the shape of `noisy`."""
    if not isinstance(denoised, np.ndarray) or denoised.shape != noisy.shape:
        what = denoised.shape if isinstance(denoised, np.ndarray) else type(denoised).__name__
        raise BenchboxError(f"returned {what} for noisy images of shape {noisy.shape}", hint="return noisy's shape")
    return denoised.copy()


def gaussian(clean: Images, sigma: float | NDArray[np.float32]) -> tuple[Images, Sigma]:
    """Add white Gaussian noise; every level scales the same draw, so that levels can be compared."""
    levels = np.broadcast_to(np.float32(sigma), len(clean)).copy()
    draw = np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)
    return clean + levels.reshape(-1, *[1] * (clean.ndim - 1)) * draw, levels


def psnr(clean: Images, denoised: Images) -> Scores:
    """PSNR of each image in dB after clipping to [0, 1], as a run scores it."""
    error = np.square(denoised.clip(0, 1).astype(np.float64) - clean).reshape(len(clean), -1).mean(axis=1)
    scores: Scores = -10 * np.log10(np.maximum(error, 1e-12))
    return scores


def pictures(count: int, height: int, width: int, *, rgb: bool = False) -> Images:
    """Tiles of photographs, grey or RGB, extended by mirroring if necessary."""
    sample = Sample("rgb" if rgb else "grey").load(None)
    tiles = sample.stack(np.linspace(0, len(sample) - 1, count).astype(np.intp))
    rows, columns = (max(0, side - tiles.shape[1]) for side in (height, width))
    larger = np.pad(tiles, ((0, 0), (0, rows), (0, columns), (0, 0))[: tiles.ndim], mode="symmetric")
    return np.ascontiguousarray(larger[:, :height, :width])


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
            return Verdict(self.name, self.asks, "fail", f"raised {first_line(error)}", self.advice)
