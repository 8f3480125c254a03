"""Plans a run: turns the user's options into cells and shards, without running anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchbox.api.dataset import ImageSet
from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError
from benchbox.api.metric import AgreementMetric, LabelMetric, Metric, NoReferenceMetric
from benchbox.api.noise import NoiseModel
from benchbox.api.threads import cgroup_memory
from benchbox.audit.pairs import warnings_for_run
from benchbox.builtin.datasets.pair_layouts import noisy_folder
from benchbox.builtin.metrics import heading, require_channels
from benchbox.builtin.sigma import doubts_about
from benchbox.engine.construction import Construction, construct, require_constructed
from benchbox.engine.environment import code_of
from benchbox.engine.golden import golden_file, require_golden
from benchbox.records.options import RECORDED, RunOptions
from benchbox.records.run import Cell, DenoiserRecord, MetricRecord, NoiseRecord, Protocol, digest
from benchbox.records.specs import parse_spec, split_name
from benchbox.records.tuned import TunedOptions, apply_tuned
from benchbox.registry import TRIAL_S, Entry, Registry
from benchbox.system.program import resident_mb

_SHARE = 0.8
"""Share of a container's memory that one denoiser may take."""


@dataclass(frozen=True)
class Limits:
    """Limits on each process that runs a denoiser."""

    timeout_s: float = 600.0  # for one shard, or for the timing of one denoiser
    # Resident memory of the process and its descendants, in GiB; None for no limit. It is polled from outside, because
    # RLIMIT_AS would break TensorFlow, which reserves far more address space than it uses.
    memory_gb: float | None = None
    container: bool = False  # whether the memory limit is that of the container

    @classmethod
    def of(cls, timeout_s: float, memory_gb: float | None) -> Limits:
        """Without a memory limit, that of the container counts, so that the system does not end the whole run."""
        memory = cgroup_memory() if memory_gb is None else None
        return cls(timeout_s, memory_gb) if memory is None else cls(timeout_s, _SHARE * memory / 2**30, True)

    @property
    def memory_reason(self) -> str:
        """Reason text of a row that exceeded the memory limit."""
        whose = f"{100 * _SHARE:.0f} % of the container's memory" if self.container else "--memory"
        return f"its process held more than {self.memory_gb:.3g} GiB ({whose})"

    def too_large(self, pid: int) -> bool:
        """Whether a process and its descendants exceed the memory limit; free without a limit."""
        return self.memory_gb is not None and resident_mb(pid) > self.memory_gb * 1024


P = TypeVar("P", DenoiserRecord, MetricRecord, NoiseRecord)
SHARD_PIXELS = 2**20
_ASKED = "task_agreement"
_JUDGES = (
    "write --judge onnx:path=judge.onnx, or with keras or litert, and with size=64,range=-1..1,classes=7 as needed"
)


@dataclass(frozen=True)
class Shard:
    """A stack of work: images of one size."""

    # range in the order of work
    start: int
    stop: int
    indices: NDArray[np.intp]  # shape (stop - start,); positions in the image set
    size: tuple[int, int]  # height and width of the images
    repeat: int = 0  # repeat number of the noise, from 0


@dataclass(frozen=True)
class Plan:
    """All cells of a run, and the shards of each."""

    denoisers: tuple[DenoiserRecord, ...]
    noises: tuple[NoiseRecord, ...]
    metrics: tuple[MetricRecord, ...]
    cells: tuple[Cell, ...]
    shards: tuple[Shard, ...]
    notes: tuple[str, ...]  # remarks on images that a metric cannot score
    warnings: tuple[str, ...]  # why scores may mislead


