"""DCT thresholding: equal to a plain NumPy version, harmless where nothing is to be done, the same on any threads."""

from __future__ import annotations

import numpy as np
import pytest
from benchbox_bm3d.dct import DCT
from numpy.typing import NDArray
from scipy import fft

from benchbox import BenchboxError


def add_noise(clean: NDArray[np.float32], sigma: float, seed: int = 1) -> NDArray[np.float32]:
    return (clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape)).astype(np.float32)


def scene(height: int, width: int) -> NDArray[np.float32]:
    y, x = np.mgrid[:height, :width]
    return np.asarray(0.3 + 0.2 * np.sin(0.8 * x) * (y > height / 2) + 0.3 * (x + y > height), np.float32)


def printable(noisy: NDArray[np.float32], limit: float) -> NDArray[np.float64]:
    total, weights = np.zeros(noisy.shape), np.zeros(noisy.shape)
    for y in range(noisy.shape[0] - 7):
        for x in range(noisy.shape[1] - 7):
            patch = fft.dctn(noisy[y : y + 8, x : x + 8].astype(np.float64), norm="ortho")
            keep = np.abs(patch) >= limit
            keep[0, 0] = True
            weight = 1 / keep.sum()
            total[y : y + 8, x : x + 8] += weight * fft.idctn(patch * keep, norm="ortho")
            weights[y : y + 8, x : x + 8] += weight
    return total / weights


@pytest.mark.parametrize("size", [(8, 8), (9, 40), (33, 21), (30, 130)])
def test_equals_the_plain_version(size: tuple[int, int]) -> None:
    noisy = add_noise(scene(*size), 0.1)
    limit = float(np.float32(0.1) * np.float32(2.6))
    ours = DCT(threshold=2.6).denoise(noisy[None].copy(), np.full(1, 0.1, np.float32))[0]
    assert np.abs(ours - printable(noisy, limit)).max() < 1e-4


def test_leaves_constants_and_clean_images() -> None:
    clean = np.full((3, 64, 40), 0.3, np.float32)
    sigma = np.array([0.05, 0.2, 0.0], np.float32)
    assert np.abs(DCT().denoise(clean.copy(), sigma) - clean).max() < 1e-5
    noisy = add_noise(clean, 0.2)
    result = DCT().denoise(noisy.copy(), np.array([0.2, 0.2, 0.0], np.float32))
    assert np.array_equal(result[2], noisy[2])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sigma", [0.05, 0.2])
@pytest.mark.parametrize("size", [(48, 48), (64, 40), (160, 160)])
def test_pure_noise_loses_98_percent_of_its_variance(size: tuple[int, int], sigma: float, seed: int) -> None:
    clean = np.full((24, *size), 0.5, np.float32)
    result = DCT().denoise(add_noise(clean, sigma, seed), np.full(24, sigma, np.float32))
    assert np.square(result - clean, dtype=np.float64).mean() < 0.02 * sigma**2


def test_alone_as_in_a_stack_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = np.array([0.1, 0.02, 0.0, 0.3], np.float32)
    for size in ((48, 48), (130, 210)):
        noisy = np.stack([add_noise(scene(*size), 0.1, seed) for seed in range(len(levels))])
        results = []
        for count in ("1", "3"):
            monkeypatch.setenv("BENCHBOX_THREADS", count)
            results.append(DCT().denoise(noisy.copy(), levels))
        assert np.array_equal(results[0], results[1])
        for index in range(len(levels)):
            alone = DCT().denoise(noisy[index : index + 1].copy(), levels[index : index + 1])
            assert np.array_equal(alone[0], results[0][index])


def test_bad_input_is_refused() -> None:
    with pytest.raises(BenchboxError, match="noise level"):
        DCT().denoise(np.zeros((1, 8, 8), np.float32), None)
    with pytest.raises(BenchboxError, match="at least 8x8 pixels, got 9x7"):
        DCT().denoise(np.zeros((1, 9, 7), np.float32), np.full(1, 0.1, np.float32))
    with pytest.raises(ValueError, match="greater than 0"):
        DCT(threshold=0)
