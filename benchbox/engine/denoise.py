"""Denoises a user's own pictures at full size, each call in a guarded process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images, Sigma
from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError
from benchbox.builtin.channels import as_stack, as_taken
from benchbox.builtin.datasets.headers import DAMAGED, UnreadableImage, read_header, with_plain_alpha, without_profile
from benchbox.builtin.datasets.image_files import is_image_name
from benchbox.builtin.datasets.images import list_images
from benchbox.engine.construction import require_constructed
from benchbox.engine.plan import Limits
from benchbox.registry import Entry, load_plugin
from benchbox.system.program import Child, ChildDied, ChildHangs, parent_connection, timeout_reason

ESTIMATED = "estimated"
_POLL_S = 0.2
_BEST = {
    ".jpg": ("IMWRITE_JPEG_QUALITY", 100),
    ".jpeg": ("IMWRITE_JPEG_QUALITY", 100),
    ".webp": ("IMWRITE_WEBP_QUALITY", 101),
}
"""Options of OpenCV for the least loss; 101 means lossless WebP."""


@dataclass(frozen=True)
class Task:
    """A picture to denoise."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Done:
    """What came of a picture."""

    task: Task
    sigma: float | None = None  # noise level that the denoiser got, the mean over channels if it got each by itself
    channels: str = ""  # ``per channel`` if the denoiser got each channel of a colour picture by itself
    reason: str = ""  # why there is no result; empty if there is one


def plan_files(paths: Sequence[Path], folder: Path, *, overwrite: bool) -> list[Task]:
    """Find the pictures in files and folders, and where their results go: under the same name in `folder`.

    Raises `BenchboxError` if there is no picture, two have the same name, or a result exists and `overwrite` is false.
    """
    tasks: dict[Path, Task] = {}
    for path in paths:
        if not path.exists():
            raise BenchboxError(f"{path}: no such file or folder", hint="give pictures, or folders that hold them")
        names = sorted(name for name, *_ in list_images(path)) if path.is_dir() else [path.name]
        root = path if path.is_dir() else path.parent
        for name in filter(is_image_name, names):
            task = Task(root / name, folder / name)
            if task.target in tasks:
                raise BenchboxError(
                    f"{tasks[task.target].source} and {task.source} would have the same result {task.target}",
                    hint="denoise them into different folders",
                )
            if task.target.resolve() == task.source.resolve():
                raise BenchboxError(f"{task.source} would be overwritten", hint="choose another folder with --output")
            tasks[task.target] = task
    if not tasks:
        raise BenchboxError(
            f"no picture in {', '.join(map(str, paths))}", hint="give PNG, JPEG, TIFF, BMP, WebP or PNM"
        )
    existing = [target for target in tasks if target.exists()]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more results)" if len(existing) > 1 else ""
        raise BenchboxError(f"{existing[0]} exists{more}", hint="choose another folder, or add --overwrite")
    return list(tasks.values())


def parse_sigma(text: str) -> float | str | None:
    """Read a noise level on the [0, 1] scale, such as 25/255; ``estimated``; or ``none``."""
    if text in (ESTIMATED, "none"):
        return ESTIMATED if text == ESTIMATED else None
    top, slash, bottom = text.partition("/")
    try:
        level = float(top) / float(bottom) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        level = np.nan
    if not 0 < level < 1:
        raise BenchboxError(
            f"--sigma {text}: not a noise level between 0 and 1", hint="write 25/255, 0.1, estimated or none"
        )
    return level


def denoise_files(
    entry: Entry[Denoiser], tasks: Sequence[Task], sigma: float | str | None, limits: Limits
) -> Iterator[Done]:
    """Denoise pictures one after another and write the results; one that fails does not stop the others.

    A denoiser that takes colour gets all channels of a colour picture, another one each channel by itself. An alpha
    channel and the depth of 8 or 16 bits are kept.
    """
    (made,) = require_constructed([entry], limits.timeout_s)
    use, takes, least = made.capabilities.sigma, made.capabilities.channels, made.capabilities.min_size
    if use == "required" and sigma is None:
        raise BenchboxError(f"{entry.label} needs the noise level", hint="give or estimate it with --sigma")
    child: Child | None = None
    try:
        for task in tasks:
            try:
                pixels = _read(task.source)
                white = np.iinfo(pixels.dtype).max
                if min(pixels.shape[:2]) < least:
                    raise BenchboxError(f"smaller than {least} pixels, which {entry.label} needs")
                levels_of = np.atleast_3d(pixels).astype(np.float32) / np.float32(white)
                painted = levels_of[:, :, : 1 if levels_of.shape[2] == 2 else 3]  # without alpha
                if painted.shape[2] == 1 and takes == "rgb":
                    raise BenchboxError(f"grey, but {entry.label} takes colour only")
                child = child or _start(entry)
                # OpenCV's order is blue, green, red.
                child.send(
                    (
                        painted[:, :, 0] if painted.shape[2] == 1 else painted[:, :, ::-1],
                        None if use == "unused" else sigma,
                    )
                )
                answer = _answer(child, limits)
                if isinstance(answer, str):
                    raise BenchboxError(answer)
                denoised, level = answer
                in_order = np.atleast_3d(denoised)[:, :, ::-1]
                result = np.concatenate([in_order, levels_of[:, :, in_order.shape[2] :]], axis=2)
                _write(task.target, np.rint(result.clip(0, 1) * white).astype(pixels.dtype).reshape(pixels.shape))
                yield Done(task, level, "per channel" if takes == "grey" and in_order.shape[2] > 1 else "")
            except BenchboxError as error:
                yield Done(task, reason=error.message)
            except (ChildDied, ChildHangs) as error:
                hangs = isinstance(error, ChildHangs)
                yield Done(task, reason=timeout_reason("it", limits.timeout_s) if hangs else str(error))
                if child is not None:
                    child.end()
                child = None  # the next picture gets a new process
    finally:
        if child is not None:
            child.end()


