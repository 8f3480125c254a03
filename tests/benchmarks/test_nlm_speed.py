"""Non-local means beside scikit-image and OpenCV; ``just bench -k nlm_speed``."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from benchbox_nlm.nl_means import NLMeans
from benchbox_nlm.opencv_nlm import OpenCVNLM
from skimage import data
from skimage.restoration import denoise_nl_means

from benchbox import Denoiser, Images

pytestmark = pytest.mark.slow

SIGMA = 0.1
PATCH, DISTANCE, STRENGTH = 7, 11, 0.6
FACES = 100


def scikit_image(images: Images) -> Images:
    options = {"patch_size": PATCH, "patch_distance": DISTANCE, "h": STRENGTH * SIGMA, "sigma": SIGMA}
    return np.stack([denoise_nl_means(image, fast_mode=False, **options) for image in images])


def by(denoiser: Denoiser) -> Callable[[Images], Images]:
    denoiser.denoise(np.zeros((1, 16, 16), np.float32), np.full(1, SIGMA, np.float32))
    return lambda images: denoiser.denoise(images.copy(), np.full(len(images), SIGMA, np.float32))


@pytest.mark.parametrize("size", ["faces", "photograph"])
def test_beside_scikit_image(size: str, measured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHBOX_THREADS", "1")
    side = 256 if measured else 96
    photograph = (data.camera() / 255).astype(np.float32)
    tiles = photograph[:480, :480].reshape(10, 48, 10, 48).swapaxes(1, 2).reshape(FACES, 48, 48)
    clean = np.ascontiguousarray(tiles[: 20 if measured else 4]) if size == "faces" else photograph[None, :side, :side]
    noisy = (clean + SIGMA * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)
    same = NLMeans(patch_size=PATCH, patch_distance=DISTANCE, strength=STRENGTH)
    methods = {
        "scikit-image": scikit_image,
        "nl_means, same parameters": by(same),
        "nl_means": by(NLMeans()),
        "opencv_nlm": by(OpenCVNLM()),
    }
    cpu, psnr = {}, {}
    for name, method in methods.items():
        times = []
        for _ in range(1 if name == "scikit-image" or not measured else 5):
            start = time.process_time()
            denoised = method(noisy)
            times.append(time.process_time() - start)
        cpu[name] = min(times) / len(clean)
        errors = np.square(clean - denoised.clip(0, 1), dtype=np.float64).mean((1, 2))
        psnr[name] = float(np.mean(-10 * np.log10(errors)))
    print(f"\n{size}, sigma {SIGMA}, one thread")
    for name in methods:
        ratio = cpu["scikit-image"] / cpu[name]
        print(f"  {name:28s}{1e3 * cpu[name]:10.2f} ms cpu an image{ratio:8.1f} times{psnr[name]:9.3f} dB")
    assert abs(psnr["scikit-image"] - psnr["nl_means, same parameters"]) < 0.01
