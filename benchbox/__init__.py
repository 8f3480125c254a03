"""benchbox: a fair, fast, trustworthy benchmark of image denoisers.

The public names, imported when they are first used, so that `import benchbox` loads nothing heavy. A plugin needs
nothing else: everything an author may rely on is here or in `benchbox.testing`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchbox.api.arrays import Image, Images, Scores, Sigma
    from benchbox.api.dataset import Dataset, ImageSet
    from benchbox.api.denoiser import Capabilities, Denoiser, ImageDenoiser, TrainingCard
    from benchbox.api.errors import BenchboxError
    from benchbox.api.hookspecs import hookimpl
    from benchbox.api.metric import Metric
    from benchbox.api.noise import NoiseModel
    from benchbox.api.threads import threads
    from benchbox.api.trainable import Recipe, TrainableDenoiser, Trainer
    from benchbox.notebook import RunFrames, load_run, run

__all__ = [
    "BenchboxError",
    "Capabilities",
    "Dataset",
    "Denoiser",
    "Image",
    "ImageDenoiser",
    "ImageSet",
    "Images",
    "Metric",
    "NoiseModel",
    "Recipe",
    "RunFrames",
    "Scores",
    "Sigma",
    "TrainableDenoiser",
    "Trainer",
    "TrainingCard",
    "hookimpl",
    "load_run",
    "run",
    "threads",
]
__version__ = "0.1.0"

_HOMES = {
    "BenchboxError": "api.errors",
    "Capabilities": "api.denoiser",
    "Dataset": "api.dataset",
    "Denoiser": "api.denoiser",
    "Image": "api.arrays",
    "ImageDenoiser": "api.denoiser",
    "ImageSet": "api.dataset",
    "Images": "api.arrays",
    "Metric": "api.metric",
    "NoiseModel": "api.noise",
    "Recipe": "api.trainable",
    "RunFrames": "notebook",
    "Scores": "api.arrays",
    "Sigma": "api.arrays",
    "TrainableDenoiser": "api.trainable",
    "Trainer": "api.trainable",
    "TrainingCard": "api.denoiser",
    "hookimpl": "api.hookspecs",
    "load_run": "notebook",
    "run": "notebook",
    "threads": "api.threads",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for, so that ``benchbox --help`` imports next to nothing."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"benchbox.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'benchbox' has no attribute {name!r}")
