"""The oracle Wiener filter: what it computes, for which noises, and where it is kept and shown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchbox.api.arrays import Image
from benchbox.api.noise import NoiseModel
from benchbox.builtin.noise import MODELS
from benchbox.engine.scoring import oracle_wiener
from benchbox.records.specs import configure
from benchbox.store import RunStore, find_run, noise_key

Command = Callable[..., subprocess.CompletedProcess[str]]


def smooth(side: int) -> Image:
    rows, columns = np.mgrid[:side, :side]
    image: Image = (0.5 + 0.3 * np.sin(rows / 7) * np.cos(columns / 5)).astype(np.float32)
    return image


@pytest.mark.parametrize("size", [(48, 48), (31, 44), (8, 1)])
def test_the_filter_is_that_of_the_full_transform(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    clean = rng.random((3, *size), dtype=np.float32)
    noisy = clean + rng.normal(0, 0.1, clean.shape).astype(np.float32)
    sigma = np.array([0.05, 0.1, 0.0], dtype=np.float32)
    filtered = oracle_wiener(clean, noisy, sigma)
    assert filtered.dtype == np.float32
    for index in range(3):
        power = np.abs(np.fft.fft2(clean[index].astype(np.float64))) ** 2
        gain = power / (power + float(sigma[index]) ** 2 * clean[index].size)
        expected = np.fft.ifft2(np.fft.fft2(noisy[index]) * gain).real
        np.testing.assert_allclose(filtered[index], expected, atol=2e-6)
    np.testing.assert_allclose(filtered[2], noisy[2], atol=2e-6)
    assert not oracle_wiener(np.zeros_like(clean), np.zeros_like(clean), 0 * sigma).any()


def test_no_other_gain_is_better() -> None:
    clean = np.repeat(smooth(48)[None], 400, axis=0)
    noisy = clean + np.random.default_rng(1).normal(0, 0.1, clean.shape).astype(np.float32)

    def error(level: float) -> float:
        filtered = oracle_wiener(clean, noisy, np.full(400, level, dtype=np.float32))
        return float(np.square(filtered - clean).mean())

    assert error(0.1) < min(error(0.08), error(0.125)) < 0.1**2


@pytest.mark.parametrize("cls", [cls for cls in MODELS if cls.white], ids=lambda cls: cls.name)
def test_noise_that_is_called_white_is(cls: type[NoiseModel]) -> None:
    model = configure(cls, cls.example).make()
    clean = smooth(512)
    added = (model.apply(clean, np.random.default_rng(2)) - clean).astype(np.float64)
    sigma = model.sigma_of(clean)
    assert sigma is not None
    assert added.std() == pytest.approx(sigma, rel=0.01)
    # Five standard errors of the mean and of the correlation of neighbours.
    assert abs(added.mean()) < 5 * sigma / 512
    for shifted in (added[1:] * added[:-1], added[:, 1:] * added[:, :-1], added[7:] * added[:-7]):
        assert abs(shifted.mean()) < 5 * shifted.std() / 512


@pytest.mark.slow
def test_it_is_kept_once_a_noise_and_shown(benchbox: Command, tmp_path: Path) -> None:
    noises = [word for noise in ("poisson:30+gaussian:0.05", "correlated:0.1") for word in ("--noise", noise)]
    words = ["--no-timing", "--previews", "0", "--limit", "5", "--repeats", "2"]
    benchbox("run", "identity", "gaussian_blur", *noises, *words)
    store = RunStore.open(find_run(tmp_path / "results"))
    key = noise_key("poisson:30+gaussian:0.05")
    assert [file.name for file in (store.folder / "ceiling").iterdir()] == [f"{key}.parquet"]
    ceiling = store.ceiling("poisson:30+gaussian:0.05")
    assert ceiling["image"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert ceiling["repeat"].tolist() == [0, 1] * 5
    assert set(ceiling) == {"image", "repeat", *(metric.spec for metric in store.record.metrics)}
    for cell in store.record.cells[:1]:
        assert (ceiling["psnr"] > store.scores(cell.key)["psnr"]).all()
    white, correlated = json.loads(benchbox("leaderboard", "--format", "json").stdout)["blocks"]
    assert white["oracle_wiener"] == pytest.approx(ceiling["psnr"].mean())
    assert correlated["oracle_wiener"] is None
    shown = benchbox("leaderboard", "--format", "markdown").stdout
    assert shown.count(f"best linear filter: {ceiling['psnr'].mean():.2f} dB") == 1

    file = store.folder / "ceiling" / f"{key}.parquet"
    before = file.read_bytes()
    file.unlink()
    result = benchbox("run", "--resume", store.folder)
    assert "set aside" not in result.stderr
    assert file.read_bytes() == before
    assert benchbox("leaderboard", "--format", "markdown").stdout == shown
