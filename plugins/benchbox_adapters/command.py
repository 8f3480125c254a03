"""`command`: any program as a denoiser that reads a noisy image from a file and writes the result."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from benchbox import BenchboxError, Capabilities, Image, ImageDenoiser, describe_exit

_KNOWN = ("{in}", "{out}", "{sigma}")
# A whole word or a value, as in --weights={file}; braces elsewhere may be a part of a script.
_PLACEHOLDER = re.compile(r"(^|=)\{\w+\}$")
_EXAMPLE = 'command:run="./mydenoise {in} {out} {sigma}"'


class Command(ImageDenoiser):
    """Runs a program once for each image, without a shell; its time includes starting it.

    Parameters
    ----------
    run : str
        The program with its arguments. ``{in}`` and ``{out}`` are replaced by the files to read and to write,
        ``{sigma}`` by the noise standard deviation on the [0, 1] scale.
    format : {'npy', 'png'}
        ``npy``: float32, shape (H, W), C order, on the [0, 1] scale, possibly beyond it; the result may have any float
        type, or unsigned integers up to their largest value. ``png``: 8-bit grey; images are clipped to [0, 1] and
        rounded. The result may have further axes of length 1, or three equal channels last.
    timeout : float
        Maximum time for one image, in seconds.
    """

    name = "command"
    summary = "any program that reads and writes a .npy or .png file"
    capabilities = Capabilities(sigma="optional")
    starts_programs = True
    default_rows: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, run: str = "", format: Literal["npy", "png"] = "npy", timeout: float = 60.0) -> None:
        try:
            self.words = shlex.split(run)
        except ValueError as error:
            raise ValueError(f"run={run}: {error}") from error
        if run and not ("{in}" in run and "{out}" in run):
            raise ValueError(f"run={run} lacks {{in}} or {{out}}; write for example {_EXAMPLE}")
        unknown = [word for word in self.words if _PLACEHOLDER.search(word) and not word.endswith(_KNOWN)]
        if unknown:
            raise ValueError(f"run={run}: {unknown[0]} is unknown; placeholders are {{in}}, {{out}} and {{sigma}}")
        if not timeout > 0:
            raise ValueError(f"timeout must be greater than 0, got {timeout}")
        if "{sigma}" not in run:
            self.capabilities = Capabilities(sigma="unused")
        self.format = format
        self.timeout = timeout

    def files(self) -> list[Path]:
        """The program, and those of its arguments that are files, such as a script or weights."""
        program = shutil.which(self.words[0]) if self.words else None
        # A file may follow the name of an option, as in --weights=net.bin.
        words = [part for word in self.words[1:] for part in (word, word.partition("=")[2])]
        return [file for word in (program, *words) if word and (file := Path(word)).is_file()]

    def setup(self, shape: tuple[int, ...]) -> None:
        """Check that there is a program; it is started for each image."""
        if not self.words:
            raise BenchboxError("command needs a program to run", hint=f"give one, for example {_EXAMPLE}")

    def denoise_image(self, noisy: Image, sigma: float | None) -> Image:
        """Denoise one image with the program.

        Raises `BenchboxError` if the program cannot be started, fails, takes too long or does not write an image of the
        same size, or if it needs a noise level that is not given.
        """
        with tempfile.TemporaryDirectory(prefix="benchbox-") as folder:
            source, target = (Path(folder) / f"{name}.{self.format}" for name in ("noisy", "denoised"))
            self._write(source, noisy)
            self._run(self._filled(source, target, sigma))
            denoised = self._read(target)
        if denoised.shape != noisy.shape:
            raise BenchboxError(
                f"{self.words[0]} wrote an image of shape {denoised.shape} for an input of shape {noisy.shape}",
                hint="make it write one grey image of the same size",
            )
        return denoised

    def _filled(self, source: Path, target: Path, sigma: float | None) -> list[str]:
        values = {"{in}": str(source), "{out}": str(target)}
        if sigma is not None:
            values["{sigma}"] = repr(float(np.float32(sigma)))
        words = []
        for word in self.words:
            for placeholder, value in values.items():
                word = word.replace(placeholder, value)
            words.append(word)
        if any("{sigma}" in word for word in words):
            raise BenchboxError(f"{self.words[0]} needs {{sigma}}, the noise level", hint="give or estimate it")
        return words

    def _run(self, words: list[str]) -> None:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                # In its own session, so that everything it starts can be killed with it.
                start_new_session=True,
            )
        except OSError as error:
            raise BenchboxError(
                f"cannot start {words[0]}: {error.strerror or error}",
                hint="give the path of an executable program; no shell is used",
            ) from error
        try:
            _, stderr = process.communicate(timeout=self.timeout)
        except subprocess.TimeoutExpired as error:
            raise BenchboxError(
                f"{words[0]} took longer than {self.timeout:g} s for one image", hint="raise the limit with timeout="
            ) from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        if process.returncode:
            lines = stderr.decode("utf-8", "replace").strip().splitlines()
            last = f": {lines[-1]}" if lines else ""
            raise BenchboxError(
                f"{words[0]} {describe_exit(process.returncode)}{last}", hint="run it by hand to see what is wrong"
            )

    def _write(self, file: Path, image: Image) -> None:
        if self.format == "npy":
            np.save(file, image)
            return
        import cv2

        cv2.imwrite(str(file), np.rint(image.clip(0, 1) * 255).astype(np.uint8))

    def _read(self, file: Path) -> Image:
        if not file.is_file():
            raise BenchboxError(
                f"{self.words[0]} did not write {{out}}", hint=f"make it write a .{self.format} file there"
            )
        try:
            if self.format == "npy":
                return _grey(np.load(file, allow_pickle=False))
            import cv2

            image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            if image is None:
                raise ValueError("not an image")
            return _grey(image)
        except (ValueError, OSError) as error:
            raise BenchboxError(
                f"{self.words[0]} wrote an invalid .{self.format} file: {error}",
                hint="make it write that format, or change the option format",
            ) from error


def _grey(array: NDArray[Any]) -> Image:
    """A result as float32 on the [0, 1] scale, without axes of length 1 and with one of three equal channels.

    Raises `ValueError` for a type without a scale, such as signed integers.
    """
    if array.ndim > 2:
        array = array[tuple(0 if length == 1 else slice(None) for length in array.shape)]
    if array.ndim == 3 and array.shape[-1] == 3 and (array == array[..., :1]).all():
        array = array[..., 0]
    if array.dtype.kind == "u":
        return np.ascontiguousarray(array, dtype=np.float32) / np.float32(np.iinfo(array.dtype).max)
    if array.dtype.kind != "f":
        raise ValueError(f"its type is {array.dtype}, but unsigned integers or floats have a scale")
    return np.ascontiguousarray(array, dtype=np.float32)
