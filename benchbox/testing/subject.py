"""The denoiser under test, with the images and noise for the probes."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images, Scores, Sigma
from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.sample import Sample
from benchbox.builtin.seeding import add_noise
from benchbox.engine.plan import plan_noises
from benchbox.engine.shard import known_sigma, make_noise
from benchbox.records.run import Protocol, Provider
from benchbox.records.specs import Configured
from benchbox.registry import Registry, load_registry

SIDE = 48
COUNT = 6
NOISE = "gaussian:0.1"
TIMEOUT_S = 120.0


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
        self.use = subject.cls.capabilities.sigma
        self.least = subject.cls.capabilities.min_size
        self.deterministic = subject.cls.capabilities.deterministic

    @functools.cached_property
    def clean(self) -> Images:
        """Clean images, shape (COUNT, SIDE, SIDE), or larger if the denoiser needs it."""
        return pictures(COUNT, max(SIDE, self.least), max(SIDE, self.least))

    @functools.cached_property
    def noisy(self) -> Images:
        """The same images with noise; pass a copy to the denoiser, never this array."""
        return self._drawn[0]

    @functools.cached_property
    def sigma(self) -> Sigma | None:
        """The noise levels that a run would tell the denoiser."""
        levels, _ = known_sigma(self.use, Protocol(), *self._drawn, white=True)
        return levels

    @functools.cached_property
    def _drawn(self) -> tuple[Images, Sigma | None]:
        names = [str(index) for index in range(len(self.clean))]
        return add_noise(make_noise(self.noise.parts), self.noise.spec, self.clean, names, 0, 0)

    @functools.cached_property
    def denoiser(self) -> Denoiser:
        """The denoiser, set up."""
        denoiser = self.subject.make()
        denoiser.setup(_stack_shape(self.noisy.shape))
        return denoiser

    @functools.cached_property
    def answer(self) -> Images:
        """Its result for `noisy`."""
        return self.denoise(self.noisy, self.sigma)

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a copy of the arrays; return a copy of the result after checking its shape."""
        return stack_like(self.denoiser.denoise(noisy.copy(), None if sigma is None else sigma.copy()), noisy)

    def told(self, levels: Sigma) -> Sigma | None:
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
    return clean + levels[:, np.newaxis, np.newaxis] * draw, levels


def psnr(clean: Images, denoised: Images) -> Scores:
    """PSNR of each image in dB after clipping to [0, 1], as a run scores it."""
    error = np.square(denoised.clip(0, 1).astype(np.float64) - clean).mean(axis=(1, 2))
    scores: Scores = -10 * np.log10(np.maximum(error, 1e-12))
    return scores


def pictures(count: int, height: int, width: int) -> Images:
    """Tiles of photographs, extended by mirroring if necessary, shape (count, height, width)."""
    sample = Sample().load(None)
    tiles = sample.stack(np.linspace(0, len(sample) - 1, count).astype(np.intp))
    rows, columns = (max(0, side - tiles.shape[1]) for side in (height, width))
    larger = np.pad(tiles, ((0, 0), (0, rows), (0, columns)), mode="symmetric")
    return np.ascontiguousarray(larger[:, :height, :width])


def _stack_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape[0], shape[1], shape[2]
