"""`array`: a stack of images of one size in a ``.npy`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.api.dataset import Dataset, ImageSet, fingerprint_of
from benchbox.api.errors import BenchboxError
from benchbox.builtin.channels import luminance
from benchbox.builtin.datasets.opening import require_exists
from benchbox.records.options import Color

_RULE = "give an array of shape (N, H, W) or (N, H, W, 3): uint8, uint16, or floating-point values from 0 to 1"


class ArrayFile(Dataset):
    """A NumPy array of shape (N, H, W), or (N, H, W, 3) for RGB, saved by `numpy.save`; N may be left out.

    Levels of unsigned integers are divided by the largest one of their type (255, 65535); floating-point values
    are taken as they are. An image's id is its position. The file is mapped, not read into memory.
    """

    name = "array"
    summary = "a .npy file with images of one size: uint8, uint16, or floats from 0 to 1"
    named_by_path = True

    def __init__(self, color: Color = "auto") -> None:
        self._color = color

    def colored(self, color: Color) -> ArrayFile:
        """See `Dataset.colored`."""
        return ArrayFile(color)

    def recognises(self, path: Path) -> bool:
        """Whether `path` is a ``.npy`` file."""
        return path.suffix == ".npy" and path.is_file()

    def load(self, path: Path | None, *, split: str = "", skip_bad: bool = False) -> ImageSet:
        """Open an array; it has no splits."""
        if path is None:
            raise BenchboxError("array needs a file", hint="give one with --data FILE.npy")
        if split:
            raise BenchboxError(f"array has no split '{split}'", hint="omit --split")
        require_exists(path)
        stack = check_stack(_mapped(path), str(path))
        if self._color == "rgb" and stack.ndim == 3:
            raise BenchboxError(f"--color rgb: {path} is grey, shape {stack.shape}", hint="omit --color rgb")
        rgb = stack.ndim == 4 and self._color != "grey"
        ids = tuple(f"{place:0{len(str(len(stack) - 1))}}" for place in range(len(stack)))
        digests = [xxhash.xxh3_64_hexdigest(image.tobytes()) for image in stack]
        return ImageSet(
            dataset=self.name,
            split="",
            ids=ids,
            shapes=np.tile(np.array(stack.shape[1:3], dtype=np.int64), (len(stack), 1)),
            fingerprint=fingerprint_of(ids, [stack.dtype.str, *(["RGB"] if rgb else []), *digests]),
            read=_Reader(stack, rgb),
            channels=3 if rgb else 1,
            notes=() if rgb or stack.ndim == 3 else ("colour: all images, converted to luminance (ITU-R BT.601)",),
        )


class _Reader:
    """Reads images of a mapped array as float32 in [0, 1]."""

    def __init__(self, stack: NDArray[Any], rgb: bool) -> None:
        self._stack = stack
        self._rgb = rgb

    def __call__(self, indices: NDArray[np.intp]) -> Images:
        """Return the images at these positions."""
        images = np.asarray(self._stack[indices], dtype=np.float32)
        if self._stack.dtype.kind == "u":
            images = images / np.float32(np.iinfo(self._stack.dtype).max)
        return luminance(images) if images.ndim == 4 and not self._rgb else images


def check_stack(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array of images with shape (N, H, W), or raise `BenchboxError` that says what is wrong with it."""
    one = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    stack = array[np.newaxis] if one else array
    if not stack.size or not (stack.ndim == 3 or (stack.ndim == 4 and stack.shape[3] == 3)):
        raise BenchboxError(f"{name}: an array of shape {array.shape} is not a stack of images", hint=_RULE)
    if stack.dtype not in (np.uint8, np.uint16) and stack.dtype.kind != "f":
        raise BenchboxError(f"{name}: values of type {stack.dtype} have no scale", hint=_RULE)
    if stack.dtype.kind == "f":
        low, high = float(stack.min()), float(stack.max())
        if not (low >= 0 and high <= 1):  # also for NaN
            raise BenchboxError(f"{name}: values from {low:.4g} to {high:.4g} are not in [0, 1]", hint=_RULE)
    return stack


def _mapped(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BenchboxError(f"{path}: {error}", hint="save it again with numpy.save") from error
    return np.asarray(array)
