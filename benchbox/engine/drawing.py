"""The images that every denoiser receives: read, with noise that is drawn from its seeds or was drawn ahead.

A draw costs as much as a fast filter, so the noise of a run is drawn ahead of scoring, once for all denoisers, into
files that their workers read. They are made by processes that have loaded no denoiser, so none can change the noise of
another. Without a file, as on another machine, a worker draws the same noise itself.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images, Sigma
from benchbox.api.dataset import Dataset, ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.api.noise import NoiseModel
from benchbox.builtin.noise import Composed, add_noise, apply_protocol, cut_noise
from benchbox.builtin.sigma import estimate_sigma
from benchbox.records.run import Knowledge, NoiseRecord, PluginSpec, Protocol, RunOptions
from benchbox.registry import load_plugin
from benchbox.system.files import is_in_memory

MOST_VALUES = 2**29
"""Pixel values, of all files together, up to which noise is drawn ahead: 2 GiB."""
MOST_IN_MEMORY = 2**25
"""The same where files take memory: 128 MiB."""


@dataclass(frozen=True)
class Condition:
    """Images, noise and protocol, the same for every denoiser of a run; names, options and seeds only."""

    options: RunOptions
    dataset: PluginSpec  # the data set's class
    fingerprint: str  # of the images
    noise: NoiseRecord
    sigma_factor: float = 1.0  # factor on the given noise level
    has_clean: bool = True  # whether there are clean images
    rules: Protocol | None = None  # in place of those of the options
    ahead: str = ""  # folder of noise that was drawn ahead; empty if none is

    @property
    def protocol(self) -> Protocol:
        """The rules for every denoiser."""
        return self.rules or self.options.protocol


@dataclass(frozen=True)
class SentImages:
    """Images of a shard, on a machine that does not see the data."""

    ids: tuple[str, ...]
    clean: Images
    noisy: Images | None  # None unless the noise was recorded with the images
    labels: dict[str, NDArray[np.generic]] = field(default_factory=dict)  # each of shape (M,)


class Drawn(NamedTuple):
    """Images that every denoiser receives; each level is a float32 array of shape (N,), or None where there is none."""

    clean: Images
    noisy: Images
    sigma: Sigma | None  # true noise level
    estimate: Sigma | None = None  # estimated level, if that was done ahead


class ImagesLost(BenchboxError):
    """The images of a run can no longer be read. The run stops, because no denoiser is to blame."""


def draw(condition: Condition, indices: NDArray[np.intp], repeat: int = 0, sent: SentImages | None = None) -> Drawn:
    """Images of a shard, clean and noisy, with the noise that was drawn ahead if it was."""
    try:
        images = sent or read_images(condition, indices)
    except BenchboxError as error:
        raise ImagesLost(error.message, hint=error.hint) from error
    except OSError as error:
        raise ImagesLost(f"cannot read the images: {error}", hint="restore them") from error
    clean = images.clean
    if condition.noise.is_recorded:
        return Drawn(clean, clean.copy() if images.noisy is None else images.noisy, None)
    if condition.ahead and (ahead := Ahead(condition.ahead, condition.noise.spec, indices, repeat).read()):
        return Drawn(clean, *ahead)
    protocol = condition.protocol
    ids = ("",) * len(images.ids) if protocol.one_draw else images.ids
    noisy, sigma = add_noise(make_noise(condition.noise.parts), condition.noise.spec, clean, ids, protocol.seed, repeat)
    if protocol.whole_noise:
        noisy = cut_noise(clean, noisy)
    return Drawn(clean, apply_protocol(noisy, clip=protocol.clip, quantize=protocol.quantize), sigma)


def read_images(condition: Condition, indices: NDArray[np.intp]) -> SentImages:
    """Read images of one size, with their ids; and their noisy ones if these were recorded."""
    images = image_set(condition)
    recorded = condition.noise.is_recorded and condition.has_clean
    noisy = images.noisy_stack(indices) if recorded else None
    ids = tuple(images.ids[index] for index in indices)
    return SentImages(ids, images.stack(indices), noisy, labels_of(condition, indices))


def image_set(condition: Condition) -> ImageSet:
    """The images of a condition, opened once per process."""
    return _open(condition.options, condition.dataset, condition.fingerprint)


def labels_of(condition: Condition, indices: NDArray[np.intp]) -> dict[str, NDArray[np.generic]]:
    """Labels of the images at `indices`, by name."""
    return {name: values[indices] for name, values in image_set(condition).labels.items()}


@functools.cache
def make_noise(parts: tuple[PluginSpec, ...]) -> NoiseModel:
    """Load and construct a noise model; several parts become a `Composed` one."""
    models: tuple[NoiseModel, ...] = tuple(load_plugin(part, "benchbox_noise_models").make() for part in parts)
    return models[0] if len(models) == 1 else Composed(models)


@functools.lru_cache(maxsize=1)
def _open(options: RunOptions, dataset: PluginSpec, fingerprint: str) -> ImageSet:
    from benchbox.engine.data import open_data  # here, because a timing process never needs it

    opener: Dataset = load_plugin(dataset, "benchbox_datasets").make()
    images = open_data(options, {dataset.name: opener})
    if images.fingerprint != fingerprint:
        raise BenchboxError(
            f"the images of {options.path or dataset.spec} have changed since this run began",
            hint="restore them, or start a new run",
        )
    return images


def known_sigma(
    use: str,
    protocol: Protocol,
    noisy: Images,
    sigma_true: Sigma | None,
    estimable: bool,
    estimate: Sigma | None = None,
) -> tuple[Sigma | None, Knowledge]:
    """Noise level that a denoiser receives, and how it is known; `use` is the `sigma` of its capabilities.

    A denoiser that requires the level gets the common estimate if none is defined or given; its row says so. Others get
    an estimate only if the noise is `estimable`. `estimate` is that of these images, if it is known.
    """
    knowledge = _knowledge(use, protocol, sigma_true, estimable=estimable)
    if knowledge == "blind":
        return None, knowledge
    if knowledge == "given" and sigma_true is not None:
        return sigma_true.copy(), knowledge
    return estimate_sigma(noisy) if estimate is None else estimate, knowledge


def _knowledge(use: str, protocol: Protocol, sigma_true: Sigma | None, *, estimable: bool) -> Knowledge:
    """How a denoiser knows the noise level."""
    if use == "unused":
        return "blind"
    if protocol.sigma == "given" and sigma_true is not None:
        return "given"
    return "estimated" if use == "required" or (protocol.sigma == "estimated" and estimable) else "blind"


@dataclass(frozen=True)
class DrawTask:
    """Noise to draw ahead, for denoisers with these uses of the noise level (`Capabilities.sigma`)."""

    condition: Condition
    indices: NDArray[np.intp]  # shape (M,); positions in the image set; images of one size
    repeat: int
    uses: tuple[str, ...]


def draw_ahead(task: DrawTask) -> bool:
    """Draw noise into the folder of its condition, with the estimated level if one of the denoisers is given that."""
    condition = task.condition
    _, noisy, sigma, _ = draw(condition, task.indices, task.repeat)
    estimable = condition.noise.is_estimable
    known = {_knowledge(use, condition.protocol, sigma, estimable=estimable) for use in task.uses}
    estimate = estimate_sigma(noisy) if "estimated" in known else None
    Ahead(condition.ahead, condition.noise.spec, task.indices, task.repeat).write(Noisy(noisy, sigma, estimate))
    return True


def room_for_noise(folder: str) -> int:
    """How many pixel values may be drawn ahead into a folder: at most a quarter of what is free there."""
    quarter = shutil.disk_usage(folder).free // (4 * 4)  # 4 bytes a value
    return min(quarter, MOST_IN_MEMORY if is_in_memory(Path(folder)) else MOST_VALUES)


class Noisy(NamedTuple):
    """Noisy images of a shard; each level is a float32 array of shape (N,), or None where there is none."""

    images: Images
    sigma: Sigma | None  # true noise level
    estimate: Sigma | None  # level as `estimate_sigma` finds it


class Ahead:
    """The file of one draw in a folder: one repeat of a noise on the images at some positions."""

    def __init__(self, folder: str, noise: str, indices: NDArray[np.intp], repeat: int) -> None:
        key = hashlib.blake2b(f"{repeat}:{noise}:".encode() + indices.tobytes(), digest_size=16).hexdigest()
        self._file = Path(folder, key)

    def write(self, noisy: Noisy) -> None:
        """Write the file in one step."""
        part = self._file.with_suffix(".part")
        with part.open("wb") as file:
            for array in noisy:
                np.save(file, np.empty(0, np.float32) if array is None else array, allow_pickle=False)
        part.rename(self._file)

    def read(self) -> Noisy | None:
        """What was written; None if there is no such file, or it cannot be read."""
        with contextlib.suppress(OSError, ValueError, EOFError), self._file.open("rb") as file:
            images, *levels = (np.load(file, allow_pickle=False) for _ in Noisy._fields)
            return Noisy(images, *(level if len(level) else None for level in levels))
        return None
