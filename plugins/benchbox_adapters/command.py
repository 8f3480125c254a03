"""`command`: any program as a denoiser; it reads a noisy image from a file and writes the result."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from benchbox import BenchboxError, Capabilities, Image, ImageDenoiser, describe_exit

_EXAMPLE = 'command:run="./mydenoise {in} {out} {sigma}"'


class Command(ImageDenoiser):
    """Runs a program once for each image, without a shell; starting it is part of its time.

    Parameters
    ----------
    run : str
        The program with its arguments. ``{in}`` and ``{out}`` become the files to read and to write, ``{sigma}`` the
        noise standard deviation on the [0, 1] scale.
    format : {'npy', 'png'}
        ``.npy``: float32, shape (H, W), C order, on the [0, 1] scale, possibly beyond it; what is written may be of any
        float type. ``.png``: 8-bit grey, for which images are clipped to [0, 1] and rounded.
    timeout : float
        Seconds that one image may take.
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
            raise ValueError(f"run={run} names no {{in}} or no {{out}}, as in {_EXAMPLE}")
        if not timeout > 0:
            raise ValueError(f"timeout must be greater than 0, got {timeout}")
        self.format = format
        self.timeout = timeout

    def files(self) -> list[Path]:
        """The program, and its arguments that are files, such as a script or weights."""
        program = shutil.which(self.words[0]) if self.words else None
        return [file for word in (program, *self.words[1:]) if word and (file := Path(word)).is_file()]

    def setup(self, shape: tuple[int, int, int]) -> None:
        """Make sure that there is a program; it is started anew for each image."""
        if not self.words:
            raise BenchboxError("command needs a program to run", hint=f"for example {_EXAMPLE}")

    def denoise_image(self, noisy: Image, sigma: float | None) -> Image:
        """Have the program denoise one image.

        Raises
        ------
        BenchboxError
            The program cannot be started, fails, takes too long, or writes no image of the same size; or it asks for a
            noise level that is not told.
        """
        with tempfile.TemporaryDirectory(prefix="benchbox-") as folder:
            source, target = (Path(folder) / f"{name}.{self.format}" for name in ("noisy", "denoised"))
            self._write(source, noisy)
            self._run(self._filled(source, target, sigma))
            denoised = self._read(target)
        if denoised.shape != noisy.shape:
            raise BenchboxError(
                f"{self.words[0]} wrote an image of shape {denoised.shape} for one of {noisy.shape}",
                hint="it must write one grey image of the same size",
            )
        return denoised

    def _filled(self, source: Path, target: Path, sigma: float | None) -> list[str]:
        values = {"{in}": str(source), "{out}": str(target)}
        if sigma is not None:
            values["{sigma}"] = repr(float(np.float32(sigma)))
        words = []
        for word in self.words:
            for mark, value in values.items():
                word = word.replace(mark, value)
            words.append(word)
        if any("{sigma}" in word for word in words):
            raise BenchboxError(f"{self.words[0]} asks for {{sigma}}, and none is told", hint="give or estimate it")
        return words

    def _run(self, words: list[str]) -> None:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                # A session of its own, so that whatever it starts can be ended with it.
                start_new_session=True,
            )
        except OSError as error:
            raise BenchboxError(
                f"cannot start {words[0]}: {error.strerror or error}",
                hint="give the path of a program that may be executed; no shell is used",
            ) from error
        try:
            _, words_of_error = process.communicate(timeout=self.timeout)
        except subprocess.TimeoutExpired as error:
            raise BenchboxError(
                f"{words[0]} took longer than {self.timeout:g} s for one image", hint="give it more with timeout="
            ) from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        if process.returncode:
            lines = words_of_error.decode("utf-8", "replace").strip().splitlines()
            last = f": {lines[-1]}" if lines else ""
            raise BenchboxError(f"{words[0]} {describe_exit(process.returncode)}{last}", hint="run it by hand")

    def _write(self, file: Path, image: Image) -> None:
        if self.format == "npy":
            np.save(file, image)
            return
        import cv2

        cv2.imwrite(str(file), np.rint(image.clip(0, 1) * 255).astype(np.uint8))

    def _read(self, file: Path) -> Image:
        if not file.is_file():
            raise BenchboxError(f"{self.words[0]} wrote no {{out}}", hint=f"it must write a .{self.format} file there")
        try:
            if self.format == "npy":
                return np.ascontiguousarray(np.load(file, allow_pickle=False), dtype=np.float32)
            import cv2

            image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            if image is None:
                raise ValueError("not an image")
            return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)  # type: ignore[no-any-return]
        except (ValueError, OSError) as error:
            raise BenchboxError(
                f"{self.words[0]} wrote what is no .{self.format} file: {error}", hint="see the option format"
            ) from error
