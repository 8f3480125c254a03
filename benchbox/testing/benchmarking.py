"""The pytest fixtures: noisy images, and pytest-benchmark for a denoiser, with its PSNR beside its speed."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from benchbox.api.arrays import Images, Sigma
from benchbox.api.denoiser import Denoiser
from benchbox.api.threads import threads
from benchbox.builtin.datasets.sample import Sample
from benchbox.builtin.noise import add_noise
from benchbox.engine.drawing import known_sigma, make_noise
from benchbox.engine.environment import environment
from benchbox.engine.plan import plan_noises
from benchbox.engine.shard import check_denoised
from benchbox.records.run import Protocol
from benchbox.registry import load_registry
from benchbox.testing.subject import NOISE, find_subject, psnr

_ROUNDS = 20, 1000
_WARM_UPS = 3
_BUDGET_S = 0.5


class Faces(NamedTuple):
    """Images, clean and noisy.

    Attributes
    ----------
    clean, noisy : ndarray of float32, shape (N, 48, 48)
    sigma : ndarray of float32, shape (N,), or None
        True noise level of each image on the [0, 1] scale; None if the noise has no level.
    """

    clean: Images
    noisy: Images
    sigma: Sigma | None


class NoisyFaces:
    """Adds noise to the images of the built-in sample, exactly as a run with seed 0 does."""

    def __call__(self, noise: str = NOISE, count: int = 16) -> Faces:
        """Make clean and noisy images.

        Parameters
        ----------
        noise : str
            Specification of the noise, such as ``'poisson:30'``.
        count : int
            Number of images; if the sample has fewer, its images repeat with new noise.

        Returns
        -------
        Faces

        Raises
        ------
        BenchboxError
            The noise is unknown.
        """
        (drawn,) = plan_noises([noise], load_registry())
        sample = Sample().load(None)
        positions = np.arange(count)
        clean = sample.stack(positions % len(sample))
        names = [
            sample.ids[position % len(sample)] + (f"#{position // len(sample)}" if position >= len(sample) else "")
            for position in positions
        ]
        return Faces(clean, *add_noise(make_noise(drawn.parts), drawn.spec, clean, names, 0, 0))


class BenchmarkDenoiser:
    """Times a denoiser with the fixture of pytest-benchmark, so all of its options work.

    Parameters
    ----------
    benchmark : pytest_benchmark.fixture.BenchmarkFixture
    faces : NoisyFaces
    """

    def __init__(self, benchmark: Any, faces: NoisyFaces) -> None:
        self._benchmark = benchmark
        self._faces = faces

    def __call__(self, denoiser: str | type[Denoiser], batch: int = 1, noise: str = NOISE) -> Images:
        """Time calls of `denoise`, without `setup` and without copying the input.

        Benchmarks are grouped by noise and batch size. ``extra_info`` contains ``denoiser``, ``noise``, ``batch``,
        ``psnr_db`` (mean over the images), ``images_per_s`` (from the median time) and ``environment`` (including the
        number of threads allowed).

        Parameters
        ----------
        denoiser : str or type
            ``'median:size=5'``, or a class derived from `benchbox.Denoiser`.
        batch : int
            Images per call.
        noise : str
            Specification of the noise.

        Returns
        -------
        ndarray of float32, shape (batch, 48, 48)
            The denoised images, clipped to [0, 1].

        Raises
        ------
        BenchboxError
            The denoiser or the noise is unknown, or the result breaks the contract.
        """
        subject = find_subject(denoiser)
        clean, noisy, true = self._faces(noise, batch)
        made = subject.make()
        made.setup((batch, *noisy.shape[1:]))
        sigma, _ = known_sigma(made.capabilities.sigma, Protocol(), noisy, true, estimable=True)

        def stack() -> tuple[Images, Sigma | None]:
            return noisy.copy(), None if sigma is None else sigma.copy()

        start = time.perf_counter()
        denoised = check_denoised(made.denoise(*stack()), noisy.shape)
        call_s = time.perf_counter() - start
        low, high = _ROUNDS
        rounds = int(min(high, max(low, _BUDGET_S / max(call_s, 1e-9))))
        self._benchmark.group = f"{noise}, batch {batch}"
        self._benchmark.extra_info |= {
            "denoiser": subject.label,
            "noise": noise,
            "batch": batch,
            "psnr_db": round(float(psnr(clean, denoised).mean()), 3),
        }
        self._benchmark.pedantic(
            made.denoise, setup=lambda: (stack(), {}), rounds=rounds, warmup_rounds=_WARM_UPS, iterations=1
        )
        if self._benchmark.stats:  # None when benchmarks are disabled
            median_s = self._benchmark.stats.stats.median
            machine = asdict(environment()) | {"threads": threads()}
            self._benchmark.extra_info |= {"images_per_s": round(batch / median_s, 1), "environment": machine}
        return denoised
