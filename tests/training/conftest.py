"""A denoiser of one number, quick to train, and what a training of it needs."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from benchbox.training import TrainConfig

PLUGIN = '''
"""Shrinks images towards their mean by one learned factor; its gradient is worked out by hand."""
from pathlib import Path

import numpy as np

from benchbox import Recipe, TrainableDenoiser, Trainer, hookimpl


class ShrinkTrainer(Trainer):
    def __init__(self, factor, scale):
        self.factor, self.momentum, self.scale = factor, 0.0, scale

    def step(self, noisy, clean, sigma, learning_rate):
        mean = noisy.mean(axis=(1, 2), keepdims=True)
        error = self.denoise(noisy, sigma) - clean
        gradient = float(2 * (error * (noisy - mean)).mean())
        self.momentum = 0.9 * self.momentum + gradient
        self.factor -= self.scale * learning_rate * self.momentum
        return float(np.square(error, dtype=np.float64).mean()), float((abs(error) <= self.tolerance).mean())

    def denoise(self, noisy, sigma):
        mean = noisy.mean(axis=(1, 2), keepdims=True)
        return (mean + np.float32(self.factor) * (noisy - mean)).astype(np.float32)

    def state(self):
        return {"factor": np.array(self.factor), "momentum": np.array(self.momentum)}

    def restore(self, state):
        self.factor, self.momentum = float(state["factor"]), float(state["momentum"])

    def save(self, folder):
        path = folder / "weights.npy"
        np.save(path, self.factor)
        return path


class Shrink(TrainableDenoiser):
    name = "shrink"
    summary = "shrinks images towards their mean"
    recipes = {
        "default": Recipe(noise=("gaussian:0.1..0.3",), epochs=3, batch_size=8, learning_rate=1.0),
        "once": Recipe(
            noise=("gaussian:0.2",), epochs=3, batch_size=8, learning_rate=1.0, schedule="constant", flips=False,
            fresh_noise=False, clip=True,
        ),
        "exploding": Recipe(noise=("gaussian:0.2",), epochs=9, batch_size=8, learning_rate=1e200, schedule="constant"),
    }

    def __init__(self, *, weights: str = ""):
        self.weights = weights

    def denoise(self, noisy, sigma):
        return ShrinkTrainer(float(np.load(self.weights)) if self.weights else 1.0, 1.0).denoise(noisy, sigma)

    def trainer(self, recipe, *, seed, start=""):
        return ShrinkTrainer(float(np.load(start)) if start else 1.0, 1.0)


@hookimpl
def benchbox_denoisers():
    return [Shrink]
'''


@pytest.fixture(scope="session")
def shrink(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's file; a test process tries its import only once."""
    file = tmp_path_factory.mktemp("plugins") / "shrink_plugin.py"
    file.write_text(textwrap.dedent(PLUGIN), encoding="utf-8")
    return file


@pytest.fixture
def config(tmp_path: Path, shrink: Path) -> TrainConfig:
    return TrainConfig("shrink", out=tmp_path / "out", seed=3, plugin_files=(shrink,), command="benchbox train shrink")
