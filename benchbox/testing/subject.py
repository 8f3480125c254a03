"""The denoiser under test, with the images and noise that probes use."""

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
from benchbox.engine.plan import plan_noise
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
    """A denoiser with its options, not yet made.

    Attributes
    ----------
    provider : Provider or None
        Where the class came from; None for a class that was given as such.
    """

    provider: Provider | None = field(default=None, kw_only=True)

    @property
    def source(self) -> str:
        """The plugin, or the module of a class that was given as such."""
        return self.provider.label if self.provider else self.cls.__module__


def find_subject(denoiser: str | type[Denoiser], registry: Registry | None = None) -> Subject:
    """Find what is to be checked.

    Parameters
    ----------
    denoiser : str or type
        A specification such as ``'median:size=5'``, or a class.
    registry : Registry, optional
        Where to look the name up; all installed plugins by default.

    Returns
    -------
    Subject

    Raises
    ------
    BenchboxError
        The name or an option is unknown.
    """
    if isinstance(denoiser, str):
        entry = (registry or load_registry()).denoiser(denoiser)
        return Subject(entry.cls, entry.name, entry.label, entry.values, provider=entry.provider)
    if not (isinstance(denoiser, type) and issubclass(denoiser, Denoiser)):
        raise BenchboxError(
            f"{denoiser!r} is not a denoiser",
            hint="give a name such as 'median:size=5' or a class derived from Denoiser",
        )
    return Subject(denoiser, denoiser.name, denoiser.name)


class Bench:
    """Everything that the probes of one subject share.

    Parameters
    ----------
    subject : Subject
    noise : str
        The noise that the denoiser is for.
    timeout_s : float
        Seconds that a probe may take; those that start a process keep it themselves.

    Raises
    ------
    BenchboxError
        The noise is unknown.
    """

    def __init__(self, subject: Subject, noise: str = NOISE, timeout_s: float = TIMEOUT_S) -> None:
        self.subject = subject
        self.noise = plan_noise(noise, load_registry())
        self.timeout_s = timeout_s
        self.use = subject.cls.capabilities.sigma
        self.least = subject.cls.capabilities.min_size
        self.deterministic = subject.cls.capabilities.deterministic

    @functools.cached_property
    def clean(self) -> Images:
        """Clean pictures, shape (COUNT, SIDE, SIDE), or larger where the denoiser needs it."""
        return pictures(COUNT, max(SIDE, self.least), max(SIDE, self.least))

    @functools.cached_property
    def noisy(self) -> Images:
        """The same with the noise that the denoiser is for; not to be handed over itself."""
        return self._drawn[0]

    @functools.cached_property
    def sigma(self) -> Sigma | None:
        """What a run would tell the denoiser of that noise."""
        told, _ = known_sigma(self.use, Protocol(), *self._drawn)
        return told

    @functools.cached_property
    def _drawn(self) -> tuple[Images, Sigma | None]:
        names = [str(index) for index in range(len(self.clean))]
        return add_noise(make_noise(self.noise.parts), self.noise.spec, self.clean, names, 0, 0)

    @functools.cached_property
    def denoiser(self) -> Denoiser:
        """The denoiser, set up."""
        denoiser = self.subject.make()
        denoiser.setup(_three(self.noisy.shape))
        return denoiser

    @functools.cached_property
    def answer(self) -> Images:
        """What it makes of `noisy`."""
        return self.denoise(self.noisy, self.sigma)

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Have a private copy denoised; what comes back is held to be a stack, and copied."""
        return stack_like(self.denoiser.denoise(noisy.copy(), None if sigma is None else sigma.copy()), noisy)

    def told(self, levels: Sigma) -> Sigma | None:
        """These levels, or None where the denoiser is blind."""
        return None if self.use == "unused" else levels


def stack_like(denoised: object, noisy: Images) -> Images:
    """A copy of a result; raises `BenchboxError` when it is no stack of the shape of `noisy`."""
    if not isinstance(denoised, np.ndarray) or denoised.shape != noisy.shape:
        what = denoised.shape if isinstance(denoised, np.ndarray) else type(denoised).__name__
        raise BenchboxError(f"gave {what} for noisy images of shape {noisy.shape}", hint="return noisy's shape")
    return denoised.copy()


def gaussian(clean: Images, sigma: float | NDArray[np.float32]) -> tuple[Images, Sigma]:
    """Add white Gaussian noise, the same draw for every level, so that levels can be compared."""
    levels = np.broadcast_to(np.float32(sigma), len(clean)).copy()
    draw = np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)
    return clean + levels[:, np.newaxis, np.newaxis] * draw, levels


def psnr(clean: Images, denoised: Images) -> Scores:
    """PSNR of each image in dB after clipping to [0, 1], as a run scores it."""
    error = np.square(denoised.clip(0, 1).astype(np.float64) - clean).mean(axis=(1, 2))
    scores: Scores = -10 * np.log10(np.maximum(error, 1e-12))
    return scores


def pictures(count: int, height: int, width: int) -> Images:
    """Tiles of photographs, mirrored where more pixels are asked for than a tile has, shape (count, height, width)."""
    sample = Sample().load(None)
    tiles = sample.stack(np.linspace(0, len(sample) - 1, count).astype(np.intp))
    rows, columns = (max(0, side - tiles.shape[1]) for side in (height, width))
    larger = np.pad(tiles, ((0, 0), (0, rows), (0, columns)), mode="symmetric")
    return np.ascontiguousarray(larger[:, :height, :width])


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape[0], shape[1], shape[2]