def make_plan(options: RunOptions, registry: Registry, images: ImageSet, *, has_clean: bool = True) -> Plan:
    """Plan the cells of a run; raises `BenchboxError` if a name or an option is unknown, or does not fit the images."""
    denoisers = plan_denoisers(options.denoisers, registry, options.timeout_s)
    noises = _once(plan_noises(options.noise, registry, options.timeout_s))
    chosen = options.metrics or _default_metrics(registry, images.channels, has_clean=has_clean)
    asked = _judges(options.judges, registry, options.timeout_s, images.channels)
    planned = _once((*plan_metrics(chosen, registry, options.timeout_s, images.channels), *asked))
    unfit = {metric: reason for metric in planned if (reason := _unfit(registry.metric(metric.spec).cls, images))}
    metrics = tuple(metric for metric in planned if metric not in unfit)
    if not metrics:
        reason = unfit[planned[0]].removeprefix("because ")
        raise BenchboxError(f"--metric {planned[0].label}: {reason}", hint="add another --metric")
    free = _require_fitting(metrics, noises, options, registry, has_clean=has_clean)
    recorded = any(noise.is_recorded for noise in noises)
    warnings = list(warnings_for_run(images)) if recorded and has_clean else []
    if not recorded and options.path and (folder := noisy_folder(options.path, images.ids)):
        warnings.append(
            f"the pictures of '{folder}' are taken for clean ones; if they are noisy, give --noise {RECORDED}, or "
            "--noisy FOLDER --clean FOLDER"
        )
    if recorded and free:
        doubts = list(doubts_about(images))
        warnings += [f"{metric.title}: {doubt}" for metric in free for doubt in doubts]
    smallest = images.shapes.min(axis=1)
    levelled = {noise.spec for noise in noises if _states_level(noise, registry)}
    if options.sigma_errors and not levelled:
        raise BenchboxError(
            f"--sigma-error: {', '.join(noise.label for noise in noises)} has no noise level that could be misstated",
            hint="leave out --sigma-error, or add --noise gaussian:0.1",
        )
    cells = []
    for denoiser in denoisers:
        skipped = ""
        if small := int((smallest < denoiser.min_size).sum()):
            few = f"{small:,} of {len(smallest):,} images are" if small > 1 else f"1 of {len(smallest):,} images is"
            skipped = f"needs images of at least {denoiser.min_size} pixels a side, but {few} smaller"
        if denoiser.channels == "rgb" and images.channels == 1:
            skipped = "needs colour images"
        for noise, parts in ((record.spec, record.parts) for record in noises):
            others = [plugin.provider for plugin in (*parts, *(metric.plugin for metric in metrics))]
            code = code_of(denoiser, others)
            for factor in _factors(options, denoiser) if noise in levelled else (1.0,):
                specs = tuple(metric.identity for metric in metrics)
                key = cell_key(denoiser, noise, images.fingerprint, options.protocol, specs, factor)
                cells.append(Cell(key, denoiser.spec, noise, skipped, factor, code))
    return Plan(
        denoisers,
        noises,
        metrics,
        tuple(cells),
        make_shards(images.shapes, options.protocol.repeats, images.channels),
        (
            *(f"{metric.title}: skipped, {reason}" for metric, reason in unfit.items() if options.metrics),
            *_size_notes(metrics, registry, images.shapes, options.protocol.border),
        ),
        tuple(warnings),
    )


def _require_fitting(
    metrics: Sequence[MetricRecord],
    noises: Sequence[NoiseRecord],
    options: RunOptions,
    registry: Registry,
    *,
    has_clean: bool,
) -> list[MetricRecord]:
    """Metrics without reference; raises `BenchboxError` if one does not fit the noise or another needs clean images."""
    free = [metric for metric in metrics if issubclass(registry.metric(metric.spec).cls, NoReferenceMetric)]
    if not has_clean and len(free) < len(metrics):
        needy = next(metric for metric in metrics if metric not in free)
        raise BenchboxError(
            f"--metric {needy.label} needs clean images, but there are only noisy ones",
            hint="omit --metric, or give the clean images with --noisy FOLDER --clean FOLDER",
        )
    others = [noise.label for noise in noises if not (noise.gaussian or noise.is_recorded)]
    named = f"protocol {options.protocol_name}" if options.protocol_name != "literature" else ""
    changed = next((word for word in ("quantize", "clip") if getattr(options, word)), named)
    if free and (others or changed):
        raise BenchboxError(
            f"--metric {free[0].label} is right for white Gaussian noise only, not for "
            + (others[0] if others else f"noise changed by --{changed}"),
            hint=f"omit {free[0].label}, or use --noise gaussian:0.1 alone" if others else f"omit --{changed}",
        )
    return free


def cell_key(
    denoiser: DenoiserRecord,
    noise: str,
    fingerprint: str,
    protocol: Protocol,
    metrics: tuple[str, ...],
    sigma_factor: float = 1.0,
) -> str:
    """Identity of a cell: a digest of everything its scores depend on."""
    provider, content = denoiser.plugin.provider, denoiser.plugin.content
    depends = {
        "denoiser": denoiser.spec,
        "provider": [provider.kind, provider.target, provider.version],
        "noise": noise,
        "data": fingerprint,
        "protocol": protocol.identity,
        "metrics": sorted(metrics),
        "sigma_factor": sigma_factor,
    }
    return digest(depends | ({"content": content} if content else {}))


