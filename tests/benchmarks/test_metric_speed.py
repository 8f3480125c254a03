"""Speed of metrics and of noise at 48 x 48 on one core, beside a loop over scikit-image."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchbox import Images, Metric
from benchbox.builtin import noise
from benchbox.builtin.metrics import METRICS, Ssim
from benchbox.builtin.seeding import add_noise
from benchbox.builtin.sigma import estimate_sigma

pytestmark = pytest.mark.slow

FACES = 2000
LOOPED = 200
"""Images that the slow loops take; figures are per image."""


@pytest.fixture(scope="module")
def stacks() -> tuple[Images, Images]:
    import skimage.data

    picture = (skimage.data.camera() / 255).astype(np.float32)
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 512 - 48, (FACES, 2))
    clean = np.stack([picture[top : top + 48, left : left + 48] for top, left in corners])
    noisy = clean + np.float32(0.1) * rng.standard_normal(clean.shape, dtype=np.float32)
    return clean, np.clip(noisy, 0, 1)


def skimage_ssim(clean: Images, denoised: Images) -> None:
    from skimage.metrics import structural_similarity

    for one, other in zip(clean, denoised, strict=True):
        structural_similarity(one, other, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)


def skimage_psnr(clean: Images, denoised: Images) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    for one, other in zip(clean, denoised, strict=True):
        peak_signal_noise_ratio(one, other, data_range=1)


def skimage_sigma(clean: Images, denoised: Images) -> None:
    from skimage.restoration import estimate_sigma as theirs

    for image in denoised:
        theirs(image)


LOOPS: dict[str, Callable[[Images, Images], None]] = {
    "ssim": skimage_ssim,
    "psnr": skimage_psnr,
    "sigma": skimage_sigma,
}


def measure(benchmark: BenchmarkFixture, group: str, work: Callable[[], object], images: int) -> None:
    benchmark.group = f"{group}, 48 x 48, one core"
    benchmark.extra_info["images"] = images
    benchmark.pedantic(work, rounds=10, warmup_rounds=1)
    if benchmark.stats:
        benchmark.extra_info["images_per_second"] = round(images / benchmark.stats.stats.min)
        print(f"\n{group}: {images / benchmark.stats.stats.min:,.0f} images/s")


@pytest.mark.parametrize("cls", METRICS, ids=lambda cls: cls.name)
def test_metric(benchmark: BenchmarkFixture, stacks: tuple[Images, Images], cls: type[Metric]) -> None:
    measure(benchmark, cls.name, lambda: cls()(*stacks), FACES)


def test_estimator(benchmark: BenchmarkFixture, stacks: tuple[Images, Images]) -> None:
    measure(benchmark, "sigma", lambda: estimate_sigma(stacks[1]), FACES)


@pytest.mark.parametrize("name", LOOPS)
def test_scikit_image_loop(benchmark: BenchmarkFixture, stacks: tuple[Images, Images], name: str) -> None:
    clean, denoised = stacks[0][:LOOPED], stacks[1][:LOOPED]
    measure(benchmark, f"{name} by scikit-image", lambda: LOOPS[name](clean, denoised), LOOPED)


@pytest.mark.parametrize("cls", noise.MODELS, ids=lambda cls: cls.name)
def test_noise(benchmark: BenchmarkFixture, stacks: tuple[Images, Images], cls: type[noise.Gaussian]) -> None:
    clean = stacks[0][:1000]
    ids = [f"PublicTest/{index:05d}" for index in range(1000)]
    measure(benchmark, f"noise {cls.name}", lambda: add_noise(cls(), cls.example, clean, ids, 0, 0), 1000)


def test_ssim_is_thirty_times_faster_than_the_loop(stacks: tuple[Images, Images]) -> None:
    clean, denoised = stacks

    def seconds_an_image(work: Callable[[Images, Images], object], count: int) -> float:
        # Processor time of the best of seven, so that what else the machine does is left out.
        times = []
        for _ in range(7):
            start = time.process_time()
            work(clean[:count], denoised[:count])
            times.append((time.process_time() - start) / count)
        return min(times)

    ours = seconds_an_image(Ssim(), FACES)
    theirs = seconds_an_image(skimage_ssim, LOOPED)
    print(f"\nssim: {1 / ours:,.0f} images/s, scikit-image {1 / theirs:,.0f}, ratio {theirs / ours:.0f}")
    assert theirs / ours >= 30
