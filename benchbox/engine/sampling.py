"""Decides how many calls of which batch size are timed next, so that a timing is precise and its time bounded."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from benchbox.engine.plan import SHARD_PIXELS
from benchbox.stats.summaries import latency_of

Size = Literal["one", "batch", "some"]
SIZES: tuple[Size, ...] = ("one", "batch", "some")
"""One image per call, the batch for throughput, and the geometric mean of both, which shows how a denoiser scales."""
CHUNKS = (1, 2, 3, 6, 12, 24, 52, 100, 200, 300, 300)
"""Calls between two looks at the samples, 1000 in all."""
ALONE_PIXELS = 256 * 256
"""Larger images are timed one by one only: a batch of them measures the memory, not the denoiser."""

_SHARE = {"one": 0.6, "batch": 0.9, "some": 1.0}  # of the budget, after which no call of this size begins
_NARROW = 0.02  # `Latency.within` of one image that is precise enough
_BEARABLE = 0.05  # the same for batches, and for one image after `_WHILE_S`
_SAMPLES = 100  # as many as p99 needs
_SETTLED_S = 0.05  # shorter samples may lie in one good moment of the machine
_WORTH_S = 0.5  # after which p50 alone suffices, without the samples for p99
_WHILE_S = 1.0
_LEAST = 3  # samples of a batch, whose many images even out what disturbs them
_WORTH_BATCH_S = 0.1  # after which these suffice, however precise they are
_BATCH_S = 1.0  # longest call of a batch
_WARM_UPS = 3
_WARM_UP_S = 0.1, 0.005  # longest warm-up before the first calls of a size, and before further ones


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
        return 1 if size == "one" else self.batch if size == "batch" else round(self.batch**0.5)

    @cached_property
    def batch(self) -> int:
        """Images per call when measuring throughput: halved until a call fits the memory of a shard and a second."""
        batch = 1 if self.pixels > ALONE_PIXELS else self.most
        while batch > 1 and (batch * self.pixels > SHARD_PIXELS or batch * self.expected_s(1) > _BATCH_S):
            batch //= 2
        return batch

    def expected_s(self, images: int) -> float:
        """Seconds that a call will take, from the calls so far."""
        if known := self.samples_ms.get(images):
            return statistics.median(known) / 1e3
        return images * (self.expected_s(1) if self.samples_ms.get(1) else self.first_s)

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
            return precise or (within <= _BEARABLE and sampled_s > _WHILE_S)
        return len(samples) >= _LEAST and (within <= _BEARABLE or sampled_s > _WORTH_BATCH_S)
