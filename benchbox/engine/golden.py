"""Golden vectors: a noisy image and its result, beside a model file, so that a load that denoises otherwise is noticed.

A changed library, another order of channels or a wrong range seldom fails; it only makes results worse.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchbox.api.arrays import Images
from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError
from benchbox.builtin.channels import as_stack, as_taken
from benchbox.engine.shard import check_denoised, failure_of
from benchbox.records.run import Failure, PluginSpec
from benchbox.registry import load_plugin
from benchbox.system.files import read_bounded
from benchbox.system.program import Child, ChildDied, ChildHangs, parent_connection

SUFFIX = ".golden.npy"
TOLERANCE = 1e-3
"""Largest accepted difference of a pixel: libraries and processors differ by some 1e-6, wrong options by far more."""
_SIDE = 32
_SHAPE = (2, 1, _SIDE, _SIDE, 3)
"""Noisy and denoised, both stacks of one colour image."""
_SIGMA = 0.1
_MOST_BYTES = 1 << 20


def golden_file(files: Sequence[Path]) -> Path | None:
    """Where the golden vector of a denoiser with these files is, whether it exists or not; None without files."""
    return Path(f"{files[0]}{SUFFIX}") if files else None


def freeze(plugin: PluginSpec, file: Path, timeout_s: float) -> None:
    """Write the golden vector of a denoiser; raises `BenchboxError` if it fails or the file cannot be written."""
    noisy = _example()
    content = io.BytesIO()
    np.save(content, np.stack([noisy, _denoise_apart(plugin, noisy, timeout_s)]))
    try:
        file.write_bytes(content.getvalue())
    except OSError as error:
        raise BenchboxError(f"cannot write {file}: {error.strerror}", hint="make the folder writable") from error


def require_golden(plugin: PluginSpec, file: Path, timeout_s: float) -> None:
    """Raise `BenchboxError` if a denoiser no longer returns its golden vector."""
    try:
        content = io.BytesIO(read_bounded(file, _MOST_BYTES))
        stored: Images = np.asarray(np.lib.format.read_array(content, allow_pickle=False))
        if stored.shape != _SHAPE or stored.dtype != np.float32 or not np.isfinite(stored).all():
            raise ValueError(f"it holds {stored.dtype} of shape {stored.shape}, or values that are not finite")
    except (OSError, ValueError, MemoryError) as error:
        raise BenchboxError(
            f"{file} is no golden vector: {error}", hint=f"delete it, or write it anew: {_command(plugin)}"
        ) from error
    noisy, expected = stored
    difference = float(np.abs(_denoise_apart(plugin, noisy, timeout_s) - expected).max())
    if not difference <= TOLERANCE:
        raise BenchboxError(
            f"'{plugin.spec}' no longer returns the result in {file.name}: a pixel differs by "
            f"{difference:.2g} (at most {TOLERANCE:g} is accepted)",
            hint="look for a changed option, library or file; if the new result is right, delete the file or write it "
            f"anew: {_command(plugin)}",
        )


def _command(plugin: PluginSpec) -> str:
    return f"benchbox plugins check '{plugin.spec}' --freeze"


def _example() -> Images:
    """A noisy image of shape (1, 32, 32, 3) with a slope, an edge and colours."""
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.float32) / _SIDE
    clean = np.stack([x, 0.2 + 0.6 * (y > 0.5), 0.9 - 0.5 * x * y], axis=2)
    noise = np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)
    noisy: Images = (clean + np.float32(_SIGMA) * noise)[np.newaxis].astype(np.float32)
    return noisy


def _denoise_apart(plugin: PluginSpec, noisy: Images, timeout_s: float) -> Images:
    """Denoise in a process of its own, which a plugin may end or keep busy."""
    with Child("benchbox.engine.golden") as child:
        child.send((plugin, noisy))
        try:
            answer: Images | Failure = child.receive(timeout_s)
        except (ChildDied, ChildHangs) as error:
            raise BenchboxError(f"'{plugin.spec}' while it denoised its golden vector: {error}") from error
    if isinstance(answer, Failure):
        raise BenchboxError(f"'{plugin.spec}' cannot denoise its golden vector: {answer.reason}")
    return answer


def main() -> None:
    """Denoise the colour image that the parent sends; a grey denoiser gets its channels as grey images."""
    pipe = parent_connection()
    plugin, noisy = pipe.recv()
    pipe.send(_denoised(plugin, noisy))


def _denoised(plugin: PluginSpec, noisy: Images) -> Any:
    try:
        denoiser: Denoiser = load_plugin(plugin, "benchbox_denoisers").make()
        taken, level = as_taken(denoiser.capabilities.channels, noisy, np.full(len(noisy), _SIGMA, np.float32))
        expected = taken.shape
        denoiser.setup(expected)
        told = None if denoiser.capabilities.sigma == "unused" else level
        return as_stack(check_denoised(denoiser.denoise(taken.copy(), told), expected), noisy.shape)
    except Exception as error:
        return failure_of(error)
