"""Records of runs that were never made, for tests that write their scores themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from benchbox.api.denoiser import TrainingCard
from benchbox.records.run import (
    Cell,
    DataRecord,
    DenoiserRecord,
    Environment,
    MetricRecord,
    NoiseRecord,
    PluginSpec,
    Provider,
    RunOptions,
    RunRecord,
    digest,
)
from benchbox.store import FORMAT

CARD = TrainingCard("fer2013", "Training", "fedcba9876543210", 1000, "gaussian:0.1", 0, 20.0, "benchbox train unet")
BUILT_IN = Provider("built in", "benchbox.builtin", "benchbox-denoise", "0.1.0")

ENVIRONMENT = Environment("Example CPU", 2, 24.0, "Linux", "3.11.7", {"numpy": "2.4.6"}, 0.1)


def metric(spec: str, unit: str = "", digits: int | None = None, *, higher: bool = True) -> MetricRecord:
    """Record a built-in metric whose title is its name in capitals."""
    return MetricRecord(spec, PluginSpec(BUILT_IN, spec), spec.upper(), unit, digits, higher, True, "")


PSNR, SSIM, MSE = metric("psnr", "dB", 2), metric("ssim", digits=4), metric("mse", higher=False)


def make_record(
    denoisers: Iterable[str],
    noises: Iterable[str] = ("gaussian:0.1",),
    metrics: Iterable[MetricRecord] = (PSNR,),
    images: int = 40,
    **changes: Any,
) -> RunRecord:
    """Record a timed run of every denoiser on every noise; `changes` replace its other fields."""
    denoisers, noises = tuple(denoisers), tuple(noises)
    record = RunRecord(
        format=FORMAT,
        run_id="20260102-030405-000abcd",
        created="2026-01-02T03:04:05Z",
        command="benchbox run",
        options=RunOptions(jobs=1, previews=0),
        data=DataRecord("fer2013", "PublicTest", images, "48x48", "0123456789abcdef"),
        noises=tuple(
            NoiseRecord(noise, (PluginSpec(BUILT_IN, noise),), gaussian=noise.startswith("gaussian:"))
            for noise in noises
        ),
        metrics=tuple(metrics),
        denoisers=tuple(
            DenoiserRecord(
                label, PluginSpec(BUILT_IN, label), "", "required", 1, True, "", is_floor=label == "identity"
            )
            for label in denoisers
        ),
        cells=tuple(Cell(digest([label, noise]), label, noise) for label in denoisers for noise in noises),
        environment=ENVIRONMENT,
    )
    return changed(record, **changes)


def changed(record: RunRecord, **changes: Any) -> RunRecord:
    """Replace fields of a record, or of its options where the record has none of that name."""
    own = {field.name for field in fields(RunRecord)}
    options = {name: value for name, value in changes.items() if name not in own}
    record = replace(record, **{name: value for name, value in changes.items() if name in own})
    return replace(record, options=replace(record.options, **options))
