"""Plans a run: from the user's options to cells and shards, without running anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchbox.api.dataset import ImageSet
from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError
from benchbox.api.noise import NoiseModel
from benchbox.engine.content import content_digest
from benchbox.records.options import RunOptions
from benchbox.records.run import Cell, DenoiserRecord, MetricRecord, NoiseRecord, Protocol, digest
from benchbox.records.specs import parse_spec
from benchbox.records.tuned import apply_tuned
from benchbox.registry import Registry
from benchbox.system.program import resident_mb


@dataclass(frozen=True)
class Limits:
    """Limits on each process that runs a denoiser."""

    timeout_s: float = 600.0  # seconds that one shard, or the timing of one denoiser, may take
    # resident memory in GiB that the process and all that it started may hold; None for no limit. It is watched
    # from outside: a limit on the address space would refuse TensorFlow, which reserves far more than it uses
    memory_gb: float | None = None

    @property
    def memory_reason(self) -> str:
        """The reason of a row that held too much."""
        return f"its process held more than {self.memory_gb:g} GiB (--memory)"

    def too_large(self, pid: int) -> bool:
        """Whether a process and all that it started hold too much; nothing is looked at without a limit."""
        return self.memory_gb is not None and resident_mb(pid) > self.memory_gb * 1024


P = TypeVar("P", DenoiserRecord, MetricRecord, NoiseRecord)
SHARD_PIXELS = 2**20


@dataclass(frozen=True)
class Shard:
    """A stack of work: images of one size."""

    # range in the order of work
    start: int
    stop: int
    indices: NDArray[np.intp]  # shape (stop - start,); positions in the image set
    size: tuple[int, int]  # height and width of the images
    repeat: int = 0  # number of the noise drawn, from 0


@dataclass(frozen=True)
class Plan:
    """Everything that is to be done."""

    denoisers: tuple[DenoiserRecord, ...]
    noises: tuple[NoiseRecord, ...]
    metrics: tuple[MetricRecord, ...]
    cells: tuple[Cell, ...]
    shards: tuple[Shard, ...]


def make_plan(options: RunOptions, registry: Registry, images: ImageSet) -> Plan:
    """Make the cells of a run."""
    denoisers = plan_denoisers(options.denoisers, registry)
    noises = _once(plan_noise(text, registry) for text in options.noise)
    metrics = _once(_plan_metric(text, registry) for text in options.metrics)
    smallest = images.shapes.min(axis=0)
    levelled = {noise.spec for noise in noises if _states_level(noise, registry)}
    if options.sigma_errors and not levelled:
        raise BenchboxError(
            f"no noise level to tell wrong: {', '.join(noise.label for noise in noises)} states none",
            hint="leave out --sigma-error, or add --noise gaussian:0.1",
        )
    cells = []
    for denoiser in denoisers:
        skipped = ""
        if int(smallest.min()) < denoiser.min_size:
            skipped = (
                f"takes images of {denoiser.min_size} pixels a side and more, one here is {smallest[0]}x{smallest[1]}"
            )
        for noise in (one.spec for one in noises):
            for factor in _factors(options, denoiser) if noise in levelled else (1.0,):
                specs = tuple(one.spec for one in metrics)
                key = cell_key(denoiser, noise, images.fingerprint, options.protocol, specs, factor)
                cells.append(Cell(key, denoiser.spec, noise, skipped, factor))
    return Plan(denoisers, noises, metrics, tuple(cells), make_shards(images.shapes, options.protocol.repeats))


def cell_key(
    denoiser: DenoiserRecord,
    noise: str,
    fingerprint: str,
    protocol: Protocol,
    metrics: tuple[str, ...],
    sigma_factor: float = 1.0,
) -> str:
    """Identity of a cell: a digest of all that its scores depend on."""
    provider, content = denoiser.plugin.provider, denoiser.plugin.content
    depends = {
        "denoiser": denoiser.spec,
        "provider": [provider.kind, provider.target, provider.version],
        "noise": noise,
        "data": fingerprint,
        "protocol": [protocol.seed, protocol.clip, protocol.quantize, protocol.sigma, protocol.repeats],
        "metrics": sorted(metrics),
        "sigma_factor": sigma_factor,
    }
    return digest(depends | ({"content": content} if content else {}))


def plan_denoisers(texts: Sequence[str], registry: Registry) -> tuple[DenoiserRecord, ...]:
    """Make the rows of a run; raises `BenchboxError` for an unknown name or option."""
    if not texts:
        rows = {name: entry.cls.default_rows for name, entry in sorted(registry.denoisers.items())}
        texts = [row for name, own in rows.items() for row in ((name,) if own is None else own)]
    return _once(_plan_denoiser(text, registry) for text in texts)


def plan_noise(text: str, registry: Registry) -> NoiseRecord:
    """A noise, and what to build it from; raises `BenchboxError` when a part is unknown."""
    parts = registry.noise(text)
    for part in parts:
        part.make()  # a wrong value is found now
    titles = dict.fromkeys(part.cls.level_title for part in parts)
    return NoiseRecord(text.strip(), tuple(part.plugin for part in parts), " and ".join(titles))


def _states_level(noise: NoiseRecord, registry: Registry) -> bool:
    """Whether a noise tells its level; where it does not, there is none to be told wrong."""
    return all(part.cls.sigma_of is not NoiseModel.sigma_of for part in registry.noise(noise.spec))


def make_shards(shapes: NDArray[np.int64], repeats: int = 1) -> tuple[Shard, ...]:
    """Cut images into stacks of one size and at most `SHARD_PIXELS` pixels (one image at the least)."""
    shards = []
    start = 0
    sizes, groups = np.unique(shapes, axis=0, return_inverse=True)
    groups = groups.reshape(-1)
    for repeat in range(repeats):
        for group, (height, width) in enumerate(sizes):
            indices = np.flatnonzero(groups == group)
            count = max(1, SHARD_PIXELS // int(height * width))
            for first in range(0, len(indices), count):
                part = indices[first : first + count]
                shards.append(Shard(start, start + len(part), part, (int(height), int(width)), repeat))
                start += len(part)
    return tuple(shards)


def _factors(options: RunOptions, denoiser: DenoiserRecord) -> tuple[float, ...]:
    """What the level is multiplied by: only where it is given, and to one that uses it, can it be wrong."""
    if denoiser.sigma_use == "unused" or options.protocol.sigma != "given":
        return (1.0,)
    return (1.0, *(factor for factor in dict.fromkeys(options.sigma_errors) if factor != 1))


def _plan_denoiser(text: str, registry: Registry) -> DenoiserRecord:
    spec, tuned = apply_tuned(parse_spec(text))
    entry = registry.denoiser(spec)
    content = ""
    # A wrong value is found now; a constructor that fails without any is the plugin's fault and gets a row.
    if entry.values or entry.cls.files is not Denoiser.files:
        try:
            content = content_digest(entry.make())
        except Exception:
            if entry.values:
                raise
    capabilities = entry.cls.capabilities
    return DenoiserRecord(
        # The name of a file of tuned options says nothing of the row; its options do.
        label=entry.spec if tuned else text.strip(),
        plugin=replace(entry.plugin, content=content),
        summary=entry.cls.summary,
        sigma_use=capabilities.sigma,
        min_size=capabilities.min_size,
        deterministic=capabilities.deterministic,
        tuned_on=tuned.label if tuned else capabilities.tuned_on,
        options=entry.options,
        notice=entry.cls.notice,
        is_floor=entry.cls.is_floor,
    )


def _plan_metric(text: str, registry: Registry) -> MetricRecord:
    entry = registry.metric(text)
    entry.make()  # a wrong value is found now
    cls = entry.cls
    title = entry.label.replace(entry.name, cls.title or entry.name, 1)
    return MetricRecord(
        entry.label, entry.plugin, title, cls.unit, cls.digits, cls.higher_is_better, cls.shown, cls.summary
    )


def _once(planned: Iterable[P]) -> tuple[P, ...]:
    """Each thing once, as it was typed first: two spellings of a thing mean the same one."""
    found: dict[str, P] = {}
    for one in planned:
        found.setdefault(one.spec, one)
    return tuple(found.values())