def _start(entry: Entry[Denoiser]) -> Child:
    child = Child("benchbox.engine.denoise")
    child.send(entry.plugin)
    return child


def _answer(child: Child, limits: Limits) -> Any:
    """Wait for an answer in short steps, so that the memory is watched meanwhile."""
    waited = 0.0
    while True:
        try:
            return child.receive(_POLL_S)
        except ChildHangs:
            waited += _POLL_S
            if limits.too_large(child.pid):
                raise ChildDied(limits.memory_reason) from None
            if waited >= limits.timeout_s:
                raise


def _read(file: Path) -> NDArray[Any]:
    """Pixels as stored, uint8 or uint16, shape (H, W) or (H, W, channels), upright; channels in OpenCV's order."""
    import cv2

    stored = file.read_bytes()
    try:
        read_header(stored)
        data = np.frombuffer(with_plain_alpha(without_profile(stored)), dtype=np.uint8)
    except UnreadableImage as problem:
        raise BenchboxError(f"{problem}; {problem.remedy}") from problem
    except DAMAGED as error:
        raise BenchboxError("cannot be decoded") from error
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels is not None and (pixels.ndim == 2 or pixels.shape[2] == 3):
        # Unlike the first call, this one turns a photograph as its EXIF orientation says.
        pixels = cv2.imdecode(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if pixels is None:
        raise BenchboxError("cannot be decoded")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise BenchboxError(f"has pixels of type {pixels.dtype}, not 8 or 16 bits")
    return np.asarray(pixels)


def _write(file: Path, pixels: NDArray[Any]) -> None:
    """Write a picture whole, or not at all."""
    import cv2

    flag, value = _BEST.get(file.suffix.lower(), ("", 0))
    encoded, data = cv2.imencode(file.suffix, pixels, [getattr(cv2, flag), value] if flag else [])
    if not encoded:
        raise BenchboxError(f"{file.suffix} cannot hold it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as temporary:
            temporary.write(data.tobytes())
        Path(temporary.name).chmod(0o666 & ~_umask())
        Path(temporary.name).replace(file)
    except OSError as error:
        raise BenchboxError(f"cannot write {file}: {error.strerror}", hint="choose another folder") from error


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def main() -> None:
    """Denoise the pictures that the parent sends, each of shape (H, W) or (H, W, 3), with one denoiser."""
    from benchbox.builtin.sigma import estimate_sigma

    pipe = parent_connection()
    denoiser: Denoiser = load_plugin(pipe.recv(), "benchbox_denoisers").make()
    ready = False
    while True:
        try:
            picture, sigma = pipe.recv()
        except EOFError:
            return
        try:
            noisy = picture[np.newaxis]
            taken, _ = as_taken(denoiser.capabilities.channels, noisy, None)
            levels = None
            if sigma is not None:
                levels = estimate_sigma(taken) if sigma == ESTIMATED else np.full(len(taken), sigma, np.float32)
            one_by_one = [taken[at : at + 1] for at in range(len(taken))]  # the channels would take the memory of three
            if not ready:
                denoiser.setup(one_by_one[0].shape)
                ready = True
            denoised = [
                _denoise(denoiser, stack, None if levels is None else levels[at : at + 1])
                for at, stack in enumerate(one_by_one)
            ]
            level = None if levels is None else float(levels.mean())
            pipe.send((as_stack(np.concatenate(denoised), noisy.shape)[0], level))
        except Exception as error:
            lines = str(error).strip().splitlines()
            pipe.send(f"{type(error).__name__}" + (f": {lines[0]}" if lines else ""))


def _denoise(denoiser: Denoiser, noisy: Images, level: Sigma | None) -> Images:
    denoised = np.asarray(denoiser.denoise(noisy.copy(), None if level is None else level.copy()))
    if denoised.shape != noisy.shape or not np.isfinite(denoised).all():
        raise ValueError(f"the denoiser returned shape {denoised.shape} or values that are not finite")
    return denoised.astype(np.float32, copy=False)
