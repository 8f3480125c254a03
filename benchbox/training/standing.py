"""Where a training stands: kept in its state, and taken up from there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchbox.api.errors import BenchboxError
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
                    hint="resume with the options that it was started with, or give another --out",
                )