def plan_denoisers(texts: Sequence[str], registry: Registry, timeout_s: float = TRIAL_S) -> tuple[DenoiserRecord, ...]:
    """Plan the rows of a run; raises `BenchboxError` for an unknown name or option.

    A constructor that hangs, exits or raises anything but a refusal of its values is the plugin's fault, and so is one
    that fails without options: the worker that repeats it gives the row its status and reason.
    """
    if not texts:
        rows = {name: entry.cls.default_rows for name, entry in sorted(registry.denoisers.items())}
        texts = [row for name, own in rows.items() for row in ((name,) if own is None else own)]
    named = [split_name(text) for text in texts]
    tuned = [apply_tuned(parse_spec(text)) for _, text in named]
    entries = [registry.denoiser(spec) for spec, _ in tuned]
    telling = [entry for entry in entries if entry.values or entry.cls.files is not Denoiser.files]
    constructed: dict[str, Construction] = {}
    for entry, made in zip(telling, construct(telling, timeout_s), strict=True):
        if made.refused and entry.values:
            raise made.refused
        if not (made.refused or made.fault):
            constructed[entry.spec] = made
            golden = golden_file(made.files)
            if golden is not None and golden.is_file():
                require_golden(entry.plugin, golden, timeout_s)
    records = _once(
        # The name of a file of tuned options says nothing about the row, but the options do.
        _plan_denoiser(entry, name or (entry.spec if source else text.strip()), constructed.get(entry.spec), source)
        for (name, text), (_, source), entry in zip(named, tuned, entries, strict=True)
    )
    labels = [record.label for record in records]
    for record in records:
        if labels.count(record.label) > 1:
            raise BenchboxError(f"two rows are called '{record.label}'", hint="give one of them another name")
    return records


def plan_noises(texts: Sequence[str], registry: Registry, timeout_s: float = TRIAL_S) -> tuple[NoiseRecord, ...]:
    """Plan noises; raises `BenchboxError` if a part of one is unknown or has a wrong value."""
    if RECORDED in texts:
        return (NoiseRecord(RECORDED, ()),)
    noises = [registry.noise(text) for text in texts]
    require_constructed((part for parts in noises for part in parts), timeout_s)
    return tuple(
        NoiseRecord(
            text.strip(),
            tuple(part.plugin for part in parts),
            " and ".join(dict.fromkeys(part.cls.level_title for part in parts)),
            white=all(part.cls.white for part in parts),
            gaussian=all(part.cls.gaussian for part in parts),
        )
        for text, parts in zip(texts, noises, strict=True)
    )


def _default_metrics(registry: Registry, channels: int, *, has_clean: bool) -> tuple[str, ...]:
    """Names of the metrics that a run computes if none are named: they compare with clean images, if there are any."""
    return tuple(
        name
        for name, entry in registry.metrics.items()
        if entry.cls.by_default
        and issubclass(entry.cls, NoReferenceMetric) != has_clean
        and not (entry.cls.channels == "rgb" and channels == 1)
    )


def plan_metrics(
    texts: Sequence[str], registry: Registry, timeout_s: float = TRIAL_S, channels: int = 1
) -> tuple[MetricRecord, ...]:
    """Plan metrics; raises `BenchboxError` if one is unknown, has a wrong value or cannot score these channels."""
    entries = [registry.metric(text) for text in texts]
    for entry in entries:
        require_channels(entry.cls, channels)
    constructed = require_constructed(entries, timeout_s)
    return tuple(
        MetricRecord(
            entry.label,
            replace(entry.plugin, content=made.content),
            entry.label.replace(entry.name, heading(entry.cls, channels), 1),
            entry.cls.unit,
            entry.cls.digits,
            entry.cls.higher_is_better,
            entry.cls.shown,
            entry.cls.summary,
            entry.cls.proportion,
            entry.cls.class_names if issubclass(entry.cls, AgreementMetric) else (),
        )
        for entry, made in zip(entries, constructed, strict=True)
    )


def _states_level(noise: NoiseRecord, registry: Registry) -> bool:
    """Whether a noise defines its level, so that `--sigma-error` has something to misstate."""
    return not noise.is_recorded and all(
        part.cls.sigma_of is not NoiseModel.sigma_of for part in registry.noise(noise.spec)
    )


