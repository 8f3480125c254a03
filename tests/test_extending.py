"""Runs the plugins of the page on metrics, noise models and data sets, with its commands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchbox.registry import load_registry
from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
PAGE = (Path(__file__).parents[1] / "docs/extending.md").read_text(encoding="utf-8")


def snippet(word: str) -> str:
    found: str
    (found,) = [code for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if word in code]
    return found


def command(word: str) -> list[str]:
    (found,) = [line for line in re.findall(r"^\$ benchbox (.*)$", PAGE, flags=re.MULTILINE) if word in line]
    return shlex.split(found)


def test_every_snippet_is_run() -> None:
    assert len(re.findall("```python", PAGE)) == 4


def run(word: str, cls: str, benchbox: Command, folder: Path) -> RunStore:
    (folder / f"{word}.py").write_text(snippet(f"class {cls}("))
    benchbox(*command(f"{word}.py"), "--no-timing", "--limit", "6")
    return RunStore.open(find_run(folder / "results"))


@pytest.mark.slow
def test_the_metric_has_a_column(benchbox: Command, tmp_path: Path) -> None:
    store = run("worst_pixel", "WorstPixel", benchbox, tmp_path)
    (metric,) = [one for one in store.record.metrics if one.spec == "worst_pixel"]
    assert (metric.title, metric.higher_is_better, metric.summary) == (
        "worst pixel", False, "Largest absolute error of an image.",
    )  # fmt: skip
    for cell in store.record.cells:
        scores = store.scores(cell.key)
        assert (scores["worst_pixel"] > np.sqrt(10 ** (-scores["psnr"] / 10))).all()


def test_lpips_is_offered_without_importing_its_package(tmp_path: Path) -> None:
    (tmp_path / "my_lpips.py").write_text(snippet("class Lpips("))
    metric = load_registry([tmp_path / "my_lpips.py"]).metric("lpips:net=vgg").make()
    assert (metric.title, metric.net) == ("LPIPS", "vgg")  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
def test_lpips_is_that_of_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lpips, torch = pytest.importorskip("lpips"), pytest.importorskip("torch")
    (tmp_path / "my_lpips.py").write_text(snippet("class Lpips("))
    metric = load_registry([tmp_path / "my_lpips.py"]).metric("lpips").make()
    # Random features, because the trained ones are downloaded.
    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    monkeypatch.setattr(sys.modules[type(metric).__module__], "network", lambda name: network)
    rng = np.random.default_rng(0)
    for shape in ((2, 48, 64), (2, 48, 64, 3)):
        clean, noisy = rng.random(shape, np.float32), rng.random(shape, np.float32)
        assert np.array_equal(metric(clean, clean), [0, 0])
        colour = [np.broadcast_to(images.reshape(2, 48, 64, -1), (2, 48, 64, 3)) for images in (clean, noisy)]
        pair = [torch.from_numpy(images.transpose(0, 3, 1, 2) * 2 - 1) for images in colour]
        with torch.inference_mode():
            expected = [float(network(one[None], other[None])) for one, other in zip(*pair, strict=True)]
        assert metric(clean, noisy) == pytest.approx(expected, rel=1e-4)
        assert min(expected) > 0


@pytest.mark.slow
def test_the_noise_is_as_strong_as_it_says(benchbox: Command, tmp_path: Path) -> None:
    store = run("laplace", "Laplace", benchbox, tmp_path)
    (noise,) = store.record.noises
    assert noise.white
    scores = store.scores(store.record.cells[0].key)
    assert scores["noisy_mse"].mean() == pytest.approx((25 / 255) ** 2, rel=0.05)
    assert scores["sigma_true"] == pytest.approx(25 / 255)


def test_the_data_set_is_recognised(benchbox: Command, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8)
    head = b"\x00\x00\x08\x03" + np.array(pixels.shape, ">u4").tobytes()
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(head + pixels.tobytes())
    store = run("idx", "Idx", benchbox, tmp_path)
    assert store.record.data.dataset == "idx"
    assert store.record.data.source_images == 8
    means = pixels.mean(axis=(1, 2)) / 255
    places = [int(name) for name in store.images()["id"]]
    assert store.scores(store.record.cells[0].key)["clean_mean"] == pytest.approx(means[places], abs=1e-6)
