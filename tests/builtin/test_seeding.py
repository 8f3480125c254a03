"""An image's noise depends on nothing but its key: seed, noise, image and repeat."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from benchbox import Image, Images, NoiseModel
from benchbox.api.errors import ContractError
from benchbox.builtin import noise
from benchbox.builtin.noise import add_noise, apply_protocol, image_generator
from benchbox.records.specs import configure


def faces(count: int) -> Images:
    """Tiles of 48 x 48 pixels from photographs."""
    import skimage.data
    from skimage.color import rgb2gray

    pictures = [skimage.data.camera() / 255, skimage.data.coins() / 255, rgb2gray(skimage.data.astronaut())]
    tiles = [
        picture[top : top + 48, left : left + 48]
        for picture in pictures
        for top in range(0, picture.shape[0] - 47, 16)
        for left in range(0, picture.shape[1] - 47, 16)
    ]
    assert len(tiles) >= count
    return np.stack(tiles[:count]).astype(np.float32)


ALL: list[NoiseModel] = [
    *(configure(cls, cls.example).make() for cls in noise.MODELS),
    noise.Composed((noise.Poisson(30.0), noise.Gaussian(0.05))),
]


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.name)
def test_noise_is_bit_identical_in_any_order_subset_and_batch(model: NoiseModel) -> None:
    clean = faces(24)
    ids = [f"face-{index}" for index in range(24)]
    whole, levels = add_noise(model, "spec", clean, ids, seed=3, repeat=1)
    order = np.random.default_rng(0).permutation(24)[:17]
    for batch in (1, 5, 17):
        for start in range(0, 17, batch):
            some = order[start : start + batch]
            noisy, told = add_noise(model, "spec", clean[some], [ids[index] for index in some], seed=3, repeat=1)
            assert noisy.tobytes() == whole[some].tobytes()
            assert (told is None) == (levels is None)
            if told is not None and levels is not None:
                assert told.tobytes() == levels[some].tobytes()


SCRIPT = """
import hashlib, sys
import numpy as np
from benchbox.builtin import noise
from benchbox.builtin.noise import add_noise
clean = np.load(sys.argv[1])
for cls in noise.MODELS:
    noisy, _ = add_noise(cls(), cls.name, clean[::-1], ["c", "b", "a"], seed=11, repeat=2)
    print(cls.name, hashlib.sha256(noisy[::-1].tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.process
def test_noise_is_bit_identical_in_another_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    clean = faces(3)
    path = tmp_path_factory.mktemp("clean") / "clean.npy"
    np.save(path, clean)
    for hash_seed in ("1", "2"):
        answer = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(path)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        elsewhere = dict(line.split() for line in answer.stdout.splitlines())
        here = {
            cls.name: hashlib.sha256(
                add_noise(cls(), cls.name, clean, ["a", "b", "c"], seed=11, repeat=2)[0].tobytes()
            ).hexdigest()
            for cls in noise.MODELS
        }
        assert elsewhere == here


def test_every_part_of_the_key_changes_the_noise() -> None:
    keys = [
        (0, "gaussian:0.1", "1", 0),
        (1, "gaussian:0.1", "1", 0),
        (-1, "gaussian:0.1", "1", 0),
        (0, "gaussian:0.2", "1", 0),
        (0, "gaussian:0.1", "2", 0),
        (0, "gaussian:0.1", "1", 1),
        (0, "gaussian:0.1", "11", 0),
        (0, "gaussian:0.11", "1", 0),
        (0, "gaussian:0.11", "", 0),
        (0, "gaussian:0.1", "", 0),
        (2**70, "gaussian:0.1", "1", 0),
        (0, "gaussian:0.1", "\udcff.png", 0),
        (0, "gaussian:0.1", "ÿ.png", 0),
    ]
    streams = {image_generator(*key).bytes(16) for key in keys}
    assert len(streams) == len(keys)


def test_streams_of_neighbouring_images_are_not_correlated() -> None:
    drawn = np.stack([image_generator(0, "gaussian:0.1", str(index), 0).standard_normal(2304) for index in range(200)])
    correlation = np.asarray(np.corrcoef(drawn))[np.triu_indices(200, 1)]
    assert np.abs(correlation).max() < 6 / math.sqrt(2304)
    assert correlation.std() == pytest.approx(1 / math.sqrt(2304), rel=0.05)


def test_the_stream_is_the_one_of_earlier_releases() -> None:
    rng = image_generator(seed=0, noise="gaussian:0.1", image_id="face", repeat=0)
    assert rng.bytes(8).hex() == "acd36ae1c5590152"
    noisy, _ = add_noise(noise.Gaussian(0.1), "gaussian:0.1", np.zeros((1, 48, 48), np.float32), ["face"], 0, 0)
    digest = hashlib.sha256(noisy.astype("<f4").tobytes()).hexdigest()
    assert digest == "e6ddb3f8876ad7231eaa2375acf26565b32befdd2a3baa6cabf5bcc918d855be", (
        "scores of earlier runs cannot be reproduced: say so in the change log, then pin anew"
    )


def test_gaussian_noise_of_a_tenth_gives_twenty_decibels() -> None:
    clean = faces(2000)
    ids = [f"face-{index}" for index in range(2000)]
    scores = []
    for repeat in range(3):
        noisy, sigma = add_noise(noise.Gaussian(0.1), "gaussian:0.1", clean, ids, seed=0, repeat=repeat)
        assert sigma is not None and (sigma == np.float32(0.1)).all()
        scores.append(-10 * np.log10(((noisy.astype(np.float64) - clean) ** 2).mean(axis=(1, 2))))
    # One image's PSNR varies by 4.34 * sqrt(2 / 2304) = 0.128 dB, so the mean of 6,000 by 0.0017 dB.
    assert float(np.mean(scores)) == pytest.approx(20.0, abs=0.01)


def test_the_stack_is_checked_and_left_alone() -> None:
    @dataclass(frozen=True)
    class Broken(NoiseModel):
        name: ClassVar[str] = "broken"
        kind: str = "shape"

        def apply(self, clean: Image, rng: np.random.Generator) -> Image:
            if self.kind == "shape":
                return clean[:1]
            if self.kind == "write":
                clean[:] = 0
            return clean * np.float32("nan")

    clean = faces(2)
    with pytest.raises(ContractError, match=r"apply returned shape \(1, 48\) for image 'a' of shape \(48, 48\)"):
        add_noise(Broken(), "broken", clean, ["a", "b"], 0, 0)
    with pytest.raises(ContractError, match="apply returned a value that is not finite for image 'a'"):
        add_noise(Broken("nan"), "broken", clean, ["a", "b"], 0, 0)
    with pytest.raises(ValueError, match="read-only"):
        add_noise(Broken("write"), "broken", clean, ["a", "b"], 0, 0)
    assert clean.flags.writeable and clean.any()
    with pytest.raises(ValueError, match="1 ids for 2 images"):
        add_noise(noise.Gaussian(), "gaussian:0.1", clean, ["a"], 0, 0)


def test_protocol_clips_then_rounds() -> None:
    noisy = np.array([[[-0.2, 0.5011, 1.3]]], dtype=np.float32)
    assert apply_protocol(noisy, clip=False, quantize=False) is noisy
    assert apply_protocol(noisy, clip=True, quantize=False)[0, 0].tolist() == [0, np.float32(0.5011), 1]
    rounded = apply_protocol(noisy, clip=False, quantize=True)
    assert rounded[0, 0].tolist() == [np.float32(level / 255) for level in (-51, 128, 332)]
    both = apply_protocol(noisy, clip=True, quantize=True)
    assert both[0, 0].tolist() == [0, np.float32(128 / 255), 1]
    assert both.dtype == np.float32
    assert noisy[0, 0, 0] == np.float32(-0.2)
    # 8-bit images stay what they are.
    grey = (np.arange(256) / 255).astype(np.float32).reshape(1, 16, 16)
    assert (apply_protocol(grey, clip=True, quantize=True) == grey).all()
