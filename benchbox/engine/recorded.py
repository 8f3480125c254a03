"""What a run was made with, found again: its plugins and its images as they are today."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.api.records import Provider, Reference, RunRecord
from benchbox.api.spec import parse_spec
from benchbox.engine.data import open_data
from benchbox.engine.events import Event
from benchbox.engine.limits import Limits
from benchbox.engine.trust import require_known_files, require_known_programs
from benchbox.registry import Entry, Registry, load_registry


def recorded_registry(
    record: RunRecord, limits: Limits, on_event: Callable[[Event], None], named: Sequence[Path] = ()
) -> Registry:
    """Load the plugins that a run was made with, as they are today.

    Parameters
    ----------
    record : RunRecord
    limits : Limits
    on_event : callable
    named : sequence of Path
        Plugin files that the user trusts; those of runs that were made here need not be named again.

    Returns
    -------
    Registry

    Raises
    ------
    BenchboxError
        A plugin file is missing or broken, or it or a program is one that the user never asked for.
    """
    providers = [
        *(one.reference.provider for one in record.denoisers),
        *(part.provider for parts in record.noises.values() for part in parts),
        *(one.provider for one in record.metrics.values()),
    ]
    files = sorted({one.target for one in providers if one.kind == "file"})
    require_known_files(files, named, record.run_id)
    registry = load_registry([Path(file) for file in files], timeout_s=limits.timeout_s, on_event=on_event)
    require_known_programs(registry, record)
    return registry


def recorded_images(record: RunRecord, registry: Registry) -> ImageSet:
    """Open the images of a run again.

    Raises
    ------
    BenchboxError
        They are missing, or not what they were.
    """
    images = open_data(record.request, {name: entry.cls() for name, entry in registry.datasets.items()})
    if images.fingerprint != record.data.fingerprint:
        raise BenchboxError(
            f"the images of {record.request.path or record.request.dataset} are not the ones that run "
            f"{record.run_id} began with",
            hint="restore them, or start a new run",
        )
    return images


def providers_now(record: RunRecord, registry: Registry) -> dict[Reference, Provider | None]:
    """Where each denoiser, noise and metric of a run is from today, by what was recorded; None where it is missing."""
    recorded: dict[Reference, Mapping[str, Entry[Any]]] = {
        **{denoiser.reference: registry.denoisers for denoiser in record.denoisers},
        **{part: registry.noise_models for parts in record.noises.values() for part in parts},
        **{Reference(one.provider, one.spec): registry.metrics for one in record.metrics.values()},
    }
    entries = {reference: shelf.get(parse_spec(reference.spec).name) for reference, shelf in recorded.items()}
    return {reference: entry.provider if entry else None for reference, entry in entries.items()}


def words_of_change(record: RunRecord, before: Reference, now: Provider | None) -> str:
    """How a plugin differs from the one that a run was made with."""
    return (
        f"'{parse_spec(before.spec).name}' was {before.provider.label} {before.provider.version} when run "
        f"{record.run_id} began, now it is {f'{now.label} {now.version}' if now else 'missing'}"
    )
