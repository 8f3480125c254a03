"""Speed of metrics, of the noise estimator and of the noise models on one core, beside scikit-image's."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchbox import Images, NoiseModel, NoReferenceMetric
from benchbox.builtin import noise
from benchbox.builtin.metrics import METRICS, Ssim
from benchbox.builtin.noise import add_noise
from benchbox.builtin.sigma import estimate_sigma

pytestmark = pytest.mark.slow

FACES = 500


@pytest.fixture(scope="module")
def stacks() -> tuple[Images, Images]:
    """Clean tiles of a photograph and the same with noise."""
    import skimage.data

    picture = (skimage.data.camera() / 255).astype(np.float32)
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 512 - 48, (FACES, 2))
    clean = np.stack([picture[top : top + 48, left : left + 48] for top, left in corners])
    noisy = clean + np.float32(0.1) * rng.standard_normal(clean.shape, dtype=np.float32)
    return clean, np.clip(noisy, 0, 1)


def loop_ssim(clean: Images, denoised: Images) -> None:
    from skimage.metrics import structural_similarity

    axis = -1 if clean.ndim == 4 else None
    for one, other in zip(clean, denoised, strict=True):
        structural_similarity(
            one,
            other,
            channel_axis=axis,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )


def loop_psnr(clean: Images, denoised: Images) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    for one, other in zip(clean, denoised, strict=True):
        peak_signal_noise_ratio(one, other, data_range=1)


def loop_sigma(clean: Images, denoised: Images) -> None:
    from skimage.restoration import estimate_sigma as by_scikit_image

    for image in denoised:
        by_scikit_image(image)


CASES: list[tuple[str, str, Callable[[Images, Images], object]]] = [
    *(
        (cls.name, "benchbox", cls())
        for cls in METRICS
        if cls.channels != "rgb" and not issubclass(cls, NoReferenceMetric)
    ),
    ("sigma", "benchbox", lambda clean, denoised: estimate_sigma(denoised)),
    ("ssim", "scikit-image", loop_ssim),
    ("psnr", "scikit-image", loop_psnr),
    ("sigma", "scikit-image", loop_sigma),
]


def measure(benchmark: BenchmarkFixture, group: str, work: Callable[[], object]) -> None:
    benchmark.group = f"{group}: {FACES} images of 48 x 48"
    benchmark.pedantic(work, rounds=10, warmup_rounds=1)
    if benchmark.stats:  # absent where benchmarks are switched off
        benchmark.extra_info["images_per_s"] = round(FACES / benchmark.stats.stats.min)


@pytest.mark.parametrize(("quantity", "maker", "score"), CASES, ids=lambda value: value if type(value) is str else "")
def test_score(
    benchmark: BenchmarkFixture,
    stacks: tuple[Images, Images],
    quantity: str,
    maker: str,
    score: Callable[[Images, Images], object],
) -> None:
    measure(benchmark, quantity, lambda: score(*stacks))


@pytest.mark.parametrize("cls", noise.MODELS, ids=lambda cls: cls.name)
def test_noise(benchmark: BenchmarkFixture, stacks: tuple[Images, Images], cls: type[NoiseModel]) -> None:
    ids = [f"PublicTest/{index:05d}" for index in range(FACES)]
    measure(benchmark, "noise", lambda: add_noise(cls(), cls.example, stacks[0], ids, 0, 0))


@pytest.fixture(scope="module")
def colour() -> tuple[Images, Images]:
    """RGB tiles of a photograph and the same with noise."""
    import skimage.data

    picture = (skimage.data.astronaut() / 255).astype(np.float32)
    rng = np.random.default_rng(0)
    clean = np.stack([picture[top : top + 256, left : left + 256] for top, left in rng.integers(0, 256, (16, 2))])
    return clean, np.clip(clean + np.float32(0.1) * rng.standard_normal(clean.shape, dtype=np.float32), 0, 1)


@pytest.mark.parametrize(("name", "loop"), [("stacks", 50), ("colour", 2)])
def test_ssim_beside_the_loop(name: str, loop: int, request: pytest.FixtureRequest, measured: bool) -> None:
    pair: tuple[Images, Images] = request.getfixturevalue(name)

    def seconds(work: Callable[[Images, Images], object], images: int) -> float:
        start = time.process_time()
        work(pair[0][:images], pair[1][:images])
        return (time.process_time() - start) / images

    # Processor time, the best of runs that alternate, so that what else the machine does falls on both alike.
    rounds = [(seconds(Ssim(), len(pair[0])), seconds(loop_ssim, loop)) for _ in range(20 if measured else 1)]
    ours, theirs = (min(times) for times in zip(*rounds, strict=True))
    print(
        f"\nssim of {'x'.join(map(str, pair[0].shape[1:]))}: benchbox {1 / ours:,.0f} images/s, "
        f"scikit-image {1 / theirs:,.0f} images/s: {theirs / ours:.0f} times"
    )