def make_shards(shapes: NDArray[np.int64], repeats: int = 1, channels: int = 1) -> tuple[Shard, ...]:
    """Split images, by their shapes (N, 2), into stacks of one size and at most `SHARD_PIXELS` values.

    A stack has at least one image, and one of the `repeats` noises drawn for each.
    """
    shards = []
    start = 0
    sizes, groups = np.unique(shapes, axis=0, return_inverse=True)
    groups = groups.reshape(-1)
    for repeat in range(repeats):
        for group, (height, width) in enumerate(sizes):
            indices = np.flatnonzero(groups == group)
            count = max(1, SHARD_PIXELS // int(height * width * channels))
            for first in range(0, len(indices), count):
                part = indices[first : first + count]
                shards.append(Shard(start, start + len(part), part, (int(height), int(width)), repeat))
                start += len(part)
    return tuple(shards)


def _factors(options: RunOptions, denoiser: DenoiserRecord) -> tuple[float, ...]:
    """Factors on the noise level; other than 1 only if the level is given to a denoiser that uses it."""
    if denoiser.sigma_use == "unused" or options.protocol.sigma != "given":
        return (1.0,)
    return (1.0, *(factor for factor in dict.fromkeys(options.sigma_errors) if factor != 1))


def _plan_denoiser(
    entry: Entry[Denoiser], label: str, made: Construction | None, tuned: TunedOptions | None
) -> DenoiserRecord:
    made = made or Construction(capabilities=entry.cls.capabilities, starts_programs=entry.cls.starts_programs)
    capabilities = made.capabilities
    return DenoiserRecord(
        label=label,
        plugin=replace(entry.plugin, content=made.content),
        summary=entry.cls.summary,
        sigma_use=capabilities.sigma,
        min_size=capabilities.min_size,
        deterministic=capabilities.deterministic,
        tuned_on=tuned.label if tuned else capabilities.tuned_on,
        options=entry.options,
        notice=entry.cls.notice,
        is_floor=entry.cls.is_floor,
        channels=capabilities.channels,
        starts_programs=made.starts_programs,
    )


def _judges(judges: Sequence[str], registry: Registry, timeout_s: float, channels: int) -> list[MetricRecord]:
    """Metrics that ask judges such as ``onnx:path=judge.onnx,size=64``, headed by their files if these names differ."""
    planned: list[MetricRecord] = []
    for judge in judges:
        kind, _, options = judge.strip().partition(":")
        if not options:
            raise BenchboxError(f"--judge {judge}: it names no file", hint=_JUDGES)
        try:
            planned += plan_metrics([f"{_ASKED}:format={kind},{options}"], registry, timeout_s, channels)
        except BenchboxError as error:
            reason = error.message.removeprefix(f"{_ASKED}: ").replace("format=", "")
            raise BenchboxError(f"--judge {judge}: {reason}", hint=_JUDGES) from error
    planned = list(_once(planned))
    names = [Path(registry.metric(metric.spec).options["path"]).stem for metric in planned]
    if len(set(names)) < len(names):
        return planned
    titles = [f"{metric.title.partition(':')[0]} by {name}" for metric, name in zip(planned, names, strict=True)]
    return [replace(metric, title=title) for metric, title in zip(planned, titles, strict=True)]


def _unfit(metric: type[Metric], images: ImageSet) -> str:
    """Why a metric cannot score any of the images; empty if it can."""
    if issubclass(metric, LabelMetric) and metric.label not in images.labels:
        return f"because these images of '{images.dataset}' have no label '{metric.label}'"
    if metric.image_size and not (images.shapes == metric.image_size).all(axis=1).any():
        height, width = metric.image_size
        return f"because it takes images of {height} x {width} pixels only"
    return ""


def _size_notes(
    metrics: Sequence[MetricRecord], registry: Registry, whole: NDArray[np.int64], border: int
) -> Iterator[str]:
    for metric in metrics:
        shapes = whole if issubclass(registry.metric(metric.spec).cls, LabelMetric) else whole - 2 * border
        least, size = registry.metric(metric.spec).cls.min_size, registry.metric(metric.spec).cls.image_size
        if size and (others := int((shapes != size).any(axis=1).sum())):
            sides = f"{size[0]} x {size[1]} pixels"
            yield f"{metric.title}: no score for images that are not {sides} ({others:,} of {len(shapes):,})"
        small = int((shapes.min(axis=1) < least).sum())
        if small:
            yield (
                f"{metric.title}: no score for images smaller than {least} pixels a side ({small:,} of {len(shapes):,})"
            )


def _once(planned: Iterable[P]) -> tuple[P, ...]:
    """Each record once, as first typed: two spellings may mean the same thing."""
    unique: dict[str, P] = {}
    for record in planned:
        unique.setdefault(record.spec, record)
    return tuple(unique.values())
