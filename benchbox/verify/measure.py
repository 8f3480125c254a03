"""Runs what published numbers need on the user's images, and sets the results beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchbox.api.errors import BenchboxError
from benchbox.engine.data import open_data
from benchbox.engine.events import Event
from benchbox.engine.run import execute
from benchbox.records.options import RunOptions
from benchbox.registry import Registry
from benchbox.stats.summaries import counted
from benchbox.verify.claims import OURS, Claim, Recognised, StandardSet, recognise


@dataclass(frozen=True)
class Measured:
    """A published number beside the measured one."""

    claim: Claim
    title: str  # name of the image; empty for the mean
    measured: float
    confirmed: bool  # whether the images are known by their content

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        # A published number has two digits: half a unit of the last is its print.
        return abs(self.measured - self.claim.value) <= self.claim.tolerance + 1e-9


def find_sets(folders: Sequence[Path], sets: Sequence[StandardSet], registry: Registry) -> Iterator[Recognised]:
    """Recognise the sets in folders; raises `BenchboxError` for a folder that holds none of them."""
    datasets = {name: entry.cls() for name, entry in registry.datasets.items()}
    for folder in folders:
        images = open_data(RunOptions(data=str(folder), keep_duplicates=True), datasets)
        found = recognise(folder, images, sets)
        if found is None:
            sizes = sorted({f"{height}x{width}" for height, width in images.shapes})
            raise BenchboxError(
                f"{folder}: {len(images)} images with {images.channels} channels ({', '.join(sizes[:4])}) are no "
                "standard set",
                hint="'benchbox verify' without a folder says which sets it knows, and how",
            )
        yield found


def chosen_claims(
    claims: Sequence[Claim], found: Recognised, denoiser: str, known_as: str, levels: Sequence[int]
) -> list[Claim]:
    """Claims about a set and a denoiser, at the given levels or at all."""
    names = (known_as,) if known_as else OURS.get(denoiser.partition(":")[0], (denoiser,))
    return [
        claim
        for claim in claims
        if claim.dataset == found.known.name and claim.denoiser in names and (not levels or claim.level in levels)
    ]


def measure(
    claims: Sequence[Claim], found: Recognised, options: RunOptions, on_event: Callable[[Event], None]
) -> list[Measured]:
    """Run one denoiser as the claims need, one run a protocol, and compare; the runs are not kept.

    Raises `BenchboxError` if a cell has no scores.
    """
    measured = []
    for protocol in dict.fromkeys(claim.protocol for claim in claims):
        wanted = [claim for claim in claims if claim.protocol == protocol]
        levels = sorted({claim.level for claim in wanted})
        with tempfile.TemporaryDirectory(prefix="benchbox-verify-") as folder:
            run = replace(
                options,
                data=str(found.folder),
                noise=tuple(f"gaussian:{level}/255" for level in levels),
                metrics=tuple(dict.fromkeys(claim.metric for claim in wanted)),
                protocol_name=protocol,
                keep_duplicates=True,
                timing=False,
                previews=0,
                results=folder,
            )
            store = execute(run, on_event)
            outcomes = store.outcomes()
            order = np.argsort(found.order)
            for level, noise in zip(levels, store.record.noises, strict=True):
                (cell,) = (cell for cell in store.record.cells if cell.noise == noise.spec)
                outcome = outcomes.get(cell.key)
                if outcome is None or outcome.status != "ok":
                    raise BenchboxError(
                        f"{options.denoisers[0]} on {found.known.name} at {level}: "
                        + (outcome.reason if outcome else cell.skipped),
                        hint="check the denoiser: benchbox plugins check",
                    )
                scores = store.scores(cell.key)
                for claim in (claim for claim in wanted if claim.level == level):
                    unit = "dB" if claim.metric == "psnr" else ""
                    values = counted(scores[claim.metric], unit)[order]
                    value = values.mean() if claim.image is None else values[claim.image]
                    title = "" if claim.image is None else found.known.titles[claim.image]
                    measured.append(Measured(claim, title, float(value), found.confirmed))
    return measured
