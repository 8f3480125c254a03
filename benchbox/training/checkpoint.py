"""The folder of a training run: progress for `--resume`, weights, history, curves and pictures."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.api.denoiser import TrainingCard
from benchbox.api.errors import BenchboxError
from benchbox.api.trainable import Trainer
from benchbox.records.run import decode
from benchbox.training.config import EpochDone


@dataclass
class Progress:
    """Progress of a training run, saved for `--resume`.

    `identity` is `TrainConfig.identity()` and `fingerprint` that of the training images; `weights` is the file name of
    the best weights, empty before the first epoch.
    """

    identity: dict[str, Any]
    fingerprint: str
    epoch: int
    images: int
    seconds: float
    weights: str
    history: list[EpochDone]

    @property
    def best(self) -> EpochDone | None:
        """The epoch with the best weights."""
        return next((row for row in reversed(self.history) if row.best), None)

    def require_same(self, wanted: Progress, folder: Path) -> None:
        """Refuse to resume with options or images other than those of the saved training."""
        saved = self.identity | {"fingerprint": self.fingerprint}
        for name, value in (wanted.identity | {"fingerprint": wanted.fingerprint}).items():
            if saved.get(name) != value:
                raise BenchboxError(
                    f"the training in {folder} has {name} {saved.get(name)}, not {value}",
                    hint="resume with the options that started it, or choose another --output",
                )


STATE = "state.npz"
HISTORY = "history.csv"
CURVES = "curves.png"
PICTURES = "epochs"
_LOCK = "lock"
# From the palette of Okabe and Ito, which colour-blind readers can tell apart.
_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"
_UNFINISHED = ".weights-"


class Folder:
    """The folder of a training run, created if it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other trainings, and delete temporary files that a killed one left."""
        import fcntl

        with disk_errors(self.path):
            file = (self.path / _LOCK).open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BenchboxError(
                    f"another training is running in {self.path}",
                    hint="wait for it, stop it, or choose another --output",
                ) from error
            with disk_errors(self.path):
                for unfinished in self.path.glob(f"{_UNFINISHED}*"):
                    shutil.rmtree(unfinished)
            yield

    def require_empty(self) -> None:
        """Refuse a folder in which a new training would overwrite files."""
        if (self.path / STATE).exists():
            raise BenchboxError(
                f"{self.path} already contains a training", hint="continue it with --resume, or choose another --output"
            )
        with disk_errors(self.path):
            names = sorted(file.name for file in self.path.iterdir())
        existing = [name for name in names if name in (HISTORY, CURVES) or name.startswith("weights.")]
        if existing:
            raise BenchboxError(
                f"{self.path}: training would overwrite {', '.join(existing)}", hint="choose another --output"
            )

    def save_state(self, arrays: Mapping[str, NDArray[np.generic]], state: Progress) -> None:
        """Save everything needed to resume."""
        content = io.BytesIO()
        text = np.frombuffer(json.dumps(asdict(state)).encode(), np.uint8)
        everything: dict[str, Any] = {**arrays, "facts": text}
        np.savez(content, **everything)
        self.write(STATE, content.getbuffer())

    def load_state(self) -> tuple[dict[str, NDArray[np.generic]], Progress]:
        """Read the saved state, without unpickling; a missing or damaged one is an error."""
        path = self.path / STATE
        if not path.is_file():
            raise BenchboxError(
                f"{path} does not exist: there is no training to resume", hint="omit --resume to start one"
            )
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return arrays, decode(Progress, json.loads(arrays.pop("facts").tobytes()))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise BenchboxError(
                f"training state {path} is damaged: {error}", hint="choose another --output to start a new training"
            ) from error

    def save_weights(self, trainer: Trainer, card: TrainingCard) -> str:
        """Write weights and card, replacing those of an earlier epoch; return the file name of the weights."""
        with disk_errors(self.path), TemporaryDirectory(dir=self.path, prefix=_UNFINISHED) as temporary:
            weights = trainer.save(Path(temporary))
            card.save(weights.with_suffix(".json"))
            for file in sorted(Path(temporary).iterdir()):
                file.replace(self.path / file.name)
        return weights.name

    def save_history(self, history: list[EpochDone]) -> None:
        """Write ``history.csv`` and ``curves.png``."""
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, [field.name for field in fields(EpochDone)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in history)
        self.write(HISTORY, text.getvalue().encode())
        self.write(CURVES, curves(history))

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file completely or not at all: to a temporary name, then renamed."""
        path = self.path / name
        with disk_errors(path):
            path.parent.mkdir(exist_ok=True)
            part = path.with_name(path.name + ".part")
            try:
                with part.open("wb") as out:
                    out.write(content)
                    out.flush()
                    os.fsync(out.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` into a `BenchboxError` with a hint."""
    try:
        yield
    except OSError as error:
        hint = "choose another folder: --output DIR"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space, then continue with --resume if an epoch was finished"
        raise BenchboxError(f"{path}: {error.strerror or error}", hint=hint) from error


def curves(history: Sequence[EpochDone]) -> bytes:
    """Draw losses (logarithmic, above) and validation PSNR (below) over the epochs, as PNG; a ring marks the best."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [row.epoch for row in history]
    best = max(place for place, row in enumerate(history) if row.best)
    # Figure, not pyplot: it needs no display, and leaves no open figure in a notebook.
    figure = Figure(figsize=(9, 7.2), layout="constrained")
    losses, psnr = figure.subplots(2, 1, sharex=True)
    for axes, name, values, colour in (
        (losses, "training", [row.loss for row in history], _BLUE),
        (losses, "validation", [row.val_loss for row in history], _ORANGE),
        (psnr, "validation", [row.val_psnr for row in history], _GREEN),
    ):
        axes.plot(epochs, values, color=colour, marker="o", markersize=4, label=name)
        if name == "validation":
            axes.plot(
                epochs[best], values[best], "o", markersize=10, fillstyle="none", color=colour,
                label=f"lowest validation loss, epoch {epochs[best]}",
            )  # fmt: skip
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend(loc="best")
    losses.set(yscale="log", ylabel="mean squared error (grey values in [0, 1])")
    psnr.set(ylabel="PSNR (dB)", xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
    psnr.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=100)
    return sink.getvalue()


def faces(clean: Images, noisy: Images, denoised: Images, scale: int = 3) -> bytes:
    """Draw three rows (clean, noisy, denoised) as PNG, clipped to [0, 1] and enlarged `scale` times."""
    from PIL import Image
    from skimage.util import montage

    tiles = np.clip(np.concatenate([clean, noisy, denoised]), 0, 1)
    sheet: NDArray[np.float32] = montage(tiles, fill=1.0, grid_shape=(3, len(clean)), padding_width=2)
    grey = np.rint(sheet * 255).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(grey.repeat(scale, axis=0).repeat(scale, axis=1)).save(sink, format="PNG")
    return sink.getvalue()
