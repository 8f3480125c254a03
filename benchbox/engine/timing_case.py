"""The pytest module that runs in each timing process: decides how many calls to time; pytest-benchmark times them.

Whatever it imports is there before a denoiser's cold start; that is only what the harness needs.
"""

from __future__ import annotations

import json
import math
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest
import pytest_benchmark.plugin  # noqa: F401  (by name, for every timing process)

from benchbox.api.arrays import Images, Sigma
from benchbox.api.denoiser import Denoiser
from benchbox.builtin.channels import as_taken, shape_taken
from benchbox.engine.construction import require_same_content
from benchbox.engine.shard import check_denoised, details_of, failure_of, new_denoiser
from benchbox.engine.timing import TimingTask, largest_batch
from benchbox.records.run import Timing
from benchbox.stats.summaries import latency_of

Size = Literal["one", "some", "batch"]
SIZES: tuple[Size, ...] = ("one", "some", "batch")
"""One image per call, the batch for throughput, and before it some images, which show how a denoiser scales."""
CHUNKS = (1, 2, 3, 6, 12, 12, 14, 20, 30, 40, 60, 80, 120, 160, 220, 220)
"""Calls between two looks at the samples, 1000 in all."""

_SHARE = {"one": 0.6, "some": 0.7, "batch": 1.0}  # of the budget, after which no call of this size begins
_NARROW = 0.02  # `Latency.within` of one image that is precise enough
_BEARABLE = 0.05  # the same for batches, and for one image after `_WHILE_S`
_SAMPLES = 100  # as many as p99 needs
_SETTLED_S = 0.05  # shorter samples may lie in one good moment of the machine
_WORTH_S = 0.2  # after which p50 alone suffices, without the samples for p99
_WHILE_S = 0.5
_LEAST = 3  # samples of a batch, whose many images even out what disturbs them, and of very long calls
_FEWEST = 6  # samples for which p50 has an interval
_WORTH_BATCH_S = 0.1  # after which these suffice, however precise they are
_BATCH_S = 0.3  # longest call of several images
_WARM_UPS = 3
_WARM_UP_S = 0.1, 0.005  # longest warm-up before the first calls of a size, and before further ones
_MIB = 2**20


@dataclass(frozen=True)
class Sampling:
    """The state of one timing: what was asked for and what is known so far."""

    pixels: int  # of one image
    most: int  # images per call when measuring throughput, at most
    budget_s: float
    first_s: float  # the first call, with one image
    samples_ms: Mapping[int, Sequence[float]]  # by batch size; grows while the denoiser is timed

    def images(self, size: Size) -> int:
        """Images per call of a size."""
        return 1 if size == "one" else self.batch if size == "batch" else self.some

    @cached_property
    def some(self) -> int:
        """Images per call between one and a batch: the square root of `largest_batch`, fewer if they take too long."""
        return self._halved(round(largest_batch(self.pixels, self.most) ** 0.5))

    @cached_property
    def batch(self) -> int:
        """Images per call when measuring throughput: `largest_batch`, halved until a call does not take too long."""
        return self._halved(largest_batch(self.pixels, self.most))

    def _halved(self, images: int) -> int:
        while images > 1 and self.expected_s(images) > _BATCH_S:
            images //= 2
        return images

    def expected_s(self, images: int) -> float:
        """Seconds that a call will take, from the calls so far; an image more costs what it did in the largest one."""
        known = {size: statistics.median(samples) / 1e3 for size, samples in self.samples_ms.items() if samples}
        if images in known:
            return known[images]
        if len(known) < 2:
            return images * known.get(1, self.first_s)
        largest = max(known)
        return known[largest] + (images - largest) * max(0.0, (known[largest] - known[1]) / (largest - 1))

    def rounds(self, size: Size, chunk: int, spent_s: float) -> int:
        """Calls to time next; 0 if enough is known or the time is up, `spent_s` seconds after the first call."""
        images = self.images(size)
        if images == 1 and size != "one":
            return 0
        samples = self.samples_ms.get(images, ())
        if not samples:
            return CHUNKS[0]
        if self._is_enough(size, samples):
            return 0
        left_s = _SHARE[size] * self.budget_s - spent_s
        return max(0, min(CHUNKS[chunk], int(left_s / self.expected_s(images))))

    def warm_ups(self, size: Size, chunk: int) -> int:
        """Calls before them that are not timed; none if they are slow, because the first call was one."""
        return min(_WARM_UPS, int(_WARM_UP_S[chunk > 0] / max(1e-9, self.expected_s(self.images(size)))))

    def _is_enough(self, size: Size, samples: Sequence[float]) -> bool:
        within, sampled_s = latency_of(samples).within, sum(samples) / 1e3
        if size == "one":
            settled = len(samples) >= _SAMPLES and sampled_s > _SETTLED_S
            precise = within <= _NARROW and (settled or sampled_s > _WORTH_S)
            # Calls so long that the time is up before p50 has an interval: more of them would tell nothing new.
            endless = _FEWEST * sampled_s / len(samples) > _SHARE[size] * self.budget_s
            return precise or (within <= _BEARABLE and sampled_s > _WHILE_S) or (endless and len(samples) >= _LEAST)
        return len(samples) >= _LEAST and (within <= _BEARABLE or sampled_s > _WORTH_BATCH_S)


