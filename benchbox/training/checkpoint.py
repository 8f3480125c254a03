"""The folder of a training run: progress saved for `--resume`, history, pictures."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from benchbox.api.denoiser import TrainingCard
from benchbox.api.errors import BenchboxError
from benchbox.api.trainable import Trainer
from benchbox.records.run import decode
from benchbox.training.events import EpochDone


@dataclass
class Standing:
    """What has been done, and for whom.

    Attributes
    ----------
    identity : dict
        `TrainConfig.identity`.
    fingerprint : str
        Of the fitted images.
    epoch, images : int
        Epochs finished, and images seen in them.
    seconds : float
        Time taken.
    weights : str
        Name of the file of the best weights; empty before there are any.
    history : list of EpochDone
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
        """The epoch of the best weights."""
        return next((row for row in reversed(self.history) if row.best), None)

    def require_same(self, asked: Standing, folder: Path) -> None:
        """See that this is the training that is asked for.

        Raises
        ------
        BenchboxError
            It is another one.
        """
        kept = self.identity | {"fingerprint": self.fingerprint}
        for name, value in (asked.identity | {"fingerprint": asked.fingerprint}).items():
            if kept.get(name) != value:
                raise BenchboxError(
                    f"{folder} holds a training with {name} {kept.get(name)}, not {value}",
                    hint="resume with the options that it was started with, or give another --output",
                )


STATE = "state.npz"
HISTORY = "history.csv"
CURVES = "curves.png"
PICTURES = "epochs"
_LOCK = "lock"
_UNFINISHED = ".weights-"


class Folder:
    """Where a training keeps its files.

    Parameters
    ----------
    path : Path
        Made where it is missing.

    Raises
    ------
    BenchboxError
        It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, so that no other training writes into it, and clear away what a killed one left.

        Raises
        ------
        BenchboxError
            Another training is at work there.
        """
        import fcntl

        with disk_errors(self.path):
            file = (self.path / _LOCK).open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BenchboxError(
                    f"another training is at work in {self.path}", hint="wait for it, end it, or give another --output"
                ) from error
            with disk_errors(self.path):
                for left in self.path.glob(f"{_UNFINISHED}*"):
                    shutil.rmtree(left)
            yield

    def require_empty(self) -> None:
        """See that a new training overwrites nothing.

        Raises
        ------
        BenchboxError
            The folder holds a training, or files with the names of what one writes.
        """
        if (self.path / STATE).exists():
            raise BenchboxError(
                f"{self.path} holds a training already", hint="go on with --resume, or give another --output"
            )
        with disk_errors(self.path):
            names = sorted(one.name for one in self.path.iterdir())
        left = [name for name in names if name in (HISTORY, CURVES) or name.startswith("weights.")]
        if left:
            raise BenchboxError(
                f"{self.path} holds {', '.join(left)}, which a training would overwrite", hint="give another --output"
            )

    def save_state(self, arrays: Mapping[str, NDArray[np.generic]], at: Standing) -> None:
        """Keep everything needed to go on."""
        content = io.BytesIO()
        text = np.frombuffer(json.dumps(asdict(at)).encode(), np.uint8)
        everything: dict[str, Any] = {**arrays, "facts": text}
        np.savez(content, **everything)
        self.write(STATE, content.getbuffer())

    def load_state(self) -> tuple[dict[str, NDArray[np.generic]], Standing]:
        """Read what `save_state` kept; nothing is unpickled.

        Raises
        ------
        BenchboxError
            There is none, or it is damaged.
        """
        path = self.path / STATE
        if not path.is_file():
            raise BenchboxError(f"{path}: there is no training to resume", hint="leave out --resume to start one")
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return arrays, decode(Standing, json.loads(arrays.pop("facts").tobytes()))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise BenchboxError(
                f"training state {path} is damaged: {error}", hint="give another --output to start afresh"
            ) from error

    def save_weights(self, trainer: Trainer, card: TrainingCard) -> str:
        """Write weights and card beside each other, replacing those of an earlier epoch; gives the weights' name."""
        with disk_errors(self.path), TemporaryDirectory(dir=self.path, prefix=_UNFINISHED) as temporary:
            weights = trainer.save(Path(temporary))
            card.save(weights.with_suffix(".json"))
            for file in sorted(Path(temporary).iterdir()):
                file.replace(self.path / file.name)
        return weights.name

    def save_history(self, history: list[EpochDone]) -> None:
        """Write ``history.csv`` and ``curves.png``."""
        from benchbox.training.pictures import curves

        text = io.StringIO(newline="")
        table = csv.DictWriter(text, [field.name for field in fields(EpochDone)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in history)
        self.write(HISTORY, text.getvalue().encode())
        self.write(CURVES, curves(history))

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file at once: beside its place first, then moved there."""
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
    """Turn what the disk refuses into an error with a remedy."""
    try:
        yield
    except OSError as error:
        hint = "choose another folder: --output DIR"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "make room; a training that has finished an epoch goes on with --resume"
        raise BenchboxError(f"{path}: {error.strerror or error}", hint=hint) from error
