"""Named protocols: what each does to the noise, to the output and to the pixels that are scored."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchbox.builtin.noise import cut_noise, image_generator
from benchbox.records.options import RunOptions
from benchbox.records.protocol import NAMED, Protocol, ProtocolName
from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
NOISE = "gaussian:0.1"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Pictures whose sides are no multiples of 4; two have one size once they are cropped."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("a", (43, 50)), ("b", (41, 49)), ("c", (30, 30))):
        slope = np.linspace(0, 200, shape[1])[None, :] + rng.uniform(0, 55, shape)
        Image.fromarray(slope.astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def run(benchbox: Command, tmp_path: Path, pictures: Path, *more: str) -> RunStore:
    benchbox("run", "identity", "--no-timing", "--save-images", "--metric", "psnr", "--data", str(pictures), *more)
    return RunStore.open(find_run(tmp_path / "results"))


def on_grid(image: np.ndarray) -> bool:
    return bool(np.allclose(image * 255, np.rint(image * 255), atol=1e-4))


def test_rules_that_are_off_leave_the_identity_of_a_cell_alone() -> None:
    assert Protocol().identity == [0, False, False, "given", 1]
    assert RunOptions(clip=True, seed=3).protocol.identity == [3, True, False, "given", 1]
    assert len({json.dumps(rules.identity) for rules in NAMED.values()}) == len(NAMED)
    assert all(name == rules.name for name, rules in NAMED.items())


@pytest.mark.parametrize("name", NAMED)
def test_scores_follow_the_rules_of_the_protocol(
    benchbox: Command, tmp_path: Path, pictures: Path, name: ProtocolName
) -> None:
    store = run(benchbox, tmp_path, pictures, "--protocol", name)
    rules = NAMED[name]
    assert store.record.protocol == rules
    assert store.record.protocol_label.startswith("noise" if name == "literature" else f"{name}: noise")
    (cell,) = store.record.cells
    kept: dict[int, np.ndarray] = {}
    for start, stop in store.finished_shards(cell.key):
        indices = store.shard(cell.key, start, stop)["image"].tolist()
        kept |= dict(zip(indices, store.denoised(cell.key, start, stop), strict=True))
    scores = store.scores(cell.key)
    for index, image_id in enumerate(store.images()["id"]):
        clean = np.asarray(Image.open(pictures / image_id), np.float32) / np.float32(255)
        clean = clean[: len(clean) // rules.modcrop * rules.modcrop, : clean.shape[1] // rules.modcrop * rules.modcrop]
        rng = image_generator(0, NOISE, "" if rules.one_draw else image_id, 0)
        noise = np.float32(0.1) * rng.standard_normal(clean.shape, dtype=np.float32)
        if rules.whole_noise:
            noise = (255 * noise).astype(int) / 255
        noisy = clean + noise
        if rules.clip:
            noisy = np.rint(noisy.clip(0, 1) * 255) / 255
        inside = slice(rules.border, -rules.border or None)
        assert scores["noisy_mse"][index] == pytest.approx(np.square(noisy - clean)[inside, inside].mean(), rel=1e-4)
        output = noisy.clip(0, 1)
        if rules.round_output:
            output = np.rint(output * 255) / 255
        assert np.abs(kept[index] - output).max() < 1e-5 or rules.round_output
        assert on_grid(kept[index]) == (rules.round_output or rules.quantize or rules.whole_noise)
        psnr = -10 * np.log10(np.square(kept[index] - clean, dtype=np.float64)[inside, inside].mean())
        assert scores["psnr"][index] == pytest.approx(psnr, abs=1e-4)
        assert psnr == pytest.approx(-10 * np.log10(np.square(output - clean)[inside, inside].mean()), abs=2e-3)


def test_the_cut_noise_of_the_published_unet_has_a_deviation_of_9_60() -> None:
    clean = np.full((1, 1000, 1000), 0.5, np.float32)
    noise = np.random.default_rng(0).normal(0, 10 / 255, clean.shape).astype(np.float32)
    cut = 255 * (cut_noise(clean, clean + noise) - clean)
    # The variance of trunc(X): the sum of k^2 P(k <= |X| < k + 1).
    assert cut.std() == pytest.approx(9.60, abs=0.02)
    assert np.abs(cut - np.rint(cut)).max() < 1e-3


def test_a_protocol_and_options_add_up(benchbox: Command, tmp_path: Path, pictures: Path) -> None:
    store = run(benchbox, tmp_path, pictures, "--protocol", "dncnn", "--clip", "--seed", "3")
    assert store.record.protocol == Protocol(seed=3, clip=True, name="dncnn", one_draw=True, round_output=True)


def test_images_that_an_edge_would_swallow_are_refused(benchbox: Command, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    Image.fromarray(np.zeros((9, 40), np.uint8)).save(folder / "thin.png")
    refused = benchbox("run", "identity", "--data", str(folder), "--protocol", "ntire", code=2)
    assert "thin.png" in refused.stderr
    assert "--protocol" in refused.stderr


def test_an_estimate_without_clean_images_needs_plain_noise(benchbox: Command) -> None:
    refused = benchbox("run", "identity", "--limit", "2", "--metric", "psnr_sure", "--protocol", "ntire", code=2)
    assert "protocol ntire" in refused.stderr