class _Subject:
    """The timed denoiser with its images and the parts of its cold start."""

    def __init__(self, task: TimingTask) -> None:
        self.task = task
        self.samples_ms: dict[int, list[float]] = {}
        first, level = self.stack(1)
        expected = first.shape
        self.bare_mb, self.bare_threads = _peak_mb(), _threads()
        start = time.perf_counter()
        self.denoiser: Denoiser = new_denoiser(task.denoiser.plugin)
        made = time.perf_counter()
        self.denoiser.setup(first.shape)
        ready = time.perf_counter()
        denoised = self.denoiser.denoise(first, level)
        done = time.perf_counter()
        check_denoised(denoised, expected)
        require_same_content(task.denoiser.plugin, self.denoiser)
        self.cold = made - start, ready - made, done - ready
        self.ready = done
        self.sampling = Sampling(
            math.prod(task.noisy.shape[1:3]), task.batch, task.budget_s, done - ready, self.samples_ms
        )

    def stack(self, batch: int) -> tuple[Images, Sigma | None]:
        """A private copy of the first images, and of the noise level, as the denoiser takes them."""
        level = None if self.task.sigma is None else self.task.sigma[:batch].copy()
        return as_taken(self.task.denoiser.channels, self.task.noisy[:batch].copy(), level)

    def timing(self) -> Timing:
        """Everything that was measured."""
        height, width = self.task.noisy.shape[1:3]
        import_s, setup_s, first_s = self.cold
        return Timing(
            status="ok",
            shape=(height, width),
            noise=self.task.noise,
            threads=self.task.threads,
            batch=max(self.samples_ms),
            import_s=import_s,
            setup_s=setup_s,
            first_s=first_s,
            peak_mb=max(0.0, _peak_mb() - self.bare_mb),
            threads_used=max(1, _threads() - self.bare_threads + 1),
            samples_ms=self.samples_ms,
            details=details_of(self.denoiser),
        )


@pytest.fixture(scope="module")
def subject(pytestconfig: pytest.Config) -> Any:
    """Set up the denoiser; write why, if that fails."""
    (task,) = (plugin for plugin in pytestconfig.pluginmanager.get_plugins() if isinstance(plugin, TimingTask))
    try:
        return _Subject(task)
    except BaseException as error:
        _write(task, asdict(failure_of(error)))
        raise


@pytest.mark.parametrize("chunk", range(len(CHUNKS)))
@pytest.mark.parametrize("size", SIZES)
def test_time(subject: _Subject, size: Size, chunk: int, benchmark: Any) -> None:
    """Sample some more calls of one batch size, without the copying of the input, unless enough is known."""
    sampling = subject.sampling
    batch, rounds = sampling.images(size), sampling.rounds(size, chunk, time.perf_counter() - subject.ready)
    if not rounds:
        pytest.skip("enough is known, or the time is up")
    try:
        denoised = benchmark.pedantic(
            subject.denoiser.denoise,
            setup=lambda: (subject.stack(batch), {}),
            rounds=rounds,
            warmup_rounds=sampling.warm_ups(size, chunk),
            iterations=1,
        )
        check_denoised(denoised, shape_taken(subject.task.denoiser.channels, subject.task.noisy[:batch].shape))
    except BaseException as error:
        _write(subject.task, asdict(failure_of(error)))
        pytest.exit("the denoiser failed")
    subject.samples_ms.setdefault(batch, []).extend(1e3 * seconds for seconds in benchmark.stats.stats.data)
    _write(subject.task, asdict(subject.timing()))


def _peak_mb() -> float:
    """Peak resident memory of this process, MiB.

    Not from `getrusage`, because that figure includes the peak of the process it was forked from.
    """
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="ascii", errors="replace").splitlines() if status.exists() else []:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / _MIB
    return psutil.Process().memory_info().rss / _MIB


def _threads() -> int:
    return max(psutil.Process().num_threads(), threading.active_count())


def _write(task: TimingTask, values: dict[str, Any]) -> None:
    file = Path(task.result)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(values), encoding="utf-8")
    part.replace(file)
