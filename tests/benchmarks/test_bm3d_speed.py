"""BM3D-lite beside the package bm3d, time and quality; ``just bench -k bm3d_speed``.

Faces are 48x48 tiles of a photograph, or those of FER2013 where the variable BENCHBOX_FER2013_CSV names its file.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from benchbox_bm3d.bm3d_lite import BM3DLite
from benchbox_bm3d.dct import DCT
from skimage import data
from skimage.metrics import structural_similarity
from skimage.transform import resize

from benchbox import Denoiser, Images

pytestmark = pytest.mark.slow

SIGMA = 0.1
FACES = 100


@dataclass(frozen=True)
class Row:
    """One method on one kind of images."""

    method: str
    cpu_s: float
    wall_s: float
    psnr_db: float
    ssim: float


def faces() -> Images:
    file = os.environ.get("BENCHBOX_FER2013_CSV")
    if file:
        with open(file, encoding="utf-8", newline="") as lines:  # noqa: PTH123 - a name from outside
            rows = (row for row in csv.DictReader(lines) if row["Usage"] == "PublicTest")
            pixels = [np.array(row["pixels"].split(), np.float32) for row, _ in zip(rows, range(FACES), strict=False)]
        return np.stack(pixels).reshape(-1, 48, 48) / np.float32(255)
    tiles = (data.camera()[:480, :480] / 255).reshape(10, 48, 10, 48).swapaxes(1, 2).reshape(-1, 48, 48)
    return np.ascontiguousarray(tiles, np.float32)


def add_noise(clean: Images, sigma: float = SIGMA) -> Images:
    return (clean + sigma * np.random.default_rng(1).standard_normal(clean.shape)).astype(np.float32)


def package(images: Images, threads: int, sigma: float = SIGMA) -> Images:
    bm3d = pytest.importorskip("bm3d", reason="pip install benchbox-denoise[dev]")
    profile = bm3d.BM3DProfile()
    profile.num_threads = threads
    filtered = bm3d.bm3d if images.ndim == 3 else bm3d.bm3d_rgb
    return np.stack([filtered(image, sigma, profile) for image in images]).astype(np.float32)


def tiled(images: Images, threads: int) -> Images:
    """All faces as one image: saves what a call costs, and lets faces borrow patches from each other."""
    side = int(len(images) ** 0.5)
    shape = (side, side, *images.shape[1:])
    whole = images.reshape(shape).swapaxes(1, 2).reshape(1, side * shape[2], side * shape[3])
    result = package(whole, threads)
    return result.reshape(side, shape[2], side, shape[3]).swapaxes(1, 2).reshape(images.shape)


def ours(denoiser: Denoiser, sigma: float = SIGMA) -> Callable[[Images, int], Images]:
    def run(images: Images, threads: int) -> Images:
        return denoiser.denoise(images.copy(), np.full(len(images), sigma, np.float32))

    denoiser.setup((1, 48, 48))
    return run


def measure(
    method: str,
    run: Callable[[Images, int], Images],
    clean: Images,
    threads: int,
    repeats: int,
    count: int,
    sigma: float = SIGMA,
) -> Row:
    noisy = add_noise(clean, sigma)[:count]
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        denoised = run(noisy, threads)
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    shown = denoised.clip(0, 1)
    psnr = -10 * np.log10(np.square(shown - clean[:count], dtype=np.float64).reshape(count, -1).mean(1))
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    channels = 2 if clean.ndim == 4 else None
    ssim = [
        structural_similarity(one, two, channel_axis=channels, **wang) for one, two in zip(clean, shown, strict=False)
    ]
    cpu, wall = (min(column) / count for column in zip(*times, strict=True))
    return Row(method, cpu, wall, float(psnr.mean()), float(np.mean(ssim)))


def show(title: str, rows: list[Row]) -> None:
    base = rows[0]
    print(f"\n{title}")
    print(f"  {'':28s}{'cpu ms':>10s}{'wall ms':>10s}{'cpu x':>8s}{'wall x':>8s}{'PSNR dB':>9s}{'SSIM':>8s}")
    for row in rows:
        print(
            f"  {row.method:28s}{1e3 * row.cpu_s:10.2f}{1e3 * row.wall_s:10.2f}{base.cpu_s / row.cpu_s:8.1f}"
            f"{base.wall_s / row.wall_s:8.1f}{row.psnr_db:9.2f}{row.ssim:8.4f}"
        )


@pytest.mark.parametrize("threads", [1, 2])
def test_faces(threads: int, measured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHBOX_THREADS", str(threads))
    number, few, repeats = (FACES, 10, 5) if measured else (16, 2, 1)
    clean = faces()
    alone = measure("bm3d, face by face", package, clean, threads, 1, few)
    together = measure("bm3d, faces tiled", tiled, clean, threads, 1, number)
    rows = [
        measure(f"bm3d_lite:profile={effort}", ours(BM3DLite(profile=effort)), clean, threads, repeats, number)
        for effort in ("fast", "normal", "high")
    ]
    show(
        f"{number} faces of 48x48 ({few} for the package), sigma {SIGMA}, {threads} threads, time a face",
        [alone, together, *rows, measure("dct", ours(DCT()), clean, threads, repeats, number)],
    )
    normal = rows[1]
    if measured and "BENCHBOX_FER2013_CSV" in os.environ:
        # Tiles of one photograph that lie side by side help each other, as faces of different people do not.
        assert normal.psnr_db >= together.psnr_db


@pytest.mark.parametrize("picture", ["camera", "astronaut"])
@pytest.mark.parametrize("threads", [1, 2])
def test_photograph(threads: int, picture: str, measured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHBOX_THREADS", str(threads))
    side = 512 if measured else 160
    clean = np.ascontiguousarray((getattr(data, picture)()[-side:, -side:] / 255).astype(np.float32)[None])
    base = measure("bm3d", package, clean, threads, 1, 1)
    rows = [
        measure(f"bm3d_lite:profile={effort}", ours(BM3DLite(profile=effort)), clean, threads, 3 if measured else 1, 1)
        for effort in ("fast", "normal", "high")
    ]
    show(
        f"{picture}, {'x'.join(map(str, clean.shape[1:]))}, sigma {SIGMA}, {threads} threads",
        [base, *rows, measure("dct", ours(DCT()), clean, threads, 3 if measured else 1, 1)],
    )
    assert rows[1].psnr_db > base.psnr_db - 0.1


@pytest.mark.parametrize("level", [15, 25, 50])
def test_colour(level: int, measured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four photographs, their square middle resized to 256x256, each a row of its own."""
    monkeypatch.setenv("BENCHBOX_THREADS", "1")
    sigma = level / 255
    for name in ("astronaut", "coffee", "chelsea", "rocket") if measured else ("rocket",):
        picture = getattr(data, name)()
        side = min(picture.shape[:2])
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        square = picture[top : top + side, left : left + side]
        size = 256 if measured else 96
        clean = resize(square, (size, size), anti_aliasing=True).astype(np.float32)[None]
        methods = {
            "bm3d": lambda images, threads: package(images, threads, sigma),
            "bm3d_lite": ours(BM3DLite(), sigma),
            "dct": ours(DCT(), sigma),
        }
        rows = [measure(method, run, clean, 1, 1, 1, sigma) for method, run in methods.items()]
        show(f"{name}, {size}x{size}x3, sigma {level}/255, 1 thread", rows)
        assert rows[1].psnr_db > rows[0].psnr_db - 0.05
